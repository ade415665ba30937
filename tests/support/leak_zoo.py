"""Leaks that are planted into clean splits of real tables, and which check must find each.

Each kind takes a clean pair of tables with the label ``y`` and gives what `nb.leaks` is called with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

import nbops as nb

Random = np.random.Generator


@dataclass(frozen=True)
class Case:
    """Both sides, what to tell `nb.leaks`, and the checks of which one must warn or fail."""

    train: pd.DataFrame
    test: pd.DataFrame
    finders: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


Kind = Callable[[pd.DataFrame, pd.DataFrame, Random], Case]


def tables(
    names: tuple[str, ...] = ("iris", "wine", "breast_cancer", "diabetes", "digits"),
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield real tables of scikit-learn with their label in ``y``."""
    from sklearn import datasets

    for name in names:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        yield name, pd.DataFrame(np.asarray(x), columns=[f"c{i}" for i in range(np.asarray(x).shape[1])]).assign(y=y)


def views(frame: pd.DataFrame, count: int) -> Iterator[pd.DataFrame]:
    """Yield the table, and tables of a part of its rows and columns."""
    yield frame
    for seed in range(count - 1):
        random = np.random.default_rng(seed)
        features = [name for name in frame.columns if name != "y"]
        keep = sorted(random.choice(features, max(4, int(0.7 * len(features))), replace=False))
        yield frame.sample(frac=0.8, random_state=seed)[[*keep, "y"]].reset_index(drop=True)


def clean(frame: pd.DataFrame, salt: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return train and test as `nb.split` makes them of shuffled rows without label conflicts."""
    features = [name for name in frame.columns if name != "y"]
    once = frame.drop_duplicates(features).sample(frac=1, random_state=len(salt)).reset_index(drop=True)
    train, test = nb.split(once, test=0.25, salt=salt).take(once)
    return train.reset_index(drop=True), test.reset_index(drop=True)


def _more(train: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([train, rows], ignore_index=True)


def _some(test: pd.DataFrame, random: Random, share: float = 0.08) -> pd.DataFrame:
    return test.iloc[random.choice(len(test), max(3, int(share * len(test))), replace=False)]


def copied_rows(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    return Case(_more(train, _some(test, random)), test, ("duplicates-across",))


def one_copied_row(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    return Case(_more(train, test.iloc[[int(random.integers(len(test)))]]), test, ("duplicates-across",))


def noisy_copies(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    rows = _some(test, random).copy()
    features = [name for name in rows.columns if name != "y"]
    rows[features] += 0.001 * train[features].std().to_numpy() * random.uniform(-1, 1, (len(rows), len(features)))
    return Case(_more(train, rows), test, ("near-duplicates-across",))


def rewritten_texts(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    def told(frame: pd.DataFrame) -> pd.DataFrame:
        features = [name for name in frame.columns if name != "y"][:6]
        texts = [" ".join(f"{n} measured {v:.6g}," for n, v in zip(features, row, strict=True))
                 for row in frame[features].to_numpy()]  # fmt: skip
        return pd.DataFrame({"text": texts, "y": frame["y"].to_numpy()})

    one, other = told(train), told(test)
    rows = _some(other, random).copy()
    rows["text"] = rows["text"].str.upper().str.replace(",", " -", regex=False)
    return Case(_more(one, rows), other, ("near-duplicates-across",))


def shared_groups(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    groups = max(10, len(train) // 8)
    one, other = (frame.assign(g=random.integers(0, groups, len(frame))) for frame in (train, test))
    return Case(one, other, ("group-overlap",), {"group": "g"})


def unnamed_groups(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    case = shared_groups(train, test, random)
    return Case(
        case.train.rename(columns={"g": "patient_id"}), case.test.rename(columns={"g": "patient_id"}), case.finders
    )


def mixed_times(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    start = pd.Timestamp("2026-01-01")
    one, other = (frame.assign(day=start + pd.to_timedelta(random.integers(0, 300, len(frame)), unit="D"))
                  for frame in (train, test))  # fmt: skip
    return Case(one, other, ("time-overlap",), {"time": "day"})


def reversed_times(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    start = pd.Timestamp("2026-01-01")
    return Case(train.assign(day=start + pd.to_timedelta(100 + np.arange(len(train)), unit="h")),
                test.assign(day=start + pd.to_timedelta(np.arange(len(test)) % 100, unit="h")),
                ("time-overlap",), {"time": "day"})  # fmt: skip


def _rises(frame: pd.DataFrame, random: Random, noise: float) -> Any:
    """Return a number that says the label, in other words and with noise of some classes' distance."""
    y = frame["y"].to_numpy().astype(float)
    scale = 1.0 if len(np.unique(y)) <= 20 else float(np.std(y))
    return 7 + 3 * (y + noise * scale * random.uniform(-1, 1, len(y)))


def told_labels(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    return Case(train.assign(told=_rises(train, random, 0.05)), test.assign(told=_rises(test, random, 0.05)),
                ("target-leakage",))  # fmt: skip


def encoded_labels(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    """Means of the label over a category of one or two rows that says nothing, computed from train itself."""
    groups = int(0.8 * len(train))
    one, other = random.integers(0, groups, len(train)), random.integers(0, groups, len(test))
    y = train["y"].to_numpy().astype(float)
    mean = np.bincount(one, y, minlength=groups) / np.maximum(np.bincount(one, minlength=groups), 1)
    return Case(train.assign(enc=mean[one]), test.assign(enc=mean[other]), ("target-leakage",))


def ordered_ids(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    both = pd.concat([train, test])
    place = (
        (both["y"].to_numpy().astype(float) + 0.2 * both["y"].std() * random.normal(size=len(both))).argsort().argsort()
    )
    return Case(train.assign(row_id=10_000 + place[: len(train)]), test.assign(row_id=10_000 + place[len(train) :]),
                ("id-leakage",))  # fmt: skip


def other_labels(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    rows = _some(test, random).copy()
    rows["y"] = (rows["y"] + 1) % int(train["y"].max() + 1) if train["y"].nunique() <= 20 else rows["y"] + 20
    return Case(_more(train, rows), test, ("label-conflicts",))


def moved_rows(train: pd.DataFrame, test: pd.DataFrame, random: Random) -> Case:
    both = pd.concat([train, test], ignore_index=True)
    split = nb.split(both, test=0.25, name="before")
    shuffled = both.sample(frac=1, random_state=int(random.integers(1000)))
    cut = int(0.75 * len(both))
    return Case(shuffled[:cut], shuffled[cut:], ("moved-rows",), {"split": split})


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        copied_rows, one_copied_row, noisy_copies, rewritten_texts, shared_groups, unnamed_groups, mixed_times,
        reversed_times, told_labels, encoded_labels, ordered_ids, other_labels, moved_rows,
    )
}  # fmt: skip
