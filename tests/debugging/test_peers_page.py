"""The page that lays the debugger beside its peers: it leaves no rule of theirs out and names none that we lack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nbops as nb
from nbops.debugging.preflight.found import checks as preflight
from nbops.debugging.reading.noting import readings
from nbops.debugging.watch import Watch
from nbops.verbs.grammar import verbs

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "debugger-and-peers.md"
GUIDE = PAGE.parents[1] / "how-to" / "debugging.md"
PEERS = {
    "training": (
        "VanishingGradient ExplodingTensor DeadRelu SaturatedActivation PoorWeightInitialization WeightUpdateRatio "
        "AllZero TensorVariance UnchangedTensor LossNotDecreasing Overfit Overtraining ClassImbalance Confusion "
        "CheckInputImages NLPSequenceRatio SimilarAcrossRuns StalledTrainingRule TreeDepth "
        "FeatureImportanceOverweight CreateXgboostReport"
    ),
    "profiling": (
        "BatchSize CPUBottleneck IOBottleneck GPUMemoryIncrease LowGPUUtilization LoadBalancing StepOutlier Dataloader "
        "MaxInitializationTime OverallSystemUsage OverallFrameworkMetrics ProfilerReport"
    ),
    "Symptoms": "S1 S2 S3 S4 S5 S6 S7 S8",
}


def rows(section: str) -> list[list[str]]:
    """Return the cells of the table below the heading that holds `section`."""
    text = next(part for part in PAGE.read_text(encoding="utf-8").split("\n## ") if section in part.partition("\n")[0])
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return lines[1:]


def is_known(name: str) -> bool:
    """Return whether `name`, as the page writes it, is a rule, a check, or something that can be called."""
    if name.startswith("nb."):
        return hasattr(nb, name.removeprefix("nb."))
    if name.startswith("watch."):
        return hasattr(Watch, name.removeprefix("watch."))
    if name.startswith("%mlops "):
        return name.removeprefix("%mlops ") in verbs
    return name in nb.rules or name in preflight or name in nb.checks


def names_in(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("section", PEERS)
def test_no_rule_of_a_peer_is_left_out(section: str) -> None:
    found = rows(section)
    assert [row[0].split()[0] for row in found] == PEERS[section].split()
    for row in found:
        assert len(row) == 4, row
        assert names_in(row[2]) or row[2] == "none", row
        assert row[3], row


def test_each_name_on_the_page_is_there() -> None:
    named = names_in(PAGE.read_text(encoding="utf-8"))
    assert len(named) > 80
    assert [name for name in named if not is_known(name)] == []


def test_a_name_that_we_lack_is_found() -> None:
    text = "`dead-units` `nb.watch` `watch.on` `%mlops watch` `shape-mismatch` `label-imbalance`"
    assert all(map(is_known, names_in(text)))
    assert not any(map(is_known, ["dead-unit", "nb.wacth", "watch.off", "%mlops wacth"]))


def test_the_guide_names_every_rule_once() -> None:
    table = GUIDE.read_text(encoding="utf-8").split("## What is found")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    named = [name for line in lines for name in names_in(line)]
    assert sorted(named) == sorted([*nb.rules, *readings])
