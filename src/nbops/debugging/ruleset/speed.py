"""Rules about where the time and the memory of a step go."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, StepView

WARM_UP_STEPS = 30
DATA_SHARE = 0.5
_LEAST_MS = 2.0
KEPT_GRAPHS = 8
GROWTH_SHARE, GROWTH_BYTES = 0.5, 500e6
OUTLIERS = 0.05


@rules.register("data-loader-bound")
def data_loader_bound(view: StepView, history: History) -> Iterator[Finding]:
    """Find loops that wait for data most of the time.

    What it measures
        The median time per step that the loop waits for its torch ``DataLoader``, beside the median time of a step. It
        fires from half of the time, if that is 2 ms or more, after 30 steps.
    Why it matters
        The processor or GPU stands idle meanwhile: the training could be twice as fast, or more.
    When it is wrong
        A first epoch that fills a cache.
    Fix
        ``num_workers`` near the number of cores, ``persistent_workers=True``, cheaper transforms, or data kept decoded.
    References
        SageMaker Debugger, rules IOBottleneck and CPUBottleneck (50 %).
    """
    timing = view.timing
    if timing is None or timing.steps < WARM_UP_STEPS or timing.loader_workers is None:
        return
    share = timing.data_ms / timing.step_ms if timing.step_ms else 0.0
    if share < DATA_SHARE or timing.data_ms < _LEAST_MS:
        return
    workers = timing.loader_workers
    more = f"num_workers={max(1, timing.cores)}" if workers < timing.cores else "cheaper transforms, or decoded data"
    yield Finding(
        layer="data", status="warning", measured=share, limit=DATA_SHARE, confidence=0.85,
        what=f"{share:.0%} of the time of a step ({timing.data_ms:.3g} of {timing.step_ms:.3g} ms) goes into waiting "
        f"for the data loader ({workers} workers)",
        why="Batches are made more slowly than they are trained on.",
        fix=f"Give the DataLoader {more}, with persistent_workers=True.", causes=likely("loader-bound", first=0.9),
    )  # fmt: skip


@rules.register("graphs-kept")
def graphs_kept(view: StepView, history: History) -> Iterator[Finding]:
    """Find losses whose graphs stay alive long after their step.

    What it measures
        How many graphs of the last 32 losses are alive: eight or more on three measured steps in a row.
    Why it matters
        A graph holds every activation of its step: memory grows until it runs out, and each step gets slower.
    When it is wrong
        Losses that are summed over many steps on purpose before one backward pass.
    Fix
        Keep ``loss.item()`` or ``loss.detach()``, and detach a state that goes on to the next batch.
    References
        torch's FAQ, "my model reports cuda runtime error: out of memory".
    """
    kept = [v.timing.kept_graphs for v in (*history.recent(2), view) if v.timing is not None]
    if len(kept) < 3 or min(kept) < KEPT_GRAPHS:
        return
    causes = likely("graph-kept", first=0.95)
    yield Finding(
        layer="loss", status="error", measured=float(kept[-1]), limit=float(KEPT_GRAPHS), confidence=0.9, causes=causes,
        what=f"the graphs of {kept[-1]} past steps are still alive", fix=causes[0].fix,
        why="A list, a sum or a state keeps losses or outputs with their graphs.",
    )  # fmt: skip


@rules.register("evaluation-keeps-graphs")
def evaluation_keeps_graphs(view: StepView, history: History) -> Iterator[Finding]:
    """Find evaluations that record gradients and keep what they record.

    What it measures
        Outputs of one evaluation that were computed with a graph which is still alive: seven or more.
    Why it matters
        Each graph holds every activation of its batch: the evaluation takes many times the memory of a training step.
    When it is wrong
        A loss that is summed over many batches before one backward pass, in evaluation mode.
    Fix
        ``with torch.no_grad():`` around the evaluation.
    References
        torch's FAQ, "my model reports cuda runtime error: out of memory".
    """
    kept = view.evaluation.kept_graphs if view.evaluation is not None and view.moment == "evaluation" else 0
    if kept < KEPT_GRAPHS - 1:
        return
    causes = likely("graph-kept", first=0.95, fix="Run the evaluation under torch.no_grad().")
    yield Finding(
        layer="model", status="error", measured=float(kept), limit=float(KEPT_GRAPHS - 1), confidence=0.9,
        what=f"the graphs of {kept} batches of the evaluation are still alive", causes=causes, fix=causes[0].fix,
        why="It records gradients, and its outputs or losses are kept.",
    )  # fmt: skip


@rules.register("memory-grows")
def memory_grows(view: StepView, history: History) -> Iterator[Finding]:
    """Find trainings whose memory grows from step to step.

    What it measures
        Memory of the process (of torch on a GPU) beside that after 20 steps: more than half as much again, and 500 MB.
    Why it matters
        It ends in an out-of-memory error, hours later.
    When it is wrong
        A first evaluation of large batches, or data that are cached on the way.
    Fix
        Look for lists that collect tensors; keep ``.item()`` or ``.detach().cpu()``.
    References
        SageMaker Debugger, rule GPUMemoryIncrease (5 % in 10 steps).
    """
    timing = view.timing
    if timing is None or timing.steps < WARM_UP_STEPS:
        return
    pairs = ((timing.device_bytes, timing.device_growth_bytes), (timing.memory_bytes, timing.memory_growth_bytes))
    for bytes_now, growth in pairs:
        if bytes_now and growth and growth > max(GROWTH_BYTES, GROWTH_SHARE * (bytes_now - growth)):
            yield Finding(
                layer="loop", status="hint", measured=growth / 1e6, limit=GROWTH_BYTES / 1e6, confidence=0.6,
                what=f"memory has grown by {growth / 1e6:,.0f} MB since step 20",
                causes=likely("graph-kept", first=0.5), why="Something keeps tensors from step to step.",
                fix="Keep numbers or detached copies, not tensors.",
            )  # fmt: skip
            return


@rules.register("uneven-steps")
def uneven_steps(view: StepView, history: History) -> Iterator[Finding]:
    """Find trainings some of whose steps take far longer than the others.

    What it measures
        The share of the last 100 steps that took more than three times the median: 5 % or more, if it is 20 ms.
    Why it matters
        Workers that are started anew, checkpoints, or another process on the machine cost time.
    When it is wrong
        Evaluations and checkpoints between the steps.
    Fix
        ``persistent_workers=True``, rarer checkpoints, batches of even length.
    References
        SageMaker Debugger, rule StepOutlier (3 standard deviations).
    """
    timing = view.timing
    if timing is None or timing.steps < 60 or timing.step_ms < 20 or timing.outlier_share < OUTLIERS:
        return
    yield Finding(
        layer="loop", status="hint", measured=timing.outlier_share, limit=OUTLIERS, confidence=0.5,
        what=f"{timing.outlier_share:.0%} of the steps take more than three times as long as the median of "
        f"{timing.step_ms:.3g} ms", why="Something else happens in them.",
        fix="Keep the loader's workers alive with persistent_workers=True; group samples of even length.",
    )  # fmt: skip


@rules.register("low-gpu-use")
def low_gpu_use(view: StepView, history: History) -> Iterator[Finding]:
    """Find trainings that leave the GPU idle most of the time.

    What it measures
        The load of the GPU as its driver tells it: below 30 % on five measured steps, after 60 steps.
    Why it matters
        A larger batch, or data that come sooner, would train several times as fast.
    When it is wrong
        Models that are small on purpose.
    Fix
        A larger batch, more workers, fewer ``.item()`` calls, ``torch.compile``.
    References
        SageMaker Debugger, rules LowGPUUtilization (70 %) and BatchSize.
    """
    loads = [v.timing.gpu_share for v in (*history.recent(4), view) if v.timing is not None]
    known = [load for load in loads if load is not None]
    if len(known) < 5 or view.step < 60 or max(known) >= 0.3:
        return
    yield Finding(
        layer="loop", status="hint", measured=max(known), limit=0.3, confidence=0.6,
        what=f"the GPU is used at {max(known):.0%} at most", why="Steps are too small, or wait for something else.",
        fix="Try a larger batch, more workers of the loader, and fewer reads of values in the loop.",
    )  # fmt: skip
