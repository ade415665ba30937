"""GPUs through NVML: a made-up library stands for the card, for no test machine needs to have one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbops as nb
from nbops.store.workspace import init
from nbops.tracking.machine import nvml

LIBRARY = """
class NVMLError(Exception):
    pass

class _Answer:
    def __init__(self, **values):
        self.__dict__.update(values)

def nvmlInit():
    {init}

def nvmlDeviceGetCount():
    return 2

def nvmlDeviceGetHandleByIndex(n):
    return n

def nvmlDeviceGetName(n):
    return b"Card" if n else "Other card"

def nvmlDeviceGetMemoryInfo(n):
    return _Answer(total=8 << 30, used=(n + 1) << 30)

def nvmlDeviceGetUtilizationRates(n):
    return _Answer(gpu=50 + n)

def nvmlDeviceGetPowerUsage(n):
    if n:
        raise NVMLError("not supported")
    return 120_000
"""


def forget() -> None:
    nvml._load.cache_clear()
    nvml._handles.cache_clear()


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, init: str = "pass") -> None:
    (folder / "pynvml.py").write_text(LIBRARY.format(init=init))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "pynvml", raising=False)


def test_cards_are_described_and_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    assert [card["name"] for card in nvml.describe()] == ["Other card", "Card"]
    assert nvml.sample() == {
        "gpu0/load_percent": 50.0, "gpu0/memory_bytes": float(1 << 30), "gpu0/power_w": 120.0,
        "gpu1/load_percent": 51.0, "gpu1/memory_bytes": float(2 << 30),
    }  # fmt: skip


def test_a_library_without_a_driver_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, init="raise NVMLError('no driver')")
    assert nvml.library() is None
    assert (nvml.describe(), nvml.sample()) == ([], {})


def test_the_energy_of_a_run_on_a_card_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    monkeypatch.setenv("NBOPS_SYSTEM_METRICS_INTERVAL_S", "0.05")
    init(tmp_path)
    with nb.run() as run:
        end = time.monotonic() + 20
        while run.record.summary.get("system/gpu0/power_w") is None and time.monotonic() < end:
            time.sleep(0.02)
    record = run.record
    cost = record.context["cost"]
    assert record.duration_s is not None
    assert cost["how"]["gpu_energy_wh"] == "measured"
    assert cost["gpu_energy_wh"] == pytest.approx(120 * record.duration_s / 3600, rel=0.2)
    assert record.summary["system/gpu1/memory_bytes"].last == 2 << 30
    assert cost["energy_wh"] > cost["gpu_energy_wh"]
