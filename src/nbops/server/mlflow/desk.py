"""What a server remembers of one workspace between requests: which points came lately, and each metric's newest.

A client repeats a batch when an answer was lost; the same point twice is then stored once. MLflow's newest point of a
metric is the one with the greatest step, then time; the workspace's is the one logged last.
"""

from __future__ import annotations

import struct
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from nbops.core.protocols import Points
from nbops.core.records import Run
from nbops.server.mlflow.histories import Histories
from nbops.store.identity import acting_as, process_user, user
from nbops.store.workspace import Workspace

Point = tuple[str, int, int, float]  # metric, step, time in ms, value
Newest = tuple[int, int, float]  # step, time in ms, value

_RUNS = 64
_REMEMBERED = 20_000
_TAIL = 1000
_MOST_READ = 200_000
CONTEXT = "mlflow"  # where a run's context keeps what only MLflow knows
NEWEST = "newest"


@dataclass
class _Book:
    """One run: points that came lately, the newest of each metric, metrics still to be looked up in the store.

    `latest` is the latest time of each metric, `mixed` the metrics whose points came in another order than that of
    their times, as a client's threads send them.
    """

    seen: set[int] = field(default_factory=set)
    order: deque[int] = field(default_factory=deque)
    newest: dict[str, Newest] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    latest: dict[str, int] = field(default_factory=dict)
    mixed: set[str] = field(default_factory=set)
    is_ended: bool = False

    def is_new(self, point: Point) -> bool:
        mark = hash((point[0], point[1], point[2], struct.pack("<d", point[3])))
        if mark in self.seen:
            return False
        self.seen.add(mark)
        self.order.append(mark)
        if len(self.order) > _REMEMBERED:
            self.seen.discard(self.order.popleft())
        return True

    def place(self, metric: str, times: Iterable[int]) -> None:
        """Note whether points follow those that are there."""
        for at in times:
            if at < self.latest.get(metric, at):
                self.mixed.add(metric)
            self.latest[metric] = max(at, self.latest.get(metric, at))

    def note(self, metric: str, found: Newest) -> None:
        known = self.newest.get(metric)
        if known is None or found[:2] >= known[:2]:
            self.newest[metric] = found


