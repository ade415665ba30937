"""Card and page of a profile: what stands out, then a row for each column with its distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbops.core.display import Bundle
from nbops.view import minis, text
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Grid, Key, Mono, Part, Picture
from nbops.view.format import cut, number, plural, quantity
from nbops.view.html import esc

MAX_BYTES = 60_000
_ALERTS = 8
_LINES = 40  # columns told in plain text
_HEAD = ("column", "type", "missing", "distinct", "distribution", "commonest, or min … median … max")
_SIGNS = {"empty": "✕", "constant": "✕", "mixed-types": "✕", "infinite": "✕"}


def show_profile(value: Any) -> Bundle:
    """Draw a `Profile`: size, missing cells, duplicates; what stands out; the columns, as many as have room."""
    found: Bundle = {}
    for count in (80, 50, 32, 20, 12, 6, 2):
        found = bundle(card_of(value, count), limit=MAX_BYTES)
        if len(found["text/html"].encode()) <= MAX_BYTES:
            break
    return found


def card_of(profile: Any, count: int) -> Card:
    """Return the card with at most so many columns."""
    alerts = profile.alerts
    chip = Chip("!", f"{plural(len(alerts), 'thing')} to look at", "warn") if alerts else Chip("✓", "nothing odd", "ok")
    parts: list[Part] = []
    if alerts:
        parts.append(alerts_of(alerts, _ALERTS))
    names = list(profile.columns)
    if names:
        left = len(names) - count
        more = f"… and {plural(left, 'more column')}: profile.report('profile.html') has all" if left > 0 else ""
        tail = f'<p class="dim">{esc(more)}</p>' if more else ""
        parts.append(Picture(table_of(profile, names[:count]) + tail, (*lines_of(profile, min(count, _LINES)),)))
    note = sampled(profile)
    facts = (f"{profile.rows:,} × {len(names):,}", f"label {profile.label}" if profile.label else "")
    actions = ("profile.report('profile.html')", "profile.to_pandas()", "profile.columns[name]")
    card = Card(profile.name or "profile", chip, "", facts, keys_of(profile), tuple(parts), actions)
    return card if not note else Card(card.title, chip, "", (*facts, note), card.keys, card.parts, actions)


def sampled(profile: Any) -> str:
    """Return from how many rows the associations come, where that is not all of them."""
    found = profile.associations
    return f"correlations from {found['rows']:,} rows" if found.get("is_sampled") else ""


def keys_of(profile: Any) -> tuple[Key, ...]:
    """Return the key figures of a table."""
    cells = sum(one.get("cells", profile.rows) for one in profile.columns.values())
    missing = sum(one["missing"] for one in profile.columns.values())
    repeated = profile.duplicate_rows
    return (
        Key(f"{profile.rows:,}", "rows"),
        Key(f"{len(profile.columns):,}", "columns"),
        Key(_share(missing, cells), "missing cells"),
        Key("—" if repeated is None else f"{repeated:,}", "duplicate rows", "not counted" if repeated is None else ""),
    )


def alerts_of(alerts: Sequence[Any], count: int) -> Grid:
    """Return what stands out as a table."""
    rows = tuple((f"{_SIGNS.get(a.kind, '!')} {a.kind}", Mono(a.column or "(table)"), a.text) for a in alerts[:count])
    left = len(alerts) - count
    return Grid(("look at", "column", "why"), rows, more=f"… and {left:,} more in profile.alerts" if left > 0 else "")


def lines_of(profile: Any, count: int) -> list[str]:
    """Return the columns as lines of text."""
    names = list(profile.columns)
    rows = tuple(_line(name, profile.columns[name], profile.rows) for name in names[:count])
    left = len(names) - count
    return text.table(
        Grid(_HEAD, rows, frozenset({2, 3}), more=f"… and {plural(left, 'more column')}" if left > 0 else "")
    )


def _line(name: str, figures: Mapping[str, Any], rows: int) -> tuple[Any, ...]:
    shape = minis.shape_of(figures)
    return (cut(name, 28), cut(type_of(figures), 24), missing_of(figures, rows), distinct_of(figures),
            minis.blocks(shape) if shape else "", cut(summary_of(figures), 44))  # fmt: skip


def table_of(profile: Any, names: Sequence[str]) -> str:
    """Return the columns as an HTML table with small pictures."""
    left = ' style="text-align:left"'
    right = ' class="r"'
    head = "".join(f"<th{right if i in (2, 3) else left}>{name}</th>" for i, name in enumerate(_HEAD))
    body = "".join(_row(name, profile.columns[name], profile.rows) for name in names)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(name: str, figures: Mapping[str, Any], rows: int) -> str:
    left = ' style="text-align:left"'
    title = f' title="{esc(name, 240)}"' if len(name) > 32 else ""
    return (
        f'<tr><td class="mono"{left}{title}>{esc(name, 32)}</td><td{left}>{esc(type_of(figures), 28)}</td>'
        f'<td class="r">{esc(missing_of(figures, rows))}</td><td class="r">{esc(distinct_of(figures))}</td>'
        f"<td{left}>{picture_of(figures)}</td><td{left}>{esc(summary_of(figures), 52)}</td></tr>"
    )


def picture_of(figures: Mapping[str, Any], **size: int) -> str:
    """Return the distribution of a column as a small picture, or an empty string."""
    values = figures.get("values") or figures.get("top")
    if values:
        counts = list(values.values())
        if "top" in figures and counts[0] < 2:
            shape = minis.shape_of(figures.get("lengths") or {})
            return minis.bars(shape, label=f"lengths {minis.described(shape)}", **size) if shape else ""
        return minis.ranks(counts, label="shares of the commonest values", **size)
    shape = minis.shape_of(figures)
    return minis.bars(shape, label=f"histogram {minis.described(shape)}", **size) if shape else ""


def type_of(figures: Mapping[str, Any]) -> str:
    """Return the type of a column, and what its values mean where that says more."""
    meaning = figures.get("meaning", {})
    said = meaning.get("type", "")
    if said in ("number", "text", "", figures["dtype"].partition("[")[0]) or figures["dtype"] == "bool":
        said = ""
    said = said.replace("-", " ") + ("?" if meaning.get("sure") == "maybe" and said else "")
    unit = f" [{meaning['unit']}]" if meaning.get("unit") else ""
    return f"{figures['dtype']}{f' · {said}' if said else ''}{unit}"


def missing_of(figures: Mapping[str, Any], rows: int) -> str:
    """Return the share of missing cells."""
    return _share(figures["missing"], figures.get("cells", rows))


def distinct_of(figures: Mapping[str, Any]) -> str:
    """Return the number of distinct values, with ≈ where it is an estimate."""
    if "distinct" not in figures:
        return "—"
    return f"{'' if figures.get('distinct_exact', True) else '≈ '}{figures['distinct']:,}"


def summary_of(figures: Mapping[str, Any]) -> str:
    """Return the values of a column in a few words: commonest ones, or minimum, median and maximum."""
    values = figures.get("values") or figures.get("top")
    if values:
        total = sum(values.values())
        if "top" in figures and next(iter(values.values())) < 2:
            return f"{figures.get('min_length')} to {figures.get('max_length')} characters"
        rough = "≈ " if {"values", "top"} & {*figures.get("approximate", ())} else ""
        shares = "" if "top" in figures else " {:.0f} %"
        return rough + " · ".join(f"{cut(value, 16) or '(empty)'}{shares.format(100 * count / total)}"
                                  for value, count in list(values.items())[:3])  # fmt: skip
    if figures.get("kinds") and figures.get("min") is None:
        return ", ".join(f"{count:,} {kind}" for kind, count in figures["kinds"].items())
    low, high = figures.get("min"), figures.get("max")
    if low is None:
        return "—"
    if isinstance(low, str):
        return f"{low[:16].replace('T', ' ')} … {str(high)[:16].replace('T', ' ')}"
    if low == high:
        return number(low)
    middle = figures.get("quantiles", {}).get("0.5")
    rough = "≈ " if "quantiles" in figures.get("approximate", ()) else ""
    return " … ".join([number(low), *([f"{rough}{number(middle)}"] if middle is not None else []), number(high)])


def _share(part: int, whole: int) -> str:
    if not whole or not part:
        return "0 %"
    share = part / whole
    return "< 0.1 %" if share < 0.001 else quantity(round(share, 3) if share < 0.999 else share, "share")
