"""The verbs of labels, called as the magic calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbops as nb
from nbops.core.records import Dataset
from nbops.core.table import Table
from nbops.data.labels.labelset import Labels
from nbops.store.workspace import Workspace
from nbops.verbs.completion import complete
from nbops.verbs.grammar import Call, dispatch
from nbops.verbs.names import _known
from nbops.verbs.words import UsageError, split


def said(line: str, **variables: Any) -> Any:
    return dispatch(list(split(line)), Call(namespace=variables))


def test_label_opens_a_widget_and_labels_shows_what_came_of_it(workspace: Workspace, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "n": [1, 2, 3]})
    doubt = np.array([0.1, 0.3, 0.2])
    session = said("label frame --class pos --class neg --column text --order doubt --annotator ada --notes",
                   frame=frame, doubt=doubt)  # fmt: skip
    assert (session.name, session.item, session.classes) == ("frame", "b", ("pos", "neg"))
    session.answer("pos")
    found = said("labels frame")
    assert isinstance(found, Labels)
    assert len(found) == 1
    assert [record.name for record in said("labels")] == ["frame"]
    assert isinstance(said("labels"), Table)
    said(f"labels frame --save {tmp_path / 'x.csv'}")
    assert (tmp_path / "x.csv").read_text().startswith("item,label,annotator")
    kept = said("labels frame --snapshot")
    assert isinstance(kept, Dataset)
    assert kept.name == "frame-labels"
    _known.clear()
    assert complete("labels fr", {}) == ("fr", ["frame"])


def test_classes_are_asked_for_but_where_issues_have_them(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="needs classes"):
        said("label texts", texts=["a"])
    issues = nb.label_issues([0, 1, 1, 0], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.8, 0.2]])
    session = said("label texts --order issues --name fix", texts=list("abcd"), issues=issues)
    assert (session.item, session.classes) == ("c", (0, 1))