class Desk:
    """One workspace as the resources use it. No call of it within a transaction: folding writes too.

    The journal holds points of the process's own user only, for whoever folds it tells them as that user's: a thread a
    moment later, or any request that has to read them. Points of anybody else are stored before the answer goes out.

    Parameters
    ----------
    workspace : Workspace
        Where everything is read and written.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.store = workspace.store
        self.histories = Histories(self.store)
        self._books: OrderedDict[str, _Book] = OrderedDict()
        self._lock = threading.RLock()

    def log(self, run_id: str, points: Iterable[Point]) -> None:
        """Keep points for whoever acts; those that came already are left out."""
        with self._lock:
            book = self._book(run_id)
            groups: dict[str, list[Point]] = {}
            for point in points:
                if point[0] in book.unread:
                    self._read(book, run_id, point[0])
                if book.is_new(point):
                    groups.setdefault(point[0], []).append(point)
            batch = []
            for metric, group in groups.items():
                group.sort(key=lambda point: point[1:3])
                book.note(metric, group[-1][1:])
                book.place(metric, (point[2] for point in group))
                batch.append(_packed(run_id, metric, group))
            try:
                self._keep_points(batch)
            except BaseException:  # they are sent again, and are no repetition then
                self._books.pop(run_id, None)
                raise
            if book.is_ended and book.mixed:
                self._settle(book, run_id)

    def _keep_points(self, batch: list[Points]) -> None:
        if user() != process_user():
            self.store.add_points(batch)
            return
        with acting_as(""):  # a thread that is started by the first points acts for the process
            for points in batch:
                self.workspace.log_arrays(points)

    def flush(self) -> None:
        """Fold the journal now, so that its points can be read, in the name of whose points they are."""
        with acting_as(""):
            self.workspace.flush()

    def forget(self, run_id: str) -> None:
        """Fold and drop what the journal remembers of a run that has ended."""
        with acting_as(""):
            self.workspace.forget(run_id)

    def opened(self, run_id: str) -> None:
        """Remember a run that was made just now: nothing of it is in the store."""
        with self._lock:
            self._keep(run_id, _Book())

    def newest(self, run: Run, *, is_exact: bool = True) -> dict[str, Newest]:
        """Return the newest point of each metric.

        The point that was logged last stands for it if `is_exact` is False, or beyond 200,000 points, where no
        server has noted it.
        """
        with self._lock:
            stored = run.context.get(CONTEXT, {}).get(NEWEST, {})
            book = self._books.get(run.id) or _Book(unread=set(run.summary))
            unread = [m for m in run.summary if m in book.unread and not _is_current(stored.get(m), run, m)]
            is_exact = is_exact and sum(run.summary[m].count for m in unread) <= _MOST_READ
            found: dict[str, Newest] = {}
            for metric, summary in run.summary.items():
                if metric in unread and is_exact:
                    self._read(book, run.id, metric)
                if metric in book.newest:
                    found[metric] = book.newest[metric]
                elif _is_current(stored.get(metric), run, metric):
                    found[metric] = (stored[metric][0], stored[metric][1], summary.last)
                else:
                    at = round((run.ended_at or run.created_at) * 1000)
                    found[metric] = (summary.last_step, at, summary.last)
            return found

    def ended(self, run_id: str) -> dict[str, list[int]]:
        """Settle the series of a run that ends; return what is to be kept in it.

        That is step, time and count of each metric whose newest point is the one logged last.
        """
        self.flush()
        with self._lock:
            book = self._books.get(run_id)
            if book is not None:
                book.is_ended = True  # more may come: clients send what is under way after they ended the run
                self._settle(book, run_id)
        run = self.store.get(Run, run_id)
        return {
            metric: [step, at, run.summary[metric].count]
            for metric, (step, at, value) in self.newest(run).items()
            if struct.pack("<d", value) == struct.pack("<d", run.summary[metric].last)
        }

    def goes_on(self, run_id: str) -> None:
        """Remember that a run is open again."""
        with self._lock:
            if run_id in self._books:
                self._books[run_id].is_ended = False

    def _settle(self, book: _Book, run_id: str) -> None:
        """Put series whose points came mixed into the order of their times, so that the last value is the last."""
        self.flush()
        while book.mixed:
            self.store.sort_points(run_id, book.mixed.pop())

    def _book(self, run_id: str) -> _Book:
        book = self._books.get(run_id)
        if book is None:
            self.flush()
            book = _Book(unread=set(self.store.get(Run, run_id).summary))
        self._keep(run_id, book)
        return book

    def _keep(self, run_id: str, book: _Book) -> None:
        self._books[run_id] = book
        self._books.move_to_end(run_id)
        while len(self._books) > _RUNS:
            self._books.popitem(last=False)

    def _read(self, book: _Book, run_id: str, metric: str) -> None:
        """Learn a metric's newest point, and its last ones in case they are sent again."""
        book.unread.discard(metric)
        points = self.store.points(run_id, metric)
        steps = np.frombuffer(points.steps, "<i8")
        times = np.frombuffer(points.times_ms, "<i8")
        values = np.frombuffer(points.values, "<f8")
        for i in range(max(0, len(steps) - _TAIL), len(steps)):
            book.is_new((metric, int(steps[i]), int(times[i]), float(values[i])))
        if len(steps):
            book.place(metric, [int(times.max())])
            top = np.lexsort((values, times, steps))[-1]
            book.note(metric, (int(steps[top]), int(times[top]), float(values[top])))


def _packed(run_id: str, metric: str, group: list[Point]) -> Points:
    n = len(group)
    return Points(
        run_id,
        metric,
        struct.pack(f"<{n}q", *(p[1] for p in group)),
        struct.pack(f"<{n}q", *(p[2] for p in group)),
        struct.pack(f"<{n}d", *(p[3] for p in group)),
    )


def _is_current(noted: list[int] | None, run: Run, metric: str) -> bool:
    return noted is not None and noted[2] == run.summary[metric].count


_desks: weakref.WeakKeyDictionary[Workspace, Desk] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def desk_of(workspace: Workspace) -> Desk:
    """Return the desk of a workspace, the same one for every request."""
    with _making:
        desk = _desks.get(workspace)
        if desk is None:
            desk = _desks[workspace] = Desk(workspace)
        return desk
