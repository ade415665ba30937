"""Several annotators in processes of their own at one label set, on SQLite and on a team's PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import nbops as nb
from nbops.data.labels.queue import share_of
from nbops.store.workspace import init

PEOPLE, ITEMS, OVERLAP = 3, 90, 0.2
WORK = f"""
import sys
import nbops as nb
folder, store_url, who = sys.argv[1:]
nb.init(folder, store_url=store_url or None)
texts = [f"text {{i}}" for i in range({ITEMS})]
session = nb.label(texts, classes=["a", "b"], name="together", annotator=who, overlap={OVERLAP})
while session.item_id is not None:
    session.answer("ab"[int(session.item.split()[1]) % 2])
nb.workspace().close()
"""


def label_together(tmp_path: Path, url: str) -> tuple[int, int]:
    """Return how many items were labelled, and how many answers there are without those asked of everybody."""
    (tmp_path / "work.py").write_text(WORK)
    init(tmp_path / "reader" if url else tmp_path, store_url=url or None).close()
    people = [
        subprocess.Popen(
            [sys.executable, "work.py", str(tmp_path / f"p{n}") if url else str(tmp_path), url, f"p{n}"],
            cwd=tmp_path, stderr=subprocess.PIPE,
        )
        for n in range(PEOPLE)
    ]  # fmt: skip
    for person in people:
        _, said = person.communicate(timeout=200)
        assert person.returncode == 0, said.decode()[-3000:]
    reader = init(tmp_path / "reader" if url else tmp_path, store_url=url or None)
    labels = nb.labels("together")
    times = Counter(label.name for label in labels.given)
    shared = share_of(list(labels.items), OVERLAP, "together overlap")
    assert len(times) == ITEMS
    assert {name: count for name, count in times.items() if count > 1} == dict.fromkeys(shared, PEOPLE)
    assert len(labels) == ITEMS + (PEOPLE - 1) * len(shared)
    assert len(labels.consensus()) == ITEMS
    found = len(times), len(labels) - (PEOPLE - 1) * len(shared)
    reader.close()
    return found


def test_on_one_file_nothing_is_lost_and_the_rest_is_labelled_once(tmp_path: Path) -> None:
    assert label_together(tmp_path, "") == (ITEMS, ITEMS)


@pytest.mark.postgres
def test_on_a_teams_database_nothing_is_lost_and_the_rest_is_labelled_once(tmp_path: Path, postgres_url: str) -> None:
    assert label_together(tmp_path, postgres_url) == (ITEMS, ITEMS)
