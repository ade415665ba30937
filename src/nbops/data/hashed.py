"""A frame with its digests, each computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nbops.core.records import ColumnSchema, Dataset
from nbops.data.columns import Column, Frame
from nbops.data.digest import chunk_digest, chunks_of, joined_digest, table_digest
from nbops.data.older import older_column_digest, older_table_digest
from nbops.data.profiling import in_threads, is_large
from nbops.data.versions.manifest import ColumnTree


@dataclass(frozen=True, eq=False)
class Hashed:
    """A frame with its digests, each computed once."""

    frame: Frame

    @cached_property
    def tree(self) -> list[ColumnTree]:
        """Digest of each chunk of each column; the threads do not show in them."""
        count = chunks_of(self.frame.rows)
        tasks = [(column, number) for column in self.frame.columns for number in range(count)]
        done = in_threads(lambda task: chunk_digest(*task), tasks, is_worth_it=is_large(self.frame))
        return [
            ColumnTree(column.name, column.dtype, done[place * count : (place + 1) * count])
            for place, column in enumerate(self.frame.columns)
        ]

    @cached_property
    def columns(self) -> list[str]:
        """Digest of each column."""
        return [joined_digest(column.dtype, self.frame.rows, column.chunks) for column in self.tree]

    @cached_property
    def digest(self) -> str:
        """Digest of the table."""
        return table_digest(self.frame.columns, self.frame.rows, self.columns)

    @property
    def features_digest(self) -> str:
        """Digest of the table without its label: that of ``X`` when ``(X, y)`` was given."""
        return table_digest(*self._features(self.columns))

    @property
    def schema(self) -> list[ColumnSchema]:
        """The columns as they are recorded."""
        pairs = zip(self.frame.columns, self.columns, strict=True)
        return [ColumnSchema(name=column.name, dtype=column.dtype, digest=digest) for column, digest in pairs]

    @cached_property
    def older_columns(self) -> list[str]:
        """Digest of each column as it was recorded before trees."""
        return in_threads(older_column_digest, self.frame.columns, is_worth_it=is_large(self.frame))

    def is_content_of(self, dataset: Dataset, *, with_label: bool = True) -> bool:
        """Tell whether a snapshot of before trees recorded this, or this without its label."""
        columns = self.frame.columns if with_label else self._features(self.frame.names)[0]
        told = [(column.name, column.dtype) for column in columns]
        if dataset.scheme is not None or [(column.name, column.dtype) for column in dataset.columns] != told:
            return False
        digests = self.older_columns
        whole = (columns, self.frame.rows, digests) if with_label else self._features(digests)
        return older_table_digest(*whole) == dataset.digest

    def _features(self, digests: Sequence[str]) -> tuple[Sequence[Column], int, Sequence[str]]:
        kept = [pair for pair in zip(self.frame.columns, digests, strict=True) if pair[0].name != self.frame.label]
        return [column for column, _ in kept], self.frame.rows, [digest for _, digest in kept]
