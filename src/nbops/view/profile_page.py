"""The page of a profile: everything that fits into a megabyte, readable without a script and without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbops.core.display import Bundle
from nbops.view import html, minis, profiles, text
from nbops.view.cards import Card, Chip
from nbops.view.format import number, plural, quantity
from nbops.view.heatmaps import HeatMap, svg
from nbops.view.html import esc

MAX_BYTES = 1_000_000
_TABLE_COLUMNS = 600
_ALERTS = 200
_METHODS = {"pearson": "Pearson", "spearman": "Spearman", "cramers_v": "Cramér's V"}
_PAGE = """body{margin:24px auto;padding:0 16px;max-width:1080px;background:#fff}
@media(prefers-color-scheme:dark){body{background:#111}}
.nbops{max-width:none!important;margin:0 0 14px!important}
.nbops h2{font-size:15px;font-weight:600;margin:2px 0 8px}
.nbops details{border-top:1px solid var(--nb-line);padding:8px 0}.nbops summary{cursor:pointer}
.nbops .two{display:flex;flex-wrap:wrap;gap:8px 32px;align-items:flex-start}
.nbops .two table{width:auto;min-width:220px}
.nbops .two td+td{text-align:right}
.nbops .two tr,.nbops .two tbody tr:nth-child(n){height:22px}"""
_FIGURES = (("mean", "mean"), ("standard deviation", "std"), ("skew", "skew"), ("kurtosis", "kurtosis"),
            ("zeros", "zeros"), ("negative", "negative"), ("infinite", "infinite"),
            ("shortest", "min_length"), ("mean length", "mean_length"), ("longest", "max_length"))  # fmt: skip


def show_page(value: Any) -> Bundle:
    """Draw a `ProfileReport`: the page as HTML, the card as text."""
    profile = value.profile
    card = profiles.card_of(profile, 0)
    return {"text/plain": text.render(profiles.card_of(profile, 10**6)), "text/html": _page(profile, card)}


def _page(profile: Any, card: Card) -> str:
    alerts = profile.alerts
    parts = (profiles.alerts_of(alerts, _ALERTS),) if alerts else ()
    chip = card.chip or Chip("✓", "nothing odd", "ok")
    top = html.render(Card(card.title, chip, "", card.facts, card.keys, parts), limit=200_000)
    names = list(profile.columns)
    body = [top, _section("Columns", _overview(profile, names))]
    body += [_section(f"{word} of {plural(len(found['columns']), 'column')}", _matrix(word, found))
             for method, word in _METHODS.items() if (found := profile.associations.get(method))]  # fmt: skip
    size = sum(len(part.encode()) for part in body)
    details: list[str] = []
    for name in names:
        details.append(_detail(name, profile.columns[name], profile.rows))
        size += len(details[-1].encode())
        if size > MAX_BYTES - 10_000:
            details.pop()
            break
    left = len(names) - len(details)
    more = f"<p>{plural(left, 'more column')}: see profile.columns[name].</p>" if left else ""
    if details:
        body.append(_section("Column by column", "".join(details) + more))
    title = esc(profile.name or "profile")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{title}</title></head>'
        f"<body>{''.join(body)}<style>{_PAGE}</style></body></html>"
    )


def _section(title: str, body: str) -> str:
    return f'<div class="nbops"><h2>{esc(title)}</h2>{body}</div>'


def _overview(profile: Any, names: list[str]) -> str:
    left = len(names) - _TABLE_COLUMNS
    more = f"<p>… and {plural(left, 'more column')}: see profile.to_pandas().</p>" if left > 0 else ""
    return profiles.table_of(profile, names[:_TABLE_COLUMNS]) + more


def _matrix(word: str, found: Mapping[str, Any]) -> str:
    """Return the matrix as a picture of at most 30 columns, the first ones."""
    names = found["columns"][:30]
    size = len(names)
    values = [[1.0] * size for _ in names]
    for i, row in enumerate(found["values"][:size]):
        for j, value in enumerate(row[: size - i - 1]):
            values[i][i + 1 + j] = values[i + 1 + j][i] = float("nan") if value is None else value
    shown = tuple(map(tuple, values))
    words = tuple(tuple("" if v != v else f"{round(v, 2) + 0.0:.2f}" for v in row) for row in shown)
    return svg(HeatMap(word, tuple(names), tuple(names), shown, words, is_signed=word != _METHODS["cramers_v"]))


def _detail(name: str, figures: Mapping[str, Any], rows: int) -> str:
    cells = figures.get("cells", rows)
    pairs = [("type", profiles.type_of(figures)), ("rows", f"{rows:,}"),
             ("missing", f"{figures['missing']:,} ({profiles.missing_of(figures, rows)})"),
             ("distinct", profiles.distinct_of(figures))]  # fmt: skip
    if "cells" in figures:
        pairs.insert(2, ("cells", f"{cells:,}"))
    pairs += [(word, number(figures[key])) for word, key in _FIGURES if figures.get(key) is not None]
    meaning = figures.get("meaning", {})
    if meaning.get("type"):
        share = f", {quantity(meaning['share'], 'share')} of the texts looked at" if meaning.get("share") else ""
        pairs.append(("meaning", f"{meaning['type']} ({meaning['sure']}{share})"))
    if meaning.get("unit"):
        pairs.append(("unit", f"{meaning['unit']} ({meaning['unit_sure']})"))
    rough = figures.get("approximate")
    pairs.append(("exact", f"all but {', '.join(rough)}" if rough else "all figures"))
    picture = _large(figures)
    return (f'<details><summary><span class="mono">{esc(name, 80)}</span> <span class="dim">'
            f"{esc(profiles.summary_of(figures), 80)}</span></summary>"
            f'<div class="two">{_pairs(pairs)}{_quantiles(figures)}<div>{picture}</div></div></details>')  # fmt: skip


def _pairs(pairs: list[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><td class="dim">{esc(word, 40)}</td><td>{esc(value, 80)}</td></tr>' for word, value in pairs)
    return f"<table><tbody>{rows}</tbody></table>"


def _quantiles(figures: Mapping[str, Any]) -> str:
    low, high, told = figures.get("min"), figures.get("max"), figures.get("quantiles")
    if not told:
        return _pairs([("first", low), ("last", str(high))]) if isinstance(low, str) else ""
    middle = [(f"{100 * float(share):.0f} %", number(value)) for share, value in told.items()]
    return _pairs([("minimum", number(low)), *middle, ("maximum", number(high))])


def _large(figures: Mapping[str, Any]) -> str:
    values = figures.get("values") or figures.get("top")
    parts = []
    if values and not ("top" in figures and next(iter(values.values())) < 2):
        most = max(values.values())
        rows = "".join(
            f'<tr><td>{esc(value or "(empty)", 40)}</td><td>{_bar(count / most)}</td><td class="r">{count:,}</td></tr>'
            for value, count in list(values.items())[:20]
        )  # fmt: skip
        left = len(values) - 20
        more = f'<p class="dim">… and {left:,} more values</p>' if left > 0 else ""
        parts.append(f"<table><tbody>{rows}</tbody></table>{more}")
    for source, word in ((figures, ""), (figures.get("lengths") or {}, "lengths in characters, ")):
        shape = minis.shape_of(source, bars=48)
        if shape:
            said = f"{word}{minis.described(shape)}"
            parts.append(f'{minis.bars(shape, width=420, height=110, label=said)}<p class="dim">{esc(said)}</p>')
    return "".join(parts)


def _bar(share: float) -> str:
    wide = max(1.0, 120 * share)
    return (f'<svg viewBox="0 0 120 10" width="120" height="10" style="margin:0" aria-hidden="true"><rect '
            f'width="{wide:.1f}" height="10" fill="var(--nb-s0,#0072B2)"/></svg>')  # fmt: skip
