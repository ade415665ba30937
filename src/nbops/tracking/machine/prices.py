"""Figures that turn work into energy, money and CO₂ where nothing was measured or set. All are rough, and say so.

A workspace's settings replace them: ``cpu_power_w``, ``energy_price_per_kwh``, ``co2_g_per_kwh``.
"""

from __future__ import annotations

# Thermal design power of a whole processor in watts, by a part of its name. The makers' data sheets; a laptop's
# part before a server's, for the first match counts.
CPU_POWER_W: tuple[tuple[str, float], ...] = (
    ("apple m1 ultra", 60), ("apple m2 ultra", 60), ("apple m3 ultra", 80),
    ("apple m1 max", 30), ("apple m2 max", 30), ("apple m3 max", 40), ("apple m4 max", 40),
    ("apple m", 20),
    ("threadripper", 280), ("epyc 9", 290), ("epyc 7", 225), ("epyc", 240),
    ("xeon(r) platinum", 270), ("xeon(r) gold", 165), ("xeon(r) silver", 120), ("xeon(r) e5", 120), ("xeon", 165),
    ("ryzen 9", 120), ("ryzen 7", 65), ("ryzen 5", 65), ("ryzen", 65),
    ("i9-", 125), ("i7-", 65), ("i5-", 65), ("i3-", 60), ("core(tm) ultra", 45), ("core(tm)", 65),
    ("graviton", 150), ("neoverse", 150), ("cortex", 5),
)  # fmt: skip
CPU_POWER_DEFAULT_W = 100.0
# Cores of a processor of that power: a virtual machine with four of them is charged a share, not the whole.
CPU_CORES: tuple[tuple[str, int], ...] = (
    ("apple m", 10), ("epyc", 64), ("threadripper", 32), ("xeon(r) platinum", 40), ("xeon", 24),
    ("graviton", 64), ("neoverse", 64), ("ryzen 9", 14), ("i9-", 16),
)  # fmt: skip
CPU_CORES_DEFAULT = 8
ENERGY_PRICE_PER_KWH = 0.25  # euro: an ordinary household's in the European Union, rounded
CURRENCY = "EUR"
CO2_G_PER_KWH = 445.0  # world's mean of electricity: International Energy Agency, Electricity 2025, for 2024


def core_power_w(cpu: str) -> float:
    """Return the power of one busy core of the processor named `cpu`, in watts."""
    low = cpu.lower()
    power = next((watts for part, watts in CPU_POWER_W if part in low), CPU_POWER_DEFAULT_W)
    cores = next((count for part, count in CPU_CORES if part in low), CPU_CORES_DEFAULT)
    return power / cores
