"""What a maker of patches knows besides the source: the finding, what was measured, the user's variables. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbops.debugging.aspects import TensorStats
from nbops.debugging.source import Code
from nbops.debugging.views import StepView


@dataclass(frozen=True)
class Facts:
    """What is known of one finding.

    rule, line, layer : the finding's name, the text of the line that it names, and its layer; "" where not known
    op : the operation that the finding is about, such as ``torch.sqrt``
    values : the user's variables by name, as far as they can be seen
    model : the user's name of the model
    got, example : what the finding says was given, and its example of a remedy
    """

    view: StepView = field(default_factory=lambda: StepView(step=-1))
    rule: str = ""
    line: str = ""
    layer: str = ""
    op: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    got: str = ""
    example: str = ""

    @property
    def seen_targets(self) -> TensorStats | None:
        """The targets of the last batch."""
        batch = self.view.batch
        return batch.targets if batch is not None else None


Maker = Callable[[Code, Facts], None]
