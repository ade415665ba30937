"""The controls of a dive: dropdowns for its columns, cells to click, and the rows of a cell. The home of ipywidgets.

Handlers only compute and set values: nothing is printed or displayed in them. What was shown for a cell of the notebook
is closed when the cell runs again, so that re-running leaves nothing behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbops.core.display import Bundle, mimebundle
from nbops.store.context import current_cell_id
from nbops.view.format import cut

if TYPE_CHECKING:
    from nbops.data.diving.dive import Dive

_NONE = "(none)"
_ROLES = (("x", "across"), ("y", "up"), ("color", "colour"), ("facet", "facet"))
_MOST_CHOICES = 300
_SHADES = 6
_open: dict[str, Controls] = {}  # cell id -> what it shows


def show_controls(value: Any) -> Bundle:
    """Return the widgets of `DiveControls`."""
    cell = current_cell_id() or ""
    before = _open.pop(cell, None)
    if before is not None:
        before.close()
    made = Controls(value.dive)
    _open[cell] = made
    bundle: Bundle = made.box._repr_mimebundle_() or {}
    return {**bundle, "text/plain": "(controls: run the cell again to use them)"}


class Controls:
    """The widgets of one dive.

    Attributes
    ----------
    dive : Dive
        The rows by what is chosen now.
    box : ipywidgets.VBox
    dropdowns : dict of str to ipywidgets.Dropdown
        For each role.
    cells : list of ipywidgets.Button
        One for each cell: a bin across, and a facet (else what goes up, else the colour) down.
    """

    def __init__(self, dive: Dive) -> None:
        import ipywidgets as w

        self.dive = dive
        self._w = w
        self._styles = [w.ButtonStyle(button_color=_shade(i)) for i in range(_SHADES)]
        self._narrow = w.Layout(width="76px", height="24px", margin="1px", padding="0")
        self._wide = w.Layout(width="130px", margin="0 6px 0 0")
        choices = [_NONE, *dive.columns[:_MOST_CHOICES]]
        self.dropdowns = {
            role: w.Dropdown(options=choices, value=dive.chosen[role] if dive.chosen[role] in choices else _NONE,
                             description=word, layout=w.Layout(width="210px"))
            for role, word in _ROLES
        }  # fmt: skip
        for dropdown in self.dropdowns.values():
            dropdown.observe(self._chosen, names="value")
        self.cells: list[Any] = []
        self._places: dict[str, dict[str, int]] = {}
        self._grid, self._picture, self._rows = w.VBox(), w.HTML(), w.HTML()
        self._fill()
        self.box = w.VBox([w.HBox(list(self.dropdowns.values())), self._picture, self._grid, self._rows])

    def close(self) -> None:
        """Take all widgets away."""
        for widget in (*_parts(self.box), *self._styles, self._narrow, self._wide):
            widget.close()

    def _chosen(self, _: Any) -> None:
        chosen = {role: None if one.value == _NONE else one.value for role, one in self.dropdowns.items()}
        self.dive = self.dive.by(**chosen)
        self._rows.value = ""
        self._fill()
        self._picture.value = mimebundle(self.dive)["text/html"]

    def _fill(self) -> None:
        """Put one button for each cell, shaded by how many rows it has."""
        role = next((role for role in ("facet", "y", "color") if self.dive.chosen[role]), "facet")
        x, down = self.dive.axis("x"), self.dive.axis(role)
        counts = self.dive.counts.sum(axis=tuple({0, 1, 3} - {("facet", "y", "", "color").index(role)}))
        counts = counts.T if role == "color" else counts  # to [down, x]
        old, self.cells = self._grid.children, []
        top = max(1, int(counts.max()))
        heads = [self._w.Label(cut(label, 11), layout=self._narrow) for label in x.labels]
        rows = [self._w.HBox([self._w.Label("", layout=self._wide), *heads])]
        for j, label in enumerate(down.labels):
            title = self._w.Label(cut(label or "all rows", 18), layout=self._wide)
            buttons = [self._button(int(counts[j, i]), top, {"x": i, role: j}, f"{x.labels[i]} · {label}")
                       for i in range(len(x.labels))]  # fmt: skip
            self.cells += buttons
            rows.append(self._w.HBox([title, *buttons]))
        self._grid.children = tuple(rows)
        shared = {*self._styles, self._narrow, self._wide}
        for widget in (part for row in old for part in _parts(row)):
            if widget not in shared:
                widget.close()

    def _button(self, count: int, top: int, place: dict[str, int], title: str) -> Any:
        shade = 0 if not count else 1 + min(_SHADES - 2, (_SHADES - 1) * count // (top + 1))
        button = self._w.Button(description=f"{count:,}", tooltip=title, disabled=count == 0, layout=self._narrow,
                                style=self._styles[shade])  # fmt: skip
        chosen = {role: at for role, at in place.items() if self.dive.chosen[role]}
        button.on_click(lambda _: self._clicked(chosen))
        return button

    def _clicked(self, place: dict[str, int]) -> None:
        self._rows.value = mimebundle(self.dive.rows(**place))["text/html"]


def _parts(widget: Any) -> list[Any]:
    """Return a widget with all that it is made of: what it holds, its layouts and styles."""
    found = [widget, widget.layout]
    if hasattr(widget, "style"):
        found.append(widget.style)
    return found + [part for child in getattr(widget, "children", ()) for part in _parts(child)]


def _shade(i: int) -> str:
    return f"rgba(0, 114, 178, {0.12 * i:.2f})"
