"""`nb.expect`: the kinds of rules. ``nb.Suite(expect.Unique("id"), expect.InRange("age", low=0, high=120))``.

All take `max_share`, `severity`, `when`, `by` and `environments`; see `nbops.data.rules.base.Rule`.
"""

from nbops.data.rules.base import Rule
from nbops.data.rules.relations import Determines, FoundIn, Increasing, Key, Ordered, RatioInRange, SumsTo, Unique
from nbops.data.rules.tables import DistinctInRange, Fresh, HasColumns, Holds, RowCount
from nbops.data.rules.values import Finite, HasType, InRange, LengthInRange, Matches, NotInFuture, NotMissing, OneOf

__all__ = [
    "Determines", "DistinctInRange", "Finite", "FoundIn", "Fresh", "HasColumns", "HasType", "Holds", "InRange",
    "Increasing", "Key", "LengthInRange", "Matches", "NotInFuture", "NotMissing", "OneOf", "Ordered", "RatioInRange",
    "RowCount", "SumsTo", "Unique",
]  # fmt: skip

KINDS: dict[str, type[Rule]] = {str(kind.__struct_config__.tag): kind for kind in (
    Determines, DistinctInRange, Finite, FoundIn, Fresh, HasColumns, HasType, Holds, InRange, Increasing, Key,
    LengthInRange, Matches, NotInFuture, NotMissing, OneOf, Ordered, RatioInRange, RowCount, SumsTo, Unique,
)}  # fmt: skip
