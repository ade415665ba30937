"""The events as an audit log: each carries the digest of all before it, so no past entry can be changed unseen.

The chain is over what happened, when, to what and by whom. Cutting off the newest events
leaves a shorter chain that is whole in itself: keep `AuditReport.head` elsewhere to see that.
"""

from __future__ import annotations

from dataclasses import dataclass

from nbops.core.display import Shown
from nbops.core.protocols import Store
from nbops.core.records import Event
from nbops.store.chain import follows
from nbops.store.workspace import workspace

_PAGE = 5000


@dataclass(frozen=True)
class AuditReport(Shown):
    """What a walk along the chain found.

    Attributes
    ----------
    events : int
        How many were read.
    head : str
        Digest of the newest; it stands for all of them.
    broken_at : int or None
        Sequence number of the first event that does not follow from those before it.
    newest : list of Event
        The last ones, oldest first.
    """

    events: int
    head: str
    broken_at: int | None
    newest: list[Event]

    @property
    def is_whole(self) -> bool:
        """True when every event follows from those before it."""
        return self.broken_at is None

    def __repr__(self) -> str:
        state = "whole" if self.is_whole else f"BROKEN at event {self.broken_at}"
        return f"AuditReport({self.events:,} events, {state}, head {self.head[:16] or 'none'})"


def audit(*, last: int = 10) -> AuditReport:
    """Walk the audit log of the current workspace and return whether it is whole.

    Parameters
    ----------
    last : int
        How many of the newest events to return.
    """
    ws = workspace()
    ws.flush()
    return walk(ws.store, last=last)


def walk(store: Store, *, last: int = 10) -> AuditReport:
    """Return the report on the events of `store`."""
    count, head, after, broken = 0, "", 0, None
    newest: list[Event] = []
    while page := store.events(after=after, limit=_PAGE):
        for event in page:
            is_older = not head and not event.digest  # written before events were chained
            if broken is None and not is_older and not follows(head, event):
                broken = event.seq
            head = event.digest
        count += len(page)
        after = page[-1].seq
        newest = [*newest, *page][-last:] if last else []
    return AuditReport(count, head, broken, newest)
