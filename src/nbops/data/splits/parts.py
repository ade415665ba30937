"""A split in hand: positions, masks and folds of its sides, and the parts of any data with the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, overload

import numpy as np

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput
from nbops.core.records import CheckReport, Dataset
from nbops.core.splits import SEALED, SplitRecord
from nbops.data.columns import Array, Mask
from nbops.data.datasets import read_data
from nbops.data.rows import count_rows, settled, take_rows
from nbops.data.splits.moments import TimeFolds
from nbops.data.splits.sealing import SealedTest
from nbops.data.splits.sides import SIDES, TEST, TRAIN, VAL, Codes
from nbops.data.splits.sides import Folds as FoldOf
from nbops.store.context import current_run
from nbops.store.workspace import workspace

Pair = tuple[Array, Array]


class Folds(Sequence[Pair]):
    """Pairs of positions, to learn from and to validate on: what scikit-learn takes as ``cv=``."""

    def __init__(self, count: int, pair: Callable[[int], Pair]) -> None:
        self._count, self._pair = count, pair

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self._pair(fold) for fold in range(self._count)[index]]
        return self._pair(range(self._count)[index])

    def __repr__(self) -> str:
        return f"<{self._count} folds>"


class Parts:
    """The parts of data: ``parts.train``, ``parts.val``, ``parts.test``; also ``train, test = parts``.

    A part without rows is None and is left out when unpacking. A sealed test part is opened as `Split.test` is.
    """

    def __init__(self, train: Any, val: Any, test: Any) -> None:
        self.train, self.val, self.test = train, val, test

    def __iter__(self) -> Iterator[Any]:
        return iter([part for part in (self.train, self.val, self.test) if part is not None])

    def __len__(self) -> int:
        return len(list(iter(self)))


class Split(Shown):
    """Which row is on which side.

    Attributes
    ----------
    record : SplitRecord
        What is stored of it: settings, sizes, digests, what was measured.
    train, val, test : int64 array [n]
        Positions of the rows of each side; `test` of a sealed split is a `SealedTest`.
    """

    def __init__(self, record: SplitRecord, codes: Codes, folds: FoldOf | TimeFolds | None = None) -> None:
        self.record = record
        self._codes = codes
        self._folds = folds

    @property
    def id(self) -> str:
        """Id of the record."""
        return self.record.id

    @property
    def name(self) -> str:
        """Name of the split."""
        return self.record.name

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of each side."""
        return dict(self.record.sizes)

    @property
    def proof(self) -> dict[str, Any]:
        """What was measured of the split: see the guide."""
        return dict(self.record.proof)

    @property
    def is_sealed(self) -> bool:
        """Whether looks at the test rows are counted."""
        return self.record.status == SEALED

    @cached_property
    def train(self) -> Array:
        """Positions of the rows to learn from."""
        return np.flatnonzero(self._codes == TRAIN)

    @cached_property
    def val(self) -> Array:
        """Positions of the rows to choose by."""
        return np.flatnonzero(self._codes == VAL)

    @cached_property
    def test(self) -> Any:
        """Positions of the rows to judge by; sealed if the split is."""
        if self.is_sealed:
            return SealedTest(self.record, lambda: np.flatnonzero(self._codes == TEST))
        return np.flatnonzero(self._codes == TEST)

    @property
    def masks(self) -> dict[str, Mask]:
        """Which rows are on a side: bool [rows] by name; of a sealed split without ``test``."""
        sides = {"train": TRAIN, "val": VAL} | ({} if self.is_sealed else {"test": TEST})
        return {name: self._codes == code for name, code in sides.items()}

    @property
    def side(self) -> Array:
        """The side of each row as text: ``train``, ``val``, ``test`` or ``left out`` [rows].

        Raises
        ------
        InvalidInput
            The split is sealed.
        """
        if self.is_sealed:
            SealedTest(self.record, lambda: None).refuse()
        return np.array(SIDES)[self._codes]

    @property
    def folds(self) -> Folds:
        """Pairs of positions within train, to learn from and to validate on.

        Raises
        ------
        InvalidInput
            The split was made without folds.
        """
        found = self._folds
        if found is None:
            raise InvalidInput(f"split '{self.name}' has no folds", hint="Make them with nb.split(data, folds=5).")
        if isinstance(found, TimeFolds):
            return Folds(len(found), found.pair)

        def pair(fold: int) -> Pair:
            return np.flatnonzero((found >= 0) & (found != fold)), np.flatnonzero(found == fold)

        return Folds(self.record.settings["folds"], pair)

    def take(self, data: Any) -> Parts:
        """Return the parts of `data`, each in its type: a frame, an array, a tensor, a list, ``(X, y)``, a dict.

        A dataset whose data is stored may be named, as in `nb.split`.

        With a run open, the run is linked to the split.

        Raises
        ------
        InvalidInput
            Data with another number of rows.
        """
        if isinstance(data, str | Dataset):
            data = read_data(data)
        data = settled(data)
        rows = count_rows(data)
        if rows != len(self._codes):
            raise InvalidInput(f"split '{self.name}' is of {len(self._codes):,} rows, the data has {rows:,}",
                               hint="Split this data with nb.split, or pass the data that was split.")  # fmt: skip
        self._link()
        train, val = take_rows(data, self.train), take_rows(data, self.val) if len(self.val) else None
        if not self.record.sizes["test"]:
            return Parts(train, val, None)
        if self.is_sealed:
            return Parts(train, val, SealedTest(self.record, lambda: take_rows(data, self._test_positions())))
        return Parts(train, val, take_rows(data, self._test_positions()))

    def open_test(self, why: str) -> AbstractContextManager[Any]:
        """Count a look at the test rows and give their positions: ``with split.open_test("final score") as test:``.

        Raises
        ------
        InvalidInput
            No reason, or a split that is not sealed.
        """
        return self._sealed().open(why)

    def look(self, why: str) -> Array:
        """Count a look at the test rows and return their positions; raises as `open_test`."""
        found: Array = self._sealed().look(why)
        return found

    @property
    def looks(self) -> int:
        """How often the test rows of a sealed split were looked at, by anybody in this workspace."""
        return SealedTest(self.record, lambda: None).looks if self.is_sealed else 0

    def leaks(
        self, data: Any, *, label: str | None = None, group: Any = None, time: Any = None, fitted: Any = None
    ) -> CheckReport:
        """Look for leaks between train and test of `data`, as `nb.leaks` does.

        No score is made, so no look is counted.
        """
        from nbops.data.leakage.finding import leaks

        names = {what: self._named(what) for what in ("group", "time")}
        data = settled(data)
        train, test = take_rows(data, self.train), take_rows(data, self._test_positions())
        return leaks(
            train, test, label=label, group=group or names["group"], time=time or names["time"], fitted=fitted,
            name=self.name,
        )  # fmt: skip

    def __repr__(self) -> str:
        sizes = ", ".join(f"{count:,} {side}" for side, count in self.record.sizes.items() if count)
        return f"<Split '{self.name}': {sizes}{', test sealed' if self.is_sealed else ''}>"

    def _named(self, what: str) -> list[str] | None:
        names = [name for name in self.record.settings.get(what, []) if not name.startswith("array: ")]
        return names or None

    def _test_positions(self) -> Array:
        return np.flatnonzero(self._codes == TEST)

    def _sealed(self) -> SealedTest:
        if not self.is_sealed:
            raise InvalidInput(f"split '{self.name}' is not sealed", hint="Seal it: nb.split(data, seal=True).")
        found: SealedTest = self.test
        return found

    def _link(self) -> None:
        if run := current_run():
            workspace().store.link(self.id, "used_by", run)
