"""The engine contract on this machine's engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.pipelines.local import LocalEngine
from nbops.testing import EngineContract


class TestLocalEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> LocalEngine:
        return LocalEngine()

    @pytest.fixture
    def run_id(self, workspace: Any) -> Iterator[str]:
        with nb.run("step", type="step") as run:
            yield run.id

    @pytest.fixture
    def step_folder(self, tmp_path: Path) -> Path:
        return tmp_path
