"""System metrics: sampled beside the run, attributed to cells, priced and labelled; and no thread is left."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbops as nb
from nbops.core.ids import new_id
from nbops.core.protocols import Points
from nbops.core.records import Cell, Run
from nbops.core.settings import Settings
from nbops.store.workspace import Workspace, init
from nbops.tracking import runs
from nbops.tracking.machine import prices
from nbops.tracking.machine.cost import Meter, added, priced
from nbops.tracking.machine.usage import cell_usage


def sampler_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "nbops-sampler"]


@pytest.fixture
def often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace that samples twenty times a second."""
    monkeypatch.setenv("NBOPS_SYSTEM_METRICS_INTERVAL_S", "0.05")
    return init(tmp_path)


def wait_for_samples(run: Any, count: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if "system/cpu_percent" in run.record.summary and run.record.summary["system/cpu_percent"].count >= count:
            return
        time.sleep(0.02)
    raise AssertionError("no samples")


def test_a_run_is_sampled_while_it_is_open(often: Workspace) -> None:
    with nb.run() as run:
        nb.log(loss=1.0)
        wait_for_samples(run, 3)
        assert sampler_threads() == ["nbops-sampler"]
    summary = run.record.summary
    assert {"system/cpu_percent", "system/memory_bytes", "system/machine_memory_percent",
            "system/machine_cpu_percent"} <= summary.keys()  # fmt: skip
    assert summary["system/memory_bytes"].last > 1 << 20
    assert 0 <= summary["system/machine_cpu_percent"].max <= 100
    assert summary["system/cpu_percent"].min >= 0
    assert run.record.metrics == {"loss": 1.0}  # its own metrics stay apart


def test_a_short_run_gets_one_sample_and_no_thread_is_left(workspace: Workspace) -> None:
    with nb.run() as run:
        pass
    assert len(nb.series(run, "system/memory_bytes").values) == 1
    for _ in range(100):
        if not sampler_threads():
            break
        time.sleep(0.02)
    assert sampler_threads() == []


def test_cards_and_tables_do_not_show_samples(workspace: Workspace) -> None:
    with nb.run("bare") as run:
        pass
    assert "system/memory_bytes" in run.record.summary
    for shown in (run, nb.find("runs")):
        assert "bare" in shown._repr_mimebundle_()["text/plain"]
        assert "system/" not in shown._repr_mimebundle_()["text/plain"]


def test_no_thread_and_no_series_when_the_setting_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBOPS_SYSTEM_METRICS", "false")
    init(tmp_path)
    with nb.run() as run:
        assert sampler_threads() == []
    assert run.record.summary == {}
    assert "cost" not in run.record.context


def test_one_thread_serves_all_open_runs(often: Workspace) -> None:
    with nb.run() as outer, nb.run() as inner:
        wait_for_samples(outer, 2)
        wait_for_samples(inner, 2)
        assert sampler_threads() == ["nbops-sampler"]
    assert inner.record.context["cost"]["cpu_s"] <= outer.record.context["cost"]["cpu_s"]


def test_no_point_comes_after_the_end(often: Workspace) -> None:
    for _ in range(20):
        with nb.run() as run:
            time.sleep(0.06)
        record = run.record
        time.sleep(0.01)
        often.flush()
        assert often.store.get(Run, run.id).summary == record.summary


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_samples_its_own_runs_only(often: Workspace) -> None:
    with nb.run() as run:
        wait_for_samples(run, 1)
        child = os.fork()
        if child == 0:
            with nb.run("child") as own:
                wait_for_samples(own, 1)
            runs.workspace().close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        before = len(nb.series(run, "system/cpu_percent").values)
        wait_for_samples(run, before + 1)
    (own_run,) = nb.find("runs", "name == 'child'")
    assert "system/cpu_percent" in own_run.summary


def test_work_is_seen_and_priced(workspace: Workspace) -> None:
    with nb.run() as idle:
        time.sleep(0.05)
    with nb.run() as busy:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
    assert busy.record.context["cost"]["cpu_s"] >= 0.3
    assert busy.record.context["cost"]["energy_wh"] > idle.record.context["cost"]["energy_wh"]
    assert busy.record.summary["system/cpu_percent"].last > idle.record.summary["system/cpu_percent"].last


# ---- what cells used ------------------------------------------------------------------------------------------------


def test_samples_are_attributed_to_cells_by_time(workspace: Workspace) -> None:
    began = 1_700_000_000.0
    run = Run(id=new_id(Run.prefix), created_at=began, name="r", owner=workspace.owner)
    workspace.store.put(run)
    ends = np.array([5.0, 10.0, 15.0])
    workspace.log_arrays(
        Points(run.id, "system/cpu_percent", np.arange(3, dtype="<i8").tobytes(),
               ((began + ends) * 1000).astype("<i8").tobytes(), np.array([10.0, 90.0, 30.0]).tobytes())
    )  # fmt: skip
    for name, start, length in (("load", 1.0, 2.0), ("fit", 4.0, 9.0), ("after", 20.0, 1.0)):
        workspace.store.put(Cell(id=new_id(Cell.prefix), created_at=began + start, parent=run.id, cell_id=name,
                                 execution_count=1, source_digest="", duration_s=length))  # fmt: skip
    load, fit, after = cell_usage(run.id)
    assert (load.cell_id, load.mean, load.peak) == ("load", {"cpu_percent": 10.0}, {"cpu_percent": 10.0})
    assert fit.mean["cpu_percent"] == pytest.approx((1 * 10 + 5 * 90 + 3 * 30) / 9)
    assert fit.peak == {"cpu_percent": 90.0}
    assert (after.mean, after.peak) == ({}, {})


# ---- energy, money, CO₂ ---------------------------------------------------------------------------------------------


def test_energy_of_gpus_is_measured_power_over_time() -> None:
    settings = Settings(cpu_power_w=0.0, energy_price_per_kwh=0.5, co2_g_per_kwh=100.0, currency="USD")
    meter = Meter(settings)
    start = time.monotonic()
    for second, watts in enumerate([100.0, 200.0, 300.0, 200.0]):
        meter.read({"gpu0/power_w": watts, "gpu1/power_w": 50.0, "gpu0/load_percent": 90.0}, at=start + second)
    cost = meter.cost(at=start + 3)
    by_hand_j = sum((a + b) / 2 for a, b in [(150, 250), (250, 350), (350, 250)])
    assert cost["gpu_energy_wh"] == pytest.approx(by_hand_j / 3600, rel=0.01)
    assert cost["money"] == pytest.approx(by_hand_j / 3600 / 1000 * 0.5, rel=0.01)
    assert cost["co2_g"] == pytest.approx(by_hand_j / 3600 / 1000 * 100, rel=0.01)
    assert (cost["currency"], cost["how"]["gpu_energy_wh"], cost["how"]["energy_wh"]) == (
        "USD",
        "measured",
        "estimated",
    )


def test_a_cpus_energy_is_estimated_from_its_time() -> None:
    cost = priced(cpu_s=7200.0, gpu_j=None, settings=Settings(cpu_power_w=5.0))
    assert cost["energy_wh"] == pytest.approx(10.0)
    assert cost["how"]["cpu_energy_wh"] == "estimated"
    assert "gpu_energy_wh" not in cost
    assert cost["money"] == pytest.approx(0.01 * prices.ENERGY_PRICE_PER_KWH)


def test_the_parts_of_a_resumed_run_add_up() -> None:
    parts = [priced(cpu_s=s, gpu_j=j, settings=Settings(cpu_power_w=5.0)) for s, j in ((60.0, None), (30.0, 3600.0))]
    whole = added(*parts)
    assert whole["cpu_s"] == 90.0
    assert whole["gpu_energy_wh"] == pytest.approx(1.0)
    assert whole["how"]["gpu_energy_wh"] == "measured"
    assert whole["currency"] == "EUR"


@pytest.mark.parametrize(
    ("cpu", "low", "high"),
    [
        ("AMD EPYC 7763 64-Core Processor", 2, 6),
        ("Apple M2 Max", 1, 5),
        ("Intel(R) Core(TM) i7-9700K", 4, 17),
        ("?", 1, 20),
    ],
)
def test_a_core_has_a_plausible_power(cpu: str, low: float, high: float) -> None:
    assert low <= prices.core_power_w(cpu) <= high


def test_processors_without_gpus_have_no_gpu_series(workspace: Workspace) -> None:
    from nbops.tracking.machine import nvml

    with nb.run() as run:
        pass
    has_gpu = bool(nvml.describe())
    assert any(name.startswith("system/gpu") for name in run.record.summary) == has_gpu
    assert bool(nvml.sample()) == has_gpu
