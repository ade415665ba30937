"""`nb.labels`: what was answered, how far annotators agree, one label an item, and versions of all that."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput, MissingDependency
from nbops.core.extras import pandas
from nbops.core.labelling import GIVEN, Label, LabelSet
from nbops.core.query import Compare, Field
from nbops.core.records import Dataset, Event
from nbops.data.datasets import snapshot
from nbops.data.labels.agreement import Agreement, Scale, agreement
from nbops.data.labels.combining import combine_labels
from nbops.data.labels.items import read_items
from nbops.data.labels.keeping import find_set, read_labels
from nbops.store.context import current_run
from nbops.store.workspace import Workspace, workspace

Method = Literal["majority", "dawid-skene"]
_JOIN = "|"  # between the classes of one item, in a table


@dataclass(frozen=True, eq=False)
class Labels(Shown):
    """The answers to one label set, as they were when it was read.

    Attributes
    ----------
    record : LabelSet
        Its name and its classes.
    given : tuple of Label
        The answers that count, oldest first: of each annotator the last word on each item.
    items : tuple of str
        The items that have an answer, in the order of the rows where that is known.
    """

    record: LabelSet
    given: tuple[Label, ...]
    items: tuple[str, ...]
    _ws: Workspace

    @classmethod
    def of(cls, ws: Workspace, record: LabelSet, *, ids: Sequence[str] = ()) -> Labels:
        """Read the answers to `record`; `ids` say in which order items come."""
        given = tuple(label for label in read_labels(ws, record) if label.status == GIVEN)
        answered = dict.fromkeys(label.name for label in given)
        first = dict.fromkeys(id for id in ids if id in answered)
        return cls(record, given, tuple(first | answered), ws)

    def __len__(self) -> int:
        return len(self.given)

    def __repr__(self) -> str:
        return f"Labels({self.name!r}, {len(self):,} answers on {len(self.items):,} items)"

    @property
    def name(self) -> str:
        """Of the label set."""
        return self.record.name

    @property
    def annotators(self) -> tuple[str, ...]:
        """Who has answered, by name."""
        return tuple(sorted({label.annotator for label in self.given}))

    def votes(self, of: Any = None) -> dict[str, list[Any]]:
        """Return the answers as a column for each annotator, [items]; None where one gave none.

        Parameters
        ----------
        of : class, optional
            Whether each answer holds this class, instead of the answer itself.
        """
        row = {id: at for at, id in enumerate(self.items)}
        columns: dict[str, list[Any]] = {name: [None] * len(row) for name in self.annotators}
        for label in self.given:
            said = self._plain(label.value) if of is None else of in label.value
            columns[label.annotator][row[label.name]] = said
        return columns

    def _plain(self, value: Sequence[Any]) -> Any:
        return _JOIN.join(map(str, value)) if self.record.is_multi else value[0]

    def agreement(self, *, scale: Scale = "nominal") -> Agreement:
        """Say how far annotators agree: alpha, and Cohen's kappa of each pair; see `nb.agreement`.

        With several classes an item, answers are the same where all their classes are.

        Raises
        ------
        InvalidInput
            Fewer than two annotators, or no item that two have labelled.
        """
        return agreement(self.votes(), scale=scale, classes=None if self.record.is_multi else self.record.classes)

    def agreement_by_class(self) -> dict[Any, Agreement]:
        """Return the agreement on each class against all others: which ones people mean different things by."""
        return {of: agreement(self.votes(of), classes=[False, True]) for of in self.record.classes}

    def consensus(self, *, method: Method = "majority") -> dict[str, Any]:
        """Return one label an item, by its digest: a class, or a list of classes with ``multi=True``.

        Parameters
        ----------
        method : {"majority", "dawid-skene"}
            A majority leaves out items on which as many say one thing as another; Dawid and Skene weigh each annotator
            by how reliable they prove to be, and decide all. With several classes an item, each is decided by itself.

        Raises
        ------
        InvalidInput
            An unknown method, or fewer than two annotators for Dawid and Skene.
        """
        if method not in ("majority", "dawid-skene"):
            raise InvalidInput(f"method is {method!r}", hint='Use "majority" or "dawid-skene".')
        if not self.record.is_multi:
            return self._decided(self.votes(), method, self.record.classes)
        by_class = {of: self._decided(self.votes(of), method, [False, True]) for of in self.record.classes}
        decided = [id for id in self.items if all(id in found for found in by_class.values())]
        return {id: [of for of, found in by_class.items() if found[id]] for id in decided}

    def _decided(self, votes: dict[str, list[Any]], method: Method, classes: Sequence[Any]) -> dict[str, Any]:
        if method == "dawid-skene":
            best = combine_labels(votes, method=method, classes=classes).labels
            return {id: label for id, label in zip(self.items, best, strict=True) if label is not None}
        found = {}
        for id, row in zip(self.items, zip(*votes.values(), strict=True), strict=True):
            (first, most), *rest = Counter(label for label in row if label is not None).most_common(2)
            if not rest or rest[0][1] < most:
                found[id] = first
        return found

    def to(self, items: Any, *, otherwise: Any = None, column: str | None = None, ids: Any = None,
           method: Method = "majority") -> list[Any]:  # fmt: skip
        """Return the label of each row of `items`, whatever their order now.

        Parameters
        ----------
        items, column, ids
            As for `nb.label`.
        otherwise : list or array, [rows], optional
            The labels of rows that have none here: those from before, to be mended; None if left away.
        method : {"majority", "dawid-skene"}
            See `consensus`.

        Raises
        ------
        InvalidInput
            `otherwise` has another length, or the items cannot be read.
        """
        rows = read_items(items, column=column, ids=ids).ids
        before = [None] * len(rows) if otherwise is None else list(getattr(otherwise, "tolist", lambda: otherwise)())
        if len(before) != len(rows):
            raise InvalidInput(f"otherwise= has {len(before):,} labels for {len(rows):,} items",
                               hint="Give the labels of the same rows.")  # fmt: skip
        found = self.consensus(method=method)
        return [found.get(id, old) for id, old in zip(rows, before, strict=True)]

    def _table(self) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {
            "item": [label.name for label in self.given],
            "label": [self._plain(label.value) for label in self.given],
        }
        for field in ("annotator", "at", "duration_s", "note"):
            columns[field] = [getattr(label, field) for label in self.given]
        suggested = [self._plain(label.suggested) if label.suggested else None for label in self.given]
        return {**columns, "suggested": suggested, "is_sample": [label.is_sample for label in self.given]}

    def frame(self) -> Any:
        """Return a pandas DataFrame with a row for each answer, oldest first.

        Columns: item, label (with several classes joined by ``|``), annotator, at (UTC), duration_s, note, suggested,
        is_sample.

        Raises
        ------
        MissingDependency
            pandas is not installed.
        """
        pd = pandas()
        table = self._table()
        return pd.DataFrame({**table, "at": pd.to_datetime(table["at"], unit="s", utc=True)})

    def history(self) -> list[Event]:
        """Return all that happened, oldest first: answers, skips, and what was taken back, with what it was."""
        found = [
            event for label in read_labels(self._ws, self.record) for event in self._ws.store.events(subject=label.id)
        ]
        return sorted(found, key=lambda event: event.seq)

    def snapshot(self, name: str | None = None, *, method: Method = "majority") -> Dataset:
        """Keep the consensus as a version of a dataset: item, label, and how many said so.

        The same labels are the same version. It is linked to this label set, to the data that was labelled where that
        is known, and to the open run; its ``source.label_set`` names the set.

        Parameters
        ----------
        name : str, optional
            Of the dataset; that of the label set with ``-labels`` if None.
        method : {"majority", "dawid-skene"}
            See `consensus`.

        Raises
        ------
        InvalidInput
            No item has a label.
        """
        found = self.consensus(method=method)
        if not found:
            raise InvalidInput(f"the label set '{self.name}' has no labels yet", hint="Label some items first.")
        votes = Counter(label.name for label in self.given)
        ids = sorted(found)
        labels = [_JOIN.join(map(str, found[id])) if self.record.is_multi else found[id] for id in ids]
        data = {"item": ids, "label": labels, "votes": [votes[id] for id in ids]}
        source = {"origin": _origin(self._ws, self.record), "label_set": self.name}
        kept = snapshot(data, name or f"{self.name}-labels", source=source)
        with self._ws.store.transaction():
            self._ws.store.link(self.record.id, "produced", kept.id)
            if run := current_run():
                self._ws.store.link(self.record.id, "used_by", run)
        return kept

    def save(self, path: str | Path) -> Path:
        """Write the rows of `frame` to a CSV or Parquet file, by its ending; return the path.

        Raises
        ------
        InvalidInput
            Another ending.
        MissingDependency
            pyarrow is not installed, for Parquet.
        """
        place, table = Path(path), self._table()
        times = [datetime.fromtimestamp(at, UTC) for at in table["at"]]
        if place.suffix == ".csv":
            with place.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(table)
                writer.writerows(zip(*{**table, "at": [at.isoformat() for at in times]}.values(), strict=True))
        elif place.suffix == ".parquet":
            try:
                import pyarrow as pa
                import pyarrow.parquet as pq
            except ImportError:
                raise MissingDependency.of("pyarrow", "pandas") from None
            pq.write_table(pa.table({**table, "at": times}), place)
        else:
            raise InvalidInput(f"labels cannot be written to {place.name!r}", hint="End the name in .csv or .parquet.")
        return place


def _origin(ws: Workspace, record: LabelSet) -> str:
    """Return ``name/version`` of the data that was labelled; "" if that is not known."""
    found = ws.store.find(Dataset, Compare(Field("id"), "==", record.dataset), limit=1) if record.dataset else []
    return f"{found[0].name}/{found[0].version}" if found else ""


def labels(name: str) -> Labels:
    """Return the answers to a label set that `nb.label` made.

    Parameters
    ----------
    name : str
        Of the label set.

    Returns
    -------
    Labels

    Raises
    ------
    NotFound
        There is none of that name.

    Examples
    --------
    >>> import nbops as nb
    >>> nb.labels("reviews").consensus()  # doctest: +SKIP
    """
    ws = workspace()
    return Labels.of(ws, find_set(ws, name))
