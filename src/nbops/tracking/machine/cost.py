"""Energy, money and CO₂ of a run, each labelled by how it was come by: measured or estimated.

A GPU's energy is its measured power over time; a CPU's is estimated from the time that this
process and its children kept cores busy. Runs that are open together each count the whole.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from nbops.core.settings import Settings
from nbops.tracking.capture.environment import cpu_model
from nbops.tracking.machine import prices

_JOULES_PER_WH = 3600.0


class Meter:
    """Adds up what one run used from now on.

    Parameters
    ----------
    settings : Settings
        Prices and powers that replace the table's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._at = time.monotonic()
        self._process_s = time.process_time()
        self._children_s = 0.0
        self._gpu_w: float | None = None
        self._gpu_j = 0.0

    def read(self, gpus: Mapping[str, float], *, children_s: float = 0.0, at: float | None = None) -> None:
        """Take one reading.

        Parameters
        ----------
        gpus : mapping
            Power of each GPU now, watts, under ``gpuN/power_w``.
        children_s : float, seconds
            CPU time of child processes since the reading before.
        at : float, seconds
            Moment on the monotonic clock; now if None.
        """
        now = time.monotonic() if at is None else at
        powers = [value for name, value in gpus.items() if name.endswith("/power_w")]
        if powers:
            power_w = sum(powers)
            mean_w = power_w if self._gpu_w is None else (self._gpu_w + power_w) / 2  # the trapezoid rule
            self._gpu_j += mean_w * (now - self._at)
            self._gpu_w, self._at = power_w, now
        self._children_s += children_s

    def cost(self, *, at: float | None = None) -> dict[str, Any]:
        """Return energy, money and CO₂ until now, with how each was come by."""
        now = time.monotonic() if at is None else at
        gpu_j = None if self._gpu_w is None else self._gpu_j + self._gpu_w * max(0.0, now - self._at)
        cpu_s = time.process_time() - self._process_s + self._children_s
        return priced(cpu_s=cpu_s, gpu_j=gpu_j, settings=self._settings)


def priced(*, cpu_s: float, gpu_j: float | None, settings: Settings) -> dict[str, Any]:
    """Return what so much work costs.

    Parameters
    ----------
    cpu_s : float, seconds
        CPU time over all cores.
    gpu_j : float, joules, or None
        Measured energy of the GPUs; None where there are none.
    settings : Settings
        ``cpu_power_w``, ``energy_price_per_kwh``, ``co2_g_per_kwh``, ``currency``.
    """
    core_w = _first(settings.cpu_power_w, prices.core_power_w(cpu_model()))
    cpu_wh = cpu_s * core_w / _JOULES_PER_WH
    gpu_wh = (gpu_j or 0.0) / _JOULES_PER_WH
    kwh = (cpu_wh + gpu_wh) / 1000.0
    price = _first(settings.energy_price_per_kwh, prices.ENERGY_PRICE_PER_KWH)
    co2_g = _first(settings.co2_g_per_kwh, prices.CO2_G_PER_KWH)
    how = {"cpu_energy_wh": "estimated", "energy_wh": "estimated", "money": "estimated", "co2_g": "estimated"}
    cost: dict[str, Any] = {
        "cpu_s": round(cpu_s, 4),
        "cpu_energy_wh": cpu_wh,
        "energy_wh": cpu_wh + gpu_wh,
        "money": kwh * price,
        "currency": settings.currency or prices.CURRENCY,
        "co2_g": kwh * co2_g,
    }
    if gpu_j is not None:
        cost["gpu_energy_wh"] = gpu_wh
        how["gpu_energy_wh"] = "measured"
    return {**cost, "how": {"cpu_s": "measured", **how}}


def _first(given: float | None, known: float) -> float:
    return known if given is None else given


def added(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cost of two parts of one run together."""
    amounts = {key for key, value in {**first, **second}.items() if isinstance(value, int | float)}
    total = {key: first.get(key, 0.0) + second.get(key, 0.0) for key in sorted(amounts)}
    return {**first, **second, **total, "how": {**first.get("how", {}), **second.get("how", {})}}
