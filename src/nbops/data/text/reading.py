"""Which columns hold running text; where patterns stand in them; scripts and words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np

from nbops.data.columns import Array, Column, Mask
from nbops.data.leaf import Sample

_LONG = 20  # bytes of an average running text
_WORD = re.compile(r"[^\W\d_]{2,}")
_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "THAI", "HANGUL", "HIRAGANA",
            "KATAKANA", "CJK", "ARMENIAN", "GEORGIAN", "TAMIL", "TELUGU", "ETHIOPIC")  # fmt: skip


def running_texts(sample: Sample) -> Iterator[Column]:
    """Iterate over columns of texts of twenty bytes and more on average, most of them different."""
    for column in sample.columns:
        if is_running(column) and 2 * len(sample.facts.distinct(column.name)[0]) > column.rows:
            yield column


def is_running(column: Column) -> bool:
    """Return whether a column holds texts that are long."""
    present = column.rows - column.missing_count
    return column.is_text and present > 0 and len(column.values) >= _LONG * present


def rows_with(column: Column, pattern: re.Pattern[bytes]) -> tuple[Mask, list[bytes]]:
    """Return which texts hold a pattern of bytes, and the first places of it."""
    found = np.zeros(column.rows, np.bool_)
    offsets = column.offsets
    if offsets is None:
        return found, []
    data = column.values.tobytes()
    hits = list(pattern.finditer(data))
    ends = np.searchsorted(offsets, [hit.end() for hit in hits], side="left")
    begins = np.searchsorted(offsets, [hit.start() for hit in hits], side="right") - 1
    inside = begins == ends - 1  # what begins in one text and ends in the next is none
    found[begins[inside]] = True
    return found, [hit.group() for hit, is_inside in zip(hits, inside.tolist(), strict=True) if is_inside][:3]


def chosen_texts(column: Column, most: int) -> list[str]:
    """Return up to `most` of the texts that are there, evenly spread over the rows."""
    rows = np.arange(column.rows) if column.missing is None else np.flatnonzero(~column.missing)
    rows = rows[:: max(1, -(-len(rows) // most))]
    return [str(column.value(int(row))) for row in rows]


def scripts_of(texts: Iterable[str]) -> dict[str, float]:
    """Return the share of letters by script."""
    counts: Counter[str] = Counter()
    for character, count in Counter("".join(texts)).items():
        if character.isalpha():
            counts[_script(character)] += count
    total = sum(counts.values())
    return {script: count / total for script, count in counts.most_common()} if total else {}


@cache
def _script(character: str) -> str:
    name = unicodedata.name(character, "")
    return next((script for script in _SCRIPTS if name.startswith(script)), "OTHER")


def words_of(texts: Iterable[str]) -> Counter[str]:
    """Return how often each word is there, in small letters."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_WORD.findall(text.lower()))
    return counts


def unknown_share(words: Counter[str], known: Iterable[str]) -> float:
    """Return the share of words, by how often they are there, that are not among the known ones."""
    total, vocabulary = sum(words.values()), set(known)
    return sum(count for word, count in words.items() if word not in vocabulary) / total if total else 0.0


def counts_of(values: Array) -> Array:
    """Return how often each whole number from 0 on is there."""
    return np.bincount(values.astype(np.int64)) if len(values) else np.zeros(1, np.int64)
