"""The environment of a run: every package, the difference of two runs, hardware, random states."""

from __future__ import annotations

import random
import re
from importlib.metadata import distributions

import numpy as np
import pytest

import nbops as nb
from nbops.core.errors import NotFound
from nbops.core.records import Run, replace
from nbops.store.workspace import Workspace
from nbops.tracking.capture.background import drain
from nbops.tracking.capture.environment import package_changes, packages, random_states

pytestmark = pytest.mark.usefixtures("workspace")


def recorded(workspace: Workspace) -> Run:
    with nb.run() as live:
        pass
    assert drain()
    return workspace.store.get(Run, live.id)


def test_the_list_is_that_of_the_installed_packages() -> None:
    known = {f"{re.sub(r'[-_.]+', '-', d.metadata['Name']).lower()}=={d.version}" for d in distributions()}
    assert set(packages()) == known


def test_runs_of_one_environment_share_one_list(workspace: Workspace) -> None:
    one, two = recorded(workspace), recorded(workspace)
    assert one.context["packages"] == two.context["packages"]
    (kept,) = nb.find("artifacts", "name == 'environment/packages.txt'")
    assert workspace.artifacts.read(kept.digest).decode().splitlines() == packages()
    assert one.context["packages"]["count"] == len(packages())
    assert not package_changes(one, two)


def test_changes_between_two_environments(workspace: Workspace) -> None:
    one, two = recorded(workspace), recorded(workspace)
    for run, text in ((one, "a==1\nb==1\nc==1\n"), (two, "b==2\nc==1\nd==1\n")):
        digest, _ = workspace.artifacts.put(text.encode())
        workspace.store.put(replace(run, context={"packages": {"digest": digest}}))
    added, removed, changed = package_changes(one.id, two.id)
    assert (added, removed, changed) == ({"d": "1"}, {"a": "1"}, {"b": ("1", "2")})


def test_a_run_without_a_list_is_told(workspace: Workspace) -> None:
    run = recorded(workspace)
    bare = replace(run, context={})
    workspace.store.put(bare)
    with pytest.raises(NotFound, match="no list of packages"):
        package_changes(bare, run)


def test_the_machine_is_named(workspace: Workspace) -> None:
    machine = recorded(workspace).context["hardware"]
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 1 << 20
    assert isinstance(machine["gpus"], list)


def test_equal_random_states_have_equal_digests_and_drawing_changes_them() -> None:
    random.seed(7)
    np.random.seed(7)
    first = random_states()
    np.random.rand()
    assert random_states() == {**first, "numpy": random_states()["numpy"]}
    assert random_states()["numpy"] != first["numpy"]
    random.seed(7)
    np.random.seed(7)
    assert random_states() == first


def test_torch_gives_its_seed() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(41)
    with nb.run() as run:
        pass
    assert run.record.context["seeds"]["torch"] == 41
