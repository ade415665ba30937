"""Rules about the batches: scale, repetition, order, what an evaluation shares with the training."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.ruleset.trends import is_learning, is_supervised, trend
from nbops.debugging.views import Finding, History, StepView

LARGE = 20.0
TINY = 0.05
LEAST_ROWS = 16
SOON = 40  # steps after which a loss that can fall has begun to


@rules.register("inputs-not-scaled")
def inputs_not_scaled(view: StepView, history: History) -> Iterator[Finding]:
    """Find inputs far above unit scale in trainings that suffer from it.

    What it measures
        The largest absolute value (above 20) of floating inputs, and whether the loss has fallen by half after 60
        steps, unless the first layer is a normalisation or an embedding.
    Why it matters
        Large inputs saturate units and make the loss steep in some directions and flat in others.
    When it is wrong
        Trainings that are meant to be long.
    Fix
        ``(x - mean) / std`` per column with the training set's numbers, or pixels divided by 255.
    References
        UMLAUT, "input exceeds limits" (beyond 1, which alarms on nearly every healthy run; ours asks for the effect).
    """
    batch, course = view.batch, trend(history)
    if batch is None or batch.inputs is None or batch.inputs.is_integer or batch.inputs.max is None:
        return
    low, high = batch.inputs.min or 0.0, batch.inputs.max
    size, first = max(abs(low), abs(high)), next(iter(view.layers.values()), None)
    if size < LARGE or course is None or course.steps < 60 or not is_supervised(view):
        return
    if first is None or "Norm" in first.kind or "Embedding" in first.kind or is_learning(history, by=0.5):
        return
    is_mark = low < -500 and abs(low) > 20 * abs(high) + 1
    causes = likely("inputs-corrupted", "inputs-not-scaled") if is_mark else likely(
        "inputs-not-scaled", "lr-too-low", "inputs-corrupted")  # fmt: skip
    yield Finding(
        layer="batch", status="warning", measured=size, limit=LARGE, confidence=0.75, causes=causes, fix=causes[0].fix,
        what=f"the inputs go from {low:.4g} to {high:.4g}, and after {course.steps} steps the loss has fallen by "
        f"{max(0.0, course.fall):.0%} only", why=f"Most likely {causes[0].text}.",
    )  # fmt: skip


@rules.register("inputs-collapsed")
def inputs_collapsed(view: StepView, history: History) -> Iterator[Finding]:
    """Find floating inputs that hold next to nothing.

    What it measures
        Over four measured steps from the 40th on, while the loss has not fallen by half: no absolute value above 0.05,
        or all values equal, or fewer than one value in 500 that is not zero.
    Why it matters
        The signal is lost before the first layer: images scaled twice, ``//`` on integers, a column that is empty.
    When it is wrong
        Physical quantities in units that make them small.
    Fix
        Scale once, with ``/``.
    References
        TheDeepChecker, data pre-checks.
    """
    recent = [view.batch, *(v.batch for v in history.recent(3))]
    stats = [b.inputs for b in recent if b is not None and b.inputs is not None]
    if len(stats) < 4 or any(s.is_integer or s.max is None or s.min is None for s in stats):
        return
    size = max(max(abs(s.max or 0.0), abs(s.min or 0.0)) for s in stats)
    spread, zeros = max(s.std or 0.0 for s in stats), min(s.zero_share or 0.0 for s in stats)
    if view.step < SOON or is_learning(history, by=0.5) or (size > TINY and spread > 0 and zeros <= 0.998):
        return  # what is called last in a step may be a boundary, or a state that is zero on purpose
    causes = likely("inputs-collapsed", first=0.85)
    yield Finding(
        layer="batch", status="warning", measured=size, limit=TINY, confidence=0.8, causes=causes, fix=causes[0].fix,
        what=f"the inputs hold next to nothing: largest value {size:.3g}, standard deviation {spread:.3g}, "
        f"{zeros:.1%} zeros", why="The signal is lost before the first layer.",
    )  # fmt: skip


@rules.register("same-batch-always")
def same_batch_always(view: StepView, history: History) -> Iterator[Finding]:
    """Find loops that train on one batch only, although there are more.

    What it measures
        Whether five measured steps in a row saw the same samples, while the data loader has
        more batches, or a random state is seeded anew at each step.
    Why it matters
        The model learns those few samples by heart.
    When it is wrong
        Training on the whole data set at once is no finding. Overfitting one batch on purpose, with a loader, is.
    Fix
        ``for x, y in loader``; no ``next(iter(loader))`` and no seed inside the loop.
    References
        DeepCrime, operator "delete data".
    """
    recent = [v for v in (*history.recent(4), view) if v.batch is not None]
    if len(recent) < 5 or not all(_is_same(recent[0], v) for v in recent):
        return
    steps = recent[-1].step - recent[0].step
    seeded = all(v.seedings > 0 for v in recent)
    batches = view.timing.loader_batches if view.timing is not None else None
    if not seeded and (batches is None or batches < 2):
        return
    causes = likely("same-batch-always", "sampler-wrong", first=0.9)
    how = "a random state is seeded at every step" if seeded else f"the loader has {batches} batches"
    yield Finding(
        layer="batch", status="error", measured=1.0, limit=1.0, confidence=0.9, causes=causes, fix=causes[0].fix,
        what=f"the last {max(steps, 5)} steps saw the same samples again and again, and {how}",
        why="The same batch is drawn each time.",
    )  # fmt: skip


def _is_same(first: StepView, other: StepView) -> bool:
    """Return whether two batches hold the same samples, by their hashes or by exact statistics of all values."""
    a, b = first.batch, other.batch
    if a is None or b is None or a.inputs is None or b.inputs is None:
        return False
    if b.rows and b.repeated_share != 1.0:
        return first is other
    return (a.inputs.mean, a.inputs.std) == (b.inputs.mean, b.inputs.std)


@rules.register("samples-repeat")
def samples_repeat(view: StepView, history: History) -> Iterator[Finding]:
    """Find batches in which many samples are the same.

    What it measures
        The share of samples of a batch of 16 or more that equal another one of it: half or more on five measured steps.
    Why it matters
        The training sees far fewer samples than it seems: a data set that ignores its index, wrong weights.
    When it is wrong
        Data that hold many equal rows.
    Fix
        Use the index in ``__getitem__``; one weight per row for ``WeightedRandomSampler``.
    References
        TrainCheck, relation DistinctArgument.
    """
    recent = [v.batch for v in (*history.recent(4), view) if v.batch is not None and v.batch.rows >= LEAST_ROWS]
    shares = [b.duplicate_share or 0.0 for b in recent]
    if len(shares) < 5 or min(shares) < 0.5 or _is_binary(view):
        return
    is_all = min(shares) > 0.9
    causes = likely("dataset-ignores-index", "same-batch-always", "inputs-collapsed") if is_all else likely(
        "sampler-wrong", "dataset-ignores-index")  # fmt: skip
    yield Finding(
        layer="batch", status="error" if is_all else "warning", measured=min(shares), limit=0.5, confidence=0.85,
        what=f"{min(shares):.0%} of the samples of each batch equal another sample of it", causes=causes,
        why=f"Most likely {causes[0].text}.", fix=causes[0].fix,
    )  # fmt: skip


@rules.register("one-class-per-batch")
def one_class_per_batch(view: StepView, history: History) -> Iterator[Finding]:
    """Find batches that hold one class at a time.

    What it measures
        On eight measured steps in a row, batches of eight labels or more hold one or two of at least five classes (one
        of fewer), and which ones changes.
    Why it matters
        Each step pulls the model to the class of the moment, and what was learned of the others is lost.
    When it is wrong
        Batches that are made of one class on purpose (metric learning).
    Fix
        ``DataLoader(…, shuffle=True)``.
    References
        DF and StackOverflow posts on sorted data.
    """
    recent = [v.batch for v in (*history.recent(9), view) if v.batch is not None]
    known = [
        b for b in recent if b.targets is not None and b.targets.distinct and b.classes and b.targets.sizes[0] >= 8
    ]
    if len(known) < 8 or any(b.targets is None or b.classes is None for b in known):
        return
    limit = 2 if (known[-1].classes or 0) >= 5 else 1
    few = [b for b in known if b.targets is not None and (b.targets.distinct or 99) <= limit]
    means = {round(b.targets.mean, 1) for b in known if b.targets is not None and b.targets.mean is not None}
    if len(few) < 0.8 * len(known) or len(means) < 2:
        return
    causes = likely("data-not-shuffled", "sampler-wrong", first=0.9)
    yield Finding(
        layer="batch", status="warning", measured=float(limit), limit=float(limit), confidence=0.9, causes=causes,
        what=f"{len(few)} of the last {len(known)} measured batches hold no more than {limit} of the "
        f"{known[-1].classes} classes", why="The data come sorted by class.", fix=causes[0].fix,
    )  # fmt: skip


@rules.register("evaluation-leak")
def evaluation_leak(view: StepView, history: History) -> Iterator[Finding]:
    """Find evaluations some of whose samples were trained on.

    What it measures
        Hashes of up to 2,048 samples of an evaluation: from 5 to 95 % of them were trained on, in batches that
        mix both, once training brings no new samples. An evaluation of the training set itself is no finding, nor are
        passes that come with nearly every step.
    Why it matters
        The figure is better than what new samples will give.
    When it is wrong
        Data that hold many equal rows by nature.
    Fix
        Split once, before anything is multiplied, shuffled or augmented.
    References
        SH-077 of Shah et al.'s collection.
    """
    seen = view.evaluation
    if view.moment != "evaluation" or seen is None or seen.rows < 40 or seen.leaked_share is None:
        return
    if seen.phases > max(2, seen.steps // 2):  # a part of each step: the choice of an action, samples of a generator
        return
    if not 0.05 <= seen.leaked_share <= 0.95 or not seen.is_training_set_known or seen.mixed_share < 0.5:
        return
    causes = likely("train-test-leak", first=0.85)
    yield Finding(
        layer="batch", status="warning", measured=seen.leaked_share, limit=0.05, confidence=0.8, causes=causes,
        what=f"{seen.leaked_share:.0%} of the {seen.rows} samples of the evaluation were also trained on",
        why="The training set and the evaluation share samples.", fix=causes[0].fix,
    )  # fmt: skip


def _is_binary(view: StepView) -> bool:
    """Return whether the inputs are zeros and ones only: states or categories, which are often the same."""
    stats = view.batch.inputs if view.batch is not None else None
    if stats is None or stats.mean is None or stats.zero_share is None or stats.max != 1.0:
        return False
    return abs(stats.mean - (1 - stats.zero_share)) < 1e-6


@rules.register("loader-empty")
def loader_empty(view: StepView, history: History) -> Iterator[Finding]:
    """Find loops over a data loader that gives no batch at all.

    What it measures
        Iterations over a ``DataLoader`` that end before the first batch, of a data set with rows.
    Why it matters
        The loop does not run, and nothing says so.
    When it is wrong
        Loaders of one part of a data set that may be empty by design.
    Fix
        No ``drop_last`` with a batch size above the number of rows.
    References
        torch's documentation of DataLoader.
    """
    if view.empty_loader:
        causes = likely("loader-empty", first=0.95)
        yield Finding(
            layer="batch", status="error", measured=float(view.empty_loader), limit=0.0, confidence=0.95, causes=causes,
            what=f"a data loader gave no batch, although its data set has {view.empty_loader} rows",
            why="The batch size is above the number of rows, and drop_last drops the rest.", fix=causes[0].fix,
        )  # fmt: skip


@rules.register("label-in-inputs")
def label_in_inputs(view: StepView, history: History) -> Iterator[Finding]:
    """Find columns of the inputs that tell the label.

    What it measures
        The largest correlation of an input column with the target (of two classes, or one number): above 0.98 on five
        measured steps of 16 rows or more.
    Why it matters
        Such a column is often filled in after the label is known, and is not there for new samples.
    When it is wrong
        Tasks that are that easy.
    Fix
        Leave out what is known only after the label.
    References
        Leakage tests of TFDV and Deepchecks.
    """
    recent = [v.batch for v in (*history.recent(4), view) if v.batch is not None and v.batch.label_column is not None]
    columns = {b.label_column for b in recent}
    if len(recent) < 5 or len(columns) != 1 or min(b.label_correlation or 0.0 for b in recent) < 0.98:
        return
    column, causes = columns.pop(), likely("label-in-inputs", first=0.85)
    yield Finding(
        layer="batch", status="warning", measured=recent[-1].label_correlation, limit=0.98, confidence=0.8,
        what=f"column {column} of the inputs goes with the target (correlation {recent[-1].label_correlation:.3f})",
        why="It may be filled in only after the label is known.", fix=causes[0].fix, causes=causes,
    )  # fmt: skip


@rules.register("workers-repeat")
def workers_repeat(view: StepView, history: History) -> Iterator[Finding]:
    """Find worker processes that read, or draw, the same as each other.

    What it measures
        A stream (``IterableDataset``) read by two workers or more whose batches repeat samples of those just before
        (a third or more on five measured steps); a data set that holds a random generator of its own, which each worker
        gets a copy of.
    Why it matters
        Each sample comes as often as there are workers, or gets the same noise as others.
    When it is wrong
        Streams that repeat samples on purpose.
    Fix
        Split the stream by ``torch.utils.data.get_worker_info()``; draw random numbers from torch, or seed in
        ``worker_init_fn``.
    References
        TrainCheck, "worker samples distinct"; numpy's generators under torch's workers.
    """
    timing = view.timing
    if timing is None or not timing.loader_workers:
        return
    recent = [v.batch for v in (*history.recent(4), view) if v.batch is not None and v.batch.rows]
    shares = [b.repeated_share or 0.0 for b in recent]
    repeats = timing.is_stream and timing.loader_workers > 1 and len(shares) == 5 and sum(shares) / 5 > 0.3
    if not repeats and not timing.shared_random:
        return
    causes = likely("workers-repeat", first=0.9)
    what = f"'{timing.shared_random}' of the data set is a random generator, and each worker gets a copy of it"
    if repeats:
        what = f"{sum(shares) / 5:.0%} of the samples of a stream were seen just before"
    yield Finding(
        layer="batch", status="error" if repeats else "warning", measured=float(timing.loader_workers), limit=1.0,
        confidence=0.85, what=f"{what} ({timing.loader_workers} workers)", causes=causes, fix=causes[0].fix,
        why="Workers repeat each other.",
    )  # fmt: skip
