"""Card and page of an overview: tables side by side, the features that differ most first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbops.core.display import Bundle
from nbops.view import html, text
from nbops.view.bundles import bundle
from nbops.view.cards import Card, Chip, Drawing, Grid, Mono, Note, Part
from nbops.view.figures import COLOURS
from nbops.view.format import cut, number, plural
from nbops.view.html import esc
from nbops.view.minis import BLOCKS
from nbops.view.staleness import moved_on

MAX_BYTES = 60_000
PAGE_BYTES = 1_000_000
_WIDE, _HIGH = 84, 26
_BLOCKS_WIDE = 8
_MANY = 200  # distinct values, from which on their number follows that of the rows
_PICTURES = 4  # tables drawn on a card
_KINDS = (("number", "numbers"), ("text", "texts"), ("bool", "flags"), ("time", "times"), ("", "others"))
_SORTS = (("distance", "distance"), ("missing", "share missing"), ("zeros", "zeros"), ("distinct", "distinct values"),
          ("name", "name"))  # fmt: skip
_PAGE = """body{margin:24px auto;padding:0 16px;max-width:1180px;background:#fff}
@media(prefers-color-scheme:dark){body{background:#111}}
.nbops{max-width:none!important}
.nbops .list{display:flex;flex-direction:column;margin-top:10px}
.nbops .f{border-top:1px solid var(--nb-line);padding:10px 0 12px;order:var(--o)}
.nbops .multiples{display:flex;flex-wrap:wrap;gap:8px 20px;margin-top:6px}
.nbops .m{width:168px}.nbops .m svg{margin:2px 0}.nbops .m div{font-size:12px;line-height:1.45}
.nbops label{cursor:pointer}.nbops input{accent-color:var(--nb-accent);margin:0 4px 0 12px}
"""


def show_overview(value: Any) -> Bundle:
    """Draw an `Overview` as a card: as many features as have room, those that differ most first."""
    found: Bundle = {}
    for count in (60, 40, 24, 14, 8, 4):
        found = bundle(_card(value, count), limit=MAX_BYTES)
        if len(found["text/html"].encode()) <= MAX_BYTES:
            break
    return found


def _card(value: Any, count: int) -> Card:
    features = list(value.features.values())
    parts: list[Part] = [Note(f"! {line}", "warn") for line in _moved(value)]
    if features:
        parts.append(_grid(value, features[:count], len(features) + value.left_out))
    parts += [Note(line, "dim") for line in _notes(value)]
    facts = tuple(f"{side.name} {side.rows:,}" for side in value.tables)
    actions = ("overview.report('overview.html')", "overview.features[name]", "overview.to_pandas()")
    return Card(value.name, _chip(value, features), "", facts, parts=tuple(parts), actions=actions)


def _chip(value: Any, features: Sequence[Any]) -> Chip:
    if len(value.tables) < 2:
        return Chip("i", plural(len(features) + value.left_out, "feature"), "live")
    many = sum(feature.differs for feature in features)
    of = plural(len(features) + value.left_out, "feature")
    return (
        Chip("!", f"{many:,} of {of} differ{'s' if many == 1 else ''}", "warn")
        if many
        else Chip("✓", f"{of} agree", "ok")
    )


def _moved(value: Any) -> list[str]:
    return [line for side in value.tables if (line := moved_on(side.dataset, side.version))]


def _notes(value: Any) -> list[str]:
    lines = list(value.notes)
    if len(value.tables) > 1:
        lines.insert(0, f"distance: share of rows that would have to change to agree with {value.tables[0].name}")
    if value.is_saved:
        side = next((side for side in value.tables if side.dataset), None)
        ref = f"{side.dataset}/{side.version}" if side else ""
        lines.append(f"kept with {ref}: nb.overview('{ref}') shows it again" if ref else "kept in the workspace")
    return lines


def _grid(value: Any, features: Sequence[Any], total: int) -> Grid:
    names = [cut(side.name, 14) for side in value.tables[:_PICTURES]]
    several = len(value.tables) > 1
    head = ("feature", *(("distance",) if several else ()), *names, "missing", "zeros", "distinct",
            "what differs" if several else "values")  # fmt: skip
    rows = tuple(
        (Mono(cut(feature.name, 26)), *((_share(feature.distance),) if several else ()),
         *(_drawing(feature, place) for place in range(len(names))),
         _joined(feature, "missing"), _joined(feature, "zeros"), _joined(feature, "distinct"),
         _why(value, feature) if several else _values(feature))
        for feature in features
    )  # fmt: skip
    left = total - len(features)
    more = f"… and {plural(left, 'more feature')}: overview.report('overview.html')" if left > 0 else ""
    right = frozenset({1}) if several else frozenset()
    return Grid(head, rows, right, sorted_by=1 if several else -1, more=more)


def _why(value: Any, feature: Any) -> str:
    if not feature.differs:
        return ""
    return f"{value.tables[feature.furthest].name}: {feature.why}" if len(value.tables) > 2 else feature.why


def _values(feature: Any) -> str:
    found = next(one for one in feature.figures if one is not None)
    if found.commonest is not None and feature.kind in ("text", "bool", "other"):
        return f"{cut(found.commonest, 24) or '(empty)'} {_share(found.commonest_share)}"
    if found.min is None:
        return ""
    middle = f" … {_number(found.median)}" if found.median is not None else ""
    return f"{_number(found.min)}{middle} … {_number(found.max)}"


def _number(value: Any) -> str:
    return number(value) if not isinstance(value, str) else cut(value, 19)


def _share(value: float | None, *, digits: int = 3) -> str:
    if value is None:
        return "—"
    return "0" if value == 0 else f"{100 * value:.{digits}g} %" if value >= 0.0005 else "< 0.05 %"


def _told(found: Any, key: str) -> str:
    if key == "distinct":
        return "—" if found.distinct is None else f"{'' if found.distinct_exact else '≈ '}{found.distinct:,}"
    return _share(getattr(found, key), digits=2)


def _joined(feature: Any, key: str) -> str:
    """Return a figure of the first table, and that of the table where it is another one most."""
    known = [found for found in feature.figures if found is not None]
    first, others = known[0], known[1:]
    value = getattr(first, key)
    if value is None or (key == "distinct" and value > _MANY):
        return _told(first, key)
    far = max(others, key=lambda one: abs((getattr(one, key) or 0) - value), default=first)
    return " → ".join(dict.fromkeys((_told(first, key), _told(far, key))))


def _drawing(feature: Any, place: int) -> Drawing:
    shares = feature.shares[place] if place < len(feature.shares) else []
    if not shares:
        return Drawing("", "")
    each = -(-len(shares) // _BLOCKS_WIDE)
    joined = [sum(shares[i : i + each]) for i in range(0, len(shares), each)]
    top = max(_top(feature, each), 1e-9)
    said = "".join(BLOCKS[min(8, max(1 if share else 0, round(8 * share / top)))] for share in joined)
    return Drawing(bars(feature, place, wide=_WIDE, high=_HIGH), said)


def _top(feature: Any, each: int) -> float:
    return max((sum(one[i : i + each]) for one in feature.shares for i in range(0, len(one), each)), default=1.0)


def bars(feature: Any, place: int, *, wide: int, high: int) -> str:
    """Return the shape of a feature in one table, over that of the first one as a line; all on one scale."""
    shares, first = feature.shares[place], feature.shares[0]
    top, step = max(_top(feature, 1), 1e-9), wide / len(shares)
    filled = ""
    for i, share in enumerate(shares):
        tall = max((high - 2) * share / top, 0.8 if share else 0.0)
        filled += f"M{i * step:.1f} {high - 1}v-{tall:.1f}h{max(1.0, step - 1):.1f}v{tall:.1f}z" if tall else ""
    line = ""
    if place and first:
        path = "".join(f"V{high - 1 - (high - 2) * share / top:.1f}h{step:.1f}" for share in first)
        line = (f'<path fill="none" stroke="var(--nb-s1,{COLOURS[1]})" stroke-width="1.2" '
                f'd="M0 {high - 1}{path}V{high - 1}"/>')  # fmt: skip
    said = esc(f"{feature.name}, {feature.labels[0]} to {feature.labels[-1]}", 80)
    size = f'viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
    return (f'<svg style="margin:0;min-width:{wide}px" {size} role="img" aria-label="{said}">'
            f'<path d="M0 {high - 0.5:g}h{wide}" stroke="var(--nb-line,#e5e7eb)"/>'
            f'<path fill="var(--nb-s0,{COLOURS[0]})" fill-opacity=".6" d="{filled}"/>{line}</svg>')  # fmt: skip


def show_overview_page(value: Any) -> Bundle:
    """Draw an `OverviewPage`: the page as HTML, the card as text."""
    overview = value.overview
    return {"text/plain": text.render(_card(overview, 10**6)), "text/html": page(overview)}


def page(value: Any) -> str:
    """Return the page: small multiples of every feature; sorted and filtered by style alone."""
    features = list(value.features.values())
    chip, title = _chip(value, features), esc(value.name or "overview")
    top = html.render(Card(value.name, chip, "", tuple(f"{s.name} {s.rows:,}" for s in value.tables),
                           parts=tuple([*(Note(f"! {line}", "warn") for line in _moved(value)),
                                        *(Note(line, "dim") for line in _notes(value))])))  # fmt: skip
    ranks = {key: _ranks(features, key) for key, _ in _SORTS}
    items, size = [], len(top.encode())
    for place, feature in enumerate(features):
        item = _item(value, feature, {key: ranks[key][place] for key, _ in _SORTS})
        size += len(item.encode())
        if size > PAGE_BYTES - 20_000:
            break
        items.append(item)
    left = len(features) + value.left_out - len(items)
    more = (
        f'<p class="dim">{plural(left, "more feature")}, which differ less, are not on this page.</p>' if left else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{title}</title></head><body>{top}'
        f'<div class="nbops">{_controls(features)}<div class="list">{"".join(items)}</div>{more}</div>'
        f"<style>{_PAGE}{_rules()}</style></body></html>"
    )


def _controls(features: Sequence[Any]) -> str:
    """Return what sorts and filters: radio buttons and boxes that the style looks at."""
    marks = [" checked"] + [""] * len(_SORTS)
    sorts = "".join(f'<label><input type="radio" name="sort" class="by-{key}"{mark}>{word}</label>'
                    for mark, (key, word) in zip(marks, _SORTS, strict=False))  # fmt: skip
    there = {_kind(feature) for feature in features}
    kinds = "".join(f'<label><input type="checkbox" class="of-{key or "other"}" checked>{word}</label>'
                    for key, word in _KINDS if (key or "other") in there)  # fmt: skip
    return (f'<div class="row"><span class="dim">sort by</span>{sorts}</div>'
            f'<div class="row"><span class="dim">show</span>{kinds}</div>')  # fmt: skip


def _kind(feature: Any) -> str:
    return feature.kind if feature.kind in {key for key, _ in _KINDS} else "other"


def _rules() -> str:
    sorts = "".join(f".nbops:has(.by-{key}:checked) .f{{--o:var(--{key})}}" for key, _ in _SORTS)
    kinds = "".join(f".nbops:has(.of-{key or 'other'}:not(:checked)) .k-{key or 'other'}{{display:none}}"
                    for key, _ in _KINDS)  # fmt: skip
    return sorts + kinds


def _ranks(features: Sequence[Any], key: str) -> list[int]:
    def value(feature: Any) -> Any:
        if key == "distance":
            return -feature.distance
        if key == "name":
            return feature.name.lower()
        return -max((getattr(found, key) or 0 for found in feature.figures if found is not None), default=0)

    order = sorted(range(len(features)), key=lambda place: (value(features[place]), place))
    ranks = [0] * len(features)
    for rank, place in enumerate(order):
        ranks[place] = rank
    return ranks


def _item(value: Any, feature: Any, ranks: dict[str, int]) -> str:
    style = ";".join(f"--{key}:{rank}" for key, rank in ranks.items())
    several = len(value.tables) > 1
    why = f' <span class="dim">{esc(_why(value, feature), 160)}</span>' if feature.differs and several else ""
    far = f" <b>{_share(feature.distance)}</b>" if several else ""
    multiples = "".join(_multiple(side, feature, place) for place, side in enumerate(value.tables))
    return (f'<div class="f k-{_kind(feature)}" style="{style}"><div class="row"><span class="mono name">'
            f'{esc(feature.name, 60)}</span>{far}{why}</div>'
            f'<div class="multiples">{multiples}</div></div>')  # fmt: skip


def _multiple(side: Any, feature: Any, place: int) -> str:
    found = feature.figures[place]
    if found is None:
        return (
            f'<div class="m"><div class="dim">{esc(side.name, 24)}</div><div class="bad">✕ no such column</div></div>'
        )
    picture = bars(feature, place, wide=168, high=44) if feature.shares[place] else ""
    ends = f'<div class="dim">{esc(_ends(feature), 30)}</div>' if picture else ""
    zeros = f" · zeros {_share(found.zeros)}" if found.zeros is not None else ""
    middle = f"<div>{esc(_values_of(feature, found), 44)}</div>"
    return (f'<div class="m"><div class="dim">{esc(side.name, 24)} · {esc(found.dtype, 18)}</div>{picture}{ends}'
            f"<div>missing {_share(found.missing)}{zeros}</div><div>distinct {_told(found, 'distinct')}</div>"
            f"{middle}</div>")  # fmt: skip


def _ends(feature: Any) -> str:
    """Return from where to where the bars go."""
    low, high = feature.labels[0].partition(" to ")[0], feature.labels[-1].rpartition(" to ")[2]
    return cut(low, 13) if len(feature.labels) == 1 else f"{cut(low, 13)} … {cut(high, 13)}"


def _values_of(feature: Any, found: Any) -> str:
    if feature.kind == "number" and found.mean is not None:
        return f"mean {number(found.mean)} ± {number(found.std)}"
    if found.commonest is not None:
        return f"{cut(found.commonest, 24) or '(empty)'} {_share(found.commonest_share)}"
    return f"{_number(found.min)} … {_number(found.max)}" if found.min is not None else ""
