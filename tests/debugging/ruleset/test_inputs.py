"""Rules about the batches, and about what an evaluation shares with the training."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from ruleset.making import (
    Case,
    Seen,
    after,
    alone,
    batch,
    check,
    evaluation,
    falling,
    flat,
    floats,
    labels,
    layer,
    run,
    step,
    timing,
)  # fmt: skip

wide = step(100, layer("first"), batch=batch(inputs=floats(0, 255)))
marked = step(100, layer("first"), batch=batch(inputs=floats(-9999, 3)))
tiny = step(50, batch=batch(inputs=floats(0, 1e-3)))
same = step(30, batch=batch(repeated_share=1.0), timing=timing(loader_batches=40, loader_workers=0))
equal_rows = step(30, batch=batch(duplicate_share=0.97))
ones = floats(0, 1, mean=0.25, zero_share=0.75)
leaky = step(30, batch=batch(label_column=3, label_correlation=0.999))
leaking = evaluation(leaked_share=0.4, is_training_set_known=True, mixed_share=1.0)


def sorted_classes(distinct: int = 1, *, changes: bool = True, count: int = 10) -> Seen:
    """Ten measured steps whose batches hold `distinct` of `count` classes, others in each."""
    views = [
        step(i, batch=batch(classes=count, targets=labels(count, distinct=distinct, mean=float(i if changes else 1))))
        for i in range(10)
    ]
    return after(views[-1], past=views[:-1])


def distinct_batches() -> Seen:
    views = [step(i, batch=batch(inputs=floats(mean=i / 10)), timing=same.timing) for i in range(9)]
    return after(views[-1], past=views[:-1])


stream = step(30, batch=batch(repeated_share=0.6), timing=timing(loader_workers=2, is_stream=True))
copied = step(30, timing=timing(loader_workers=2, shared_random="rng"))

CASES = [
    Case(
        "inputs-not-scaled", after(wide, losses=flat(100)), "warning", "batch", "inputs-not-scaled",
        {
            "unit scale": after(step(100, layer("first")), losses=flat(100)),
            "the loss falls all the same": after(wide, losses=falling(100)),
            "a normalisation comes first": after(
                replace(wide, layers={"0": layer("0", "BatchNorm1d")}), losses=flat(100)
            ),
            "before 60 steps": after(wide, losses=flat(50)),
            "tokens": after(step(100, layer("first"), batch=batch(inputs=labels(500))), losses=flat(100)),
            "an adversary": after(replace(wide, optimizers=2), losses=flat(100)),
        },
    ),
    Case(
        "inputs-not-scaled", after(marked, losses=flat(100)), "warning", "batch", "inputs-corrupted",
        {"it learns": after(marked, losses=falling(100))}, name="mark for missing values",
    ),
    Case(
        "inputs-collapsed", after(tiny), "warning", "batch", "inputs-collapsed",
        {
            "unit scale": after(step(50)),
            "too soon to tell": after(replace(tiny, step=20)),
            "zeros at a boundary, and it learns": after(
                step(100, batch=batch(inputs=floats(0, 0, std=0.0))), losses=falling(100)
            ),
            "once only": after(tiny, past=[step(i) for i in range(30)]),
            "tokens": after(step(50, batch=batch(inputs=labels(1)))),
            "sparse, and it learns": after(
                step(100, batch=batch(inputs=floats(0, 1, zero_share=0.999))), losses=falling(100)
            ),
        },
    ),
    Case(
        "inputs-collapsed", after(step(50, batch=batch(inputs=floats(0.5, 0.5)))), "warning", "batch",
        "inputs-collapsed", {"they vary": after(step(50, batch=batch(inputs=floats(0.4, 0.6))))}, name="one value",
    ),
    Case(
        "same-batch-always", after(same), "error", "batch", "same-batch-always",
        {
            "other batches": distinct_batches(),
            "the whole data set at once": after(replace(same, timing=timing(loader_batches=1))),
            "no loader to draw from": after(replace(same, timing=None)),
            "four steps": after(same, times=3),
        },
    ),
    Case(
        "same-batch-always", after(replace(same, timing=None, seedings=1)), "error", "batch", "same-batch-always",
        {"seeded once": after(replace(same, timing=None), past=[replace(same, timing=None, seedings=1)] * 4)},
        name="seeded at each step",
    ),
    Case(
        "samples-repeat", after(equal_rows), "error", "batch", "dataset-ignores-index",
        {
            "different samples": after(step(30)),
            "states of zeros and ones": after(step(30, batch=batch(inputs=ones, duplicate_share=0.97))),
            "small batches": after(step(30, batch=batch(rows=8, duplicate_share=0.97))),
            "once only": after(equal_rows, past=[step(i) for i in range(30)]),
        },
    ),
    Case(
        "samples-repeat", after(step(30, batch=batch(duplicate_share=0.6))), "warning", "batch", "sampler-wrong",
        {"a few": after(step(30, batch=batch(duplicate_share=0.3)))}, name="half of them",
    ),
    Case(
        "one-class-per-batch", sorted_classes(), "warning", "batch", "data-not-shuffled",
        {
            "mixed": sorted_classes(9),
            "one class in all": sorted_classes(changes=False),
            "both of two classes": sorted_classes(2, count=2),
        },
    ),
    Case(
        "one-class-per-batch", sorted_classes(2), "warning", "batch", "data-not-shuffled",
        {"three of ten": sorted_classes(3)}, name="two of ten",
    ),
    Case(
        "evaluation-leak", alone(leaking), "warning", "batch", "train-test-leak",
        {
            "none": alone(evaluation(leaked_share=0.0, is_training_set_known=True)),
            "the training set itself": alone(evaluation(leaked_share=1.0, is_training_set_known=True, mixed_share=1.0)),
            "training still brings new samples": alone(evaluation(leaked_share=0.4, mixed_share=1.0)),
            "whole batches are of the training set": alone(evaluation(leaked_share=0.4, is_training_set_known=True)),
            "few samples": alone(evaluation(leaked_share=0.4, is_training_set_known=True, rows=30)),
            "a step": alone(replace(leaking, moment="step")),
            "a pass with every step": alone(
                evaluation(leaked_share=0.4, is_training_set_known=True, mixed_share=1.0, phases=40, steps=40)
            ),
        },
    ),
    Case(
        "loader-empty", alone(replace(step(0), moment="loader", empty_loader=7)), "error", "batch", "loader-empty",
        {"it gave batches": alone(step(0)), "of no rows": alone(replace(step(0), empty_loader=0))},
    ),
    Case(
        "label-in-inputs", after(leaky), "warning", "batch", "label-in-inputs",
        {
            "a good column": after(step(30, batch=batch(label_column=3, label_correlation=0.9))),
            "another one each time": after(
                leaky, past=[step(i, batch=batch(label_column=i, label_correlation=0.99)) for i in range(30)]
            ),
            "four steps": after(leaky, times=3),
        },
    ),
    Case(
        "workers-repeat", after(stream), "error", "batch", "workers-repeat",
        {
            "one worker": after(replace(stream, timing=timing(loader_workers=1, is_stream=True))),
            "in the process itself": after(replace(stream, timing=timing(loader_workers=0, is_stream=True))),
            "drawn with replacement": after(replace(stream, timing=timing(loader_workers=2))),
            "nothing repeats": after(replace(stream, batch=batch())),
        },
    ),
    Case(
        "workers-repeat", after(copied), "warning", "batch", "workers-repeat",
        {"no workers": after(replace(copied, timing=timing(loader_workers=0, shared_random="rng")))},
        name="generator of the data set",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


def test_first_layer_is_an_embedding() -> None:
    """Large whole numbers given as floats are looked up, not multiplied."""
    view = replace(wide, layers={"e": layer("e", "Embedding")})
    assert run("inputs-not-scaled", after(view, losses=flat(100))) == []


def test_batches_without_hashes_are_told_apart_by_their_numbers() -> None:
    """Samples of three values or fewer are not hashed."""
    few = [
        step(i, batch=batch(inputs=floats(mean=0.1), rows=0, repeated_share=None), timing=same.timing) for i in range(9)
    ]
    other = [replace(one, batch=batch(inputs=floats(mean=i / 9), rows=0)) for i, one in enumerate(few)]
    assert len(run("same-batch-always", after(few[-1], past=few[:-1]))) == 1
    assert run("same-batch-always", after(other[-1], past=other[:-1])) == []
    assert all(a.batch != b.batch for a, b in pairwise(other))
