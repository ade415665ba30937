"""Rules about the loop around the model: when gradients are made, cleared and used, and by which optimizer."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, StepView

UNCLEARED_STEPS = 3
NEVER = 20  # steps without any gradient from the first on, which no adversary explains


@rules.register("gradients-not-cleared")
def gradients_not_cleared(view: StepView, history: History) -> Iterator[Finding]:
    """Find loops in which each step adds its gradients to those of all steps before.

    What it measures
        Whether the gradients that a step has used are gone, or were written to, before the next backward pass adds to
        them: from the identity and the version of the gradient tensors. It fires after three steps in a row.
    Why it matters
        Each step then goes along the sum of all gradients so far, ever further: the loss swings or grows, as with a
        learning rate that is too high.
    When it is wrong
        A loop that sums gradients over steps on purpose. Accumulation over several backward passes before one step is
        no finding, nor is clearing just before the backward pass.
    Fix
        Call ``optimizer.zero_grad()`` once in each step, before ``loss.backward()``.
    References
        TrainCheck, program SO-60335387.
    """
    if view.uncleared_steps < UNCLEARED_STEPS:
        return
    yield Finding(
        layer="optimizer", status="error", measured=float(view.uncleared_steps), limit=float(UNCLEARED_STEPS - 1),
        confidence=0.95,
        what=f"the gradients of {view.uncleared_steps} steps in a row were added to those of the step before",
        why="Nothing clears the gradients between two steps, so every step goes along the sum of all gradients so far.",
        fix="Call optimizer.zero_grad() in each step, before loss.backward().",
        causes=likely("grads-not-cleared", first=0.95),
    )  # fmt: skip


@rules.register("gradients-thrown-away")
def gradients_thrown_away(view: StepView, history: History) -> Iterator[Finding]:
    """Find gradients that are computed and cleared again before any step uses them.

    What it measures
        How often gradients were cleared after a backward pass without a step of any optimizer in between: ten times
        before the first step, four times and more between two steps, twice in a row, or between all of five measured
        steps of a single optimizer. A step that is made by hand, on the weights themselves, counts as one.
    Why it matters
        The model learns nothing, or from one batch of an epoch only.
    When it is wrong
        Loops that compute gradients for another purpose, such as the importance of weights.
    Fix
        ``optimizer.step()`` once per batch, after ``loss.backward()``.
    References
        TrainCheck, relation APISequence.
    """
    thrown = view.thrown_away
    if view.moment == "backward" and view.step == 0 and thrown >= 10:
        causes = likely("step-missing", "step-outside-loop", first=0.85)
    elif min(thrown, view.thrown_before) >= 4:
        causes = likely("step-outside-loop", "grads-cleared-before-step", "step-missing", first=0.9)
    elif _throws_each_time(view, history):
        causes = likely(
            "grads-cleared-before-step",
            "step-outside-loop",
            first=0.85,
            fix="Clear the gradients after optimizer.step(), not for each part of the batch.",
        )
    else:
        return
    yield Finding(
        layer="optimizer", status="error", measured=float(thrown), limit=3.0, confidence=0.9, causes=causes,
        what=f"gradients were computed and cleared {thrown} times without a step of the optimizer in between",
        why=f"Most likely {causes[0].text}.", fix=causes[0].fix,
    )  # fmt: skip


def _throws_each_time(view: StepView, history: History) -> bool:
    """Return whether parts of each batch are cleared again, where a single optimizer steps: no adversary, no probe."""
    recent = [*history.recent(4), view]
    return view.optimizers == 1 and len(recent) == 5 and all(v.thrown_away >= 1 for v in recent)


@rules.register("step-without-gradient")
def step_without_gradient(view: StepView, history: History) -> Iterator[Finding]:
    """Find steps of an optimizer whose parameters have no gradient, or only zeros.

    What it measures
        Three steps in a row in which no parameter has a gradient, and whether a backward pass ran and what it reached;
        or five measured steps whose gradients are all exactly zero while the loss is not.
    Why it matters
        Nothing changes: the loop runs and the model stays as it was.
    When it is wrong
        A loss that is exactly at its floor.
    Fix
        By case: ``loss.backward()`` is missing, the graph is cut, or gradients are cleared just before the step.
    References
        TrainCheck, invariant "parameters change after step".
    """
    never = view.empty_steps >= NEVER and view.step < view.empty_steps
    if view.empty_steps >= 3 and view.optimizers > 1 and not never:
        return  # an adversary's optimizer may hold what this loss does not reach
    names: tuple[str, ...]
    if view.empty_steps >= 3:
        if view.passes == 0:
            names, how = ("backward-missing", "graph-cut"), "no backward pass ran before them"
        elif view.lost_passes == view.passes:
            names, how = (
                ("graph-cut", "optimizer-of-other-parameters"),
                "the backward pass reached none of the parameters",
            )
        elif view.backwards == 0:
            names = ("module-unused", "optimizer-of-other-parameters")
            how = "the backward pass reached other parameters of the model, none of its own"
        else:
            names, how = ("grads-cleared-before-step", "graph-cut"), "what the backward pass had computed was gone"
        place, count = "optimizer" if names[0] != "graph-cut" else "loss", view.empty_steps
    else:
        recent = [*history.recent(4), view]
        zero = len(recent) == 5 and all(v.layers and v.grad_norm == 0.0 for v in recent)
        if not zero or view.step < 5 or (view.loss is not None and abs(view.loss) < 1e-6):
            return
        names, how = _why_zero(view)
        place, count = "optimizer" if names[0] == "grads-cleared-before-step" else "model", 5
    causes = likely(*names, first=0.85)
    yield Finding(
        layer=place, status="error", measured=float(count), limit=0.0, confidence=0.9, causes=causes,
        what=f"{view.optimizer} took {count} steps without any gradient: {how}", why=f"Most likely {causes[0].text}.",
        fix=causes[0].fix,
    )  # fmt: skip


def _why_zero(view: StepView) -> tuple[tuple[str, ...], str]:
    constant = view.batch is not None and view.batch.is_output_constant
    softmax = any(one.kind == "Softmax" for one in view.layers.values())
    dead = any(one.zero_share == 1.0 for one in view.layers.values())
    if constant and softmax:
        return ("softmax-over-wrong-axis", "dead-relu"), "every gradient is exactly zero, and the output is constant"
    if dead:
        return ("dead-relu", "init-too-large"), "every gradient is exactly zero, and a layer gives only zeros"
    if constant:
        return (
            "softmax-over-wrong-axis",
            "constant-init",
        ), "every gradient is exactly zero, and the output is constant"
    if sum(one.weight_rms == 0.0 for one in view.layers.values()) > 1:
        return ("constant-init", "nondifferentiable-op"), "every gradient is exactly zero, and so are the weights"
    return ("grads-cleared-before-step", "nondifferentiable-op", "graph-cut"), "every gradient is exactly zero"


@rules.register("optimizer-made-anew")
def optimizer_made_anew(view: StepView, history: History) -> Iterator[Finding]:
    """Find optimizers that are built again for every few steps.

    What it measures
        How many optimizers have held the same parameters, beside the steps that they took: four or more, with no more
        than three steps each.
    Why it matters
        Momentum and Adam's averages begin at zero each time: every step is a first step.
    When it is wrong
        Optimizers without state that are made on purpose for each step.
    Fix
        Build the optimizer once, before the loop.
    References
        TrainCheck, relation EventContain.
    """
    seen = view.stepper
    if seen is None or seen.made < 4 or seen.steps_of_all > 3 * seen.made:
        return
    causes = likely("optimizer-rebuilt-in-loop", first=0.95)
    yield Finding(
        layer="optimizer", status="error", measured=float(seen.made), limit=3.0, confidence=0.9, causes=causes,
        what=f"{seen.made} optimizers were made for the same parameters in {seen.steps_of_all} steps",
        why="It is built inside the loop, so its averages begin at zero each time.", fix=causes[0].fix,
    )  # fmt: skip


@rules.register("trained-by-two-optimizers")
def trained_by_two_optimizers(view: StepView, history: History) -> Iterator[Finding]:
    """Find models that the optimizer of another model trains too.

    What it measures
        Two optimizers that step in turn, one of which holds all that the other one holds, and more.
    Why it matters
        Each undoes what the other does: a generator that is trained to help its critic, a critic that is moved by the
        actor's loss.
    When it is wrong
        Two losses for one model that are meant to be stepped apart, with a shared part that only one optimizer has.
    Fix
        Give each optimizer the parameters of its own model only, and ``detach()`` what the other model made.
    References
        Goodfellow et al., "Generative Adversarial Networks" (2014), algorithm 1.
    """
    if view.stepper is None or not view.stepper.rival:
        return
    causes = likely("detach-missing", "optimizer-of-other-parameters", first=0.8)
    yield Finding(
        layer="optimizer", status="warning", measured=2.0, limit=1.0, confidence=0.8, causes=causes,
        what=f"two optimizers step the same parameters in turn, {view.optimizer} and a {view.stepper.rival} that holds "
        "others too", why="Each follows another loss, and undoes what the other one does.",
        fix="Give each optimizer the parameters of its own model only.",
    )  # fmt: skip


@rules.register("gradients-with-graphs")
def gradients_with_graphs(view: StepView, history: History) -> Iterator[Finding]:
    """Find gradients that have a graph of their own when the optimizer steps.

    What it measures
        Whether ``.grad`` requires a gradient, on three measured steps in a row: it does after
        ``backward(create_graph=True)``.
    Why it matters
        Each gradient holds the graph of its step and each parameter its gradient: a cycle that keeps memory, and a
        backward pass of twice the cost.
    When it is wrong
        Optimizers that differentiate the gradient themselves.
    Fix
        Take ``create_graph=True`` away; for a penalty on gradients use ``torch.autograd.grad(…, create_graph=True)``.
    References
        torch warns of it once: "Using backward() with create_graph=True will create a reference cycle".
    """
    recent = [v.stepper for v in (*history.recent(2), view) if v.stepper is not None]
    if len(recent) < 3 or not all(one.has_graph for one in recent):
        return
    causes = likely("graph-kept", first=0.9, fix="Take create_graph=True away from backward().")
    yield Finding(
        layer="loss", status="warning", measured=1.0, limit=0.0, confidence=0.9, causes=causes, fix=causes[0].fix,
        what="the gradients have graphs of their own, and nothing differentiates them",
        why="backward() was called with create_graph=True.",
    )  # fmt: skip


@rules.register("updated-twice")
def updated_twice(view: StepView, history: History) -> Iterator[Finding]:
    """Find parameters that an optimizer holds twice.

    What it measures
        Parameters that stand twice in the optimizer's groups, or share their memory with another one of them.
    Why it matters
        Each step changes them twice, and their averages are wrong.
    When it is wrong
        Never about the fact.
    Fix
        List each parameter once; to share a weight, assign the Parameter itself to both modules.
    References
        torch warns of duplicates within one group only.
    """
    if view.stepper is None or not view.stepper.twice:
        return
    name, causes = view.stepper.twice[0], likely("parameter-twice-in-optimizer", "tie-broken", first=0.95)
    yield Finding(
        layer=name, status="error", measured=2.0, limit=1.0, confidence=0.95, causes=causes, fix=causes[0].fix,
        what=f"{view.optimizer} holds the parameters of '{name}' twice, and changes them twice per step",
        why="They are listed twice, or share their memory with another parameter.",
    )  # fmt: skip
