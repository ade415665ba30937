"""Cards of splits, sealed test sets and looks; what a run's card says of its looks."""

from __future__ import annotations

from typing import Any

from nbops.core.display import Bundle
from nbops.core.ids import short_id
from nbops.core.query import Compare, Field
from nbops.core.splits import SEALED, Look, SplitRecord, base_name
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Facts, Grid, Key, Mono, Note, Part, chip
from nbops.view.format import cell, plural, text, when
from nbops.view.reading import current_workspace, related

_LOOKS_SHOWN = 6
_LOOKED_THROUGH = 1000
_DEVIATION = 0.005  # of a large stratum: half a point
_GROUPED_DEVIATION = 0.02  # whole groups cannot come so close


def show_split(value: Any) -> Bundle:
    """Draw a `Split` or its record: sizes, how it was made, what was measured, and looks at a sealed test set."""
    record: SplitRecord = getattr(value, "record", value)
    sizes = [(side, count) for side, count in record.sizes.items() if count]
    keys = tuple(Key(f"{count:,}", side, f"{_percent(count / record.rows)} of the rows" if record.rows else "")
                 for side, count in sizes)  # fmt: skip
    rows = _proof(record)
    parts: list[Part] = [Grid(("proof", "found", "what it means"), tuple(rows))] if rows else []
    parts += _looks(record)
    spans = record.proof.get("time", {}).get("spans", {})
    if spans:
        parts.append(Facts("time", tuple((side, f"{first} to {last}") for side, (first, last) in spans.items())))
    plain = [(name, text(record.settings[name])) for name in ("folds", "gap", "salt") if record.settings.get(name)]
    facts = (
        *plain,
        *((f"sha256 of {side}", digest[:12]) for side, digest in record.digests.items() if side != "left out"),
    )
    parts.append(Facts("recorded", facts))
    head = Chip("■", "sealed", "warn") if record.status == SEALED else Chip("✓", "split", "ok")
    actions = ('with split.open_test("why") as test:',) if record.status == SEALED else ()
    where = (record.method, f"{record.rows:,} rows", cell(record.cell_id))
    return bundle(Card(record.name, head, short_id(record.id), where, keys, tuple(parts), actions))


def _proof(record: SplitRecord) -> list[tuple[Any, ...]]:
    proof, rows = record.proof, []
    if "groups_cut" in proof:
        rows.append(
            _line("groups cut", proof["groups_cut"], "no group has rows on two sides", "groups are on two sides")
        )
    if "duplicates_across" in proof:
        rows.append(_line("equal rows across", proof["duplicates_across"], "no row of val or test is learned from",
                          "rows equal one that is learned from; without a key, equal rows stay together"))  # fmt: skip
    if "time" in proof:
        rows.append(_line("overlap in time", proof["time"]["overlap"], "each side begins after the one before",
                          "rows are not later than the side before"))  # fmt: skip
    if "strata" in proof:
        found = proof["strata"]
        is_large = found["large_strata"] > 0
        off = found["large_deviation" if is_large else "deviation"]
        kind = "strata of 200 rows and more" if is_large else "small strata"
        said = f"largest difference from the share asked for, in {kind}"
        limit = _GROUPED_DEVIATION if "groups_cut" in proof else _DEVIATION
        rows.append((f"{_sign(off <= limit or not is_large)} strata", f"{100 * off:.2g} points", said))
        if found["without_test"]:
            rows.append(
                (f"{_sign(False)} strata without test", f"{found['without_test']:,}", "too small for a test row")
            )
    if "learned_before" in proof:
        said = proof["learned_before"]
        rows.append((f"{_sign(False)} learned before the split", plural(len(said), "statement"), "; ".join(said)))
    if "since" in proof:
        since = proof["since"]
        rows.append(_line("rows moved", since["moved"], f"of {since['known']:,} known from the split before",
                          f"of {since['known']:,} known from the split before are on another side"))  # fmt: skip
    return rows


def _line(what: str, count: int, good: str, bad: str) -> tuple[str, str, str]:
    return f"{_sign(not count)} {what}", f"{count:,}", bad if count else good


def _sign(is_good: bool) -> str:
    return chip("pass" if is_good else "warn").sign


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _looks(record: SplitRecord) -> list[Part]:
    """Return how often a sealed test set was looked at, what that does to a score, and the last looks."""
    from nbops.data.splits.sealing import say_optimism  # it brings the store along

    if record.status != SEALED:
        return []
    ws = current_workspace()
    if ws is None:
        return [Note("Looks at the test rows are counted.", "dim")]
    same = Compare(Field("digest"), "==", record.digests["test"])
    count = ws.store.count(Look, same)
    if not count:
        return [Note("Nobody has looked at the test rows yet.", "dim")]
    tone = "" if count == 1 else "warn"
    parts: list[Part] = [
        Note(f"{plural(count, 'look')} at the test rows. {say_optimism(count, record.sizes['test'])}", tone)
    ]
    rows = tuple((str(k.number), k.name, cell(k.cell_id), Mono(short_id(k.parent or "")), when(k.created_at))
                 for k in ws.store.find(Look, same, limit=_LOOKS_SHOWN))  # fmt: skip
    more = f"… and {count - len(rows):,} more" if count > len(rows) else ""
    parts.append(Grid(("look", "why", "cell", "run", "when"), rows, frozenset({0}), more=more))
    before = ws.store.find(Look, Compare(Field("digest"), "!=", record.digests["test"]), limit=_LOOKED_THROUGH)
    others = sum(base_name(look.split_name) == base_name(record.name) for look in before)
    if others:
        parts.append(
            Note(f"{plural(others, 'more look')} at test sets of other splits of {base_name(record.name)}.", "dim")
        )
    return parts


def show_sealed(value: Any) -> Bundle:
    """Draw a `SealedTest`: the card of its split."""
    return show_split(value.record)


def show_look(value: Look) -> Bundle:
    """Draw one `Look`: which test set, for what, from where."""
    facts = tuple(filter(None, (cell(value.cell_id), short_id(value.parent or ""), when(value.created_at))))
    said = Note(f"Look {value.number:,} at the {plural(value.rows, 'test row')} of split {value.split_name}.")
    return bundle(
        Card(value.name, Chip("●", f"look {value.number:,}", "live"), short_id(value.id), facts, parts=(said,))
    )


def looks_of_run(run: str) -> list[Part]:
    """Return what the card of a run says of the sealed test sets that it looked at."""
    from nbops.data.splits.sealing import say_optimism

    mine = related(Look, "parent", run, limit=100)
    ws = current_workspace()
    parts: list[Part] = []
    for digest in dict.fromkeys(look.digest for look in mine):
        own = [look for look in mine if look.digest == digest]
        count = own[0].number if ws is None else ws.store.count(Look, Compare(Field("digest"), "==", digest))
        said = f"Looked at the sealed test set of {own[0].split_name}: {plural(len(own), 'look')} of {count:,} so far. "
        parts.append(Note(said + say_optimism(count, own[0].rows), "warn" if count > 1 else "dim"))
    return parts
