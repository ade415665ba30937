"""The one table that a new rule needs a line in: what the rules' names, texts and places mean in the zoo's words."""

from __future__ import annotations

# rule -> ids of `zoo.causes.CAUSES` that it stands for, most likely first, where its finding names no causes
CAUSES_OF_RULE: dict[str, tuple[str, ...]] = {
    "no-constructor": ("constructor-not-run",),
    "shape-mismatch": ("shape-mismatch", "axes-swapped"),
    "dtype-mismatch": ("dtype-mismatch",),
    "index-out-of-range": ("index-out-of-range", "label-out-of-range"),
    "wrong-call": ("output-not-tensor",),
    "in-place-change": ("inplace-breaks-backward",),
    "illegal-optimizer-setting": ("eps-wrong", "lr-too-high", "momentum-too-high"),
    "overridden-method": ("train-method-overridden",),
    "parameters-not-in-optimizer": ("parameters-not-in-optimizer",),
    "optimizer-of-another-model": ("optimizer-of-other-parameters",),
    "unregistered-module": ("modules-not-registered",),
    "unregistered-parameter": ("parameter-not-registered",),
    "padded-batch": ("padding-read",),
    "no-gradient": ("graph-cut", "wrong-backward"),
    "zero-gradient": ("nondifferentiable-op", "graph-cut"),
    "double-activation": ("double-softmax",),
    "missing-activation": ("logits-to-nll", "missing-activation"),
    "unreachable-target": ("output-range", "targets-not-scaled"),
    "broadcast-loss": ("loss-broadcast",),
    "constant-output": ("softmax-over-wrong-axis", "constant-init"),
    "constant-input": ("inputs-collapsed", "dataset-ignores-index"),
    "unscaled-input": ("inputs-not-scaled",),
    "duplicate-samples": ("sampler-wrong", "same-batch-always"),
    "one-class-batch": ("data-not-shuffled",),
    "non-finite-batch": ("nan-in-data", "division-by-zero"),
    "dropout-in-evaluation": ("dropout-always-on",),
    "last-batch": ("last-batch-too-small",),
}

# (rule or "" for any, part of the text of one of its causes) -> id of the cause; comes before `CAUSES_OF_RULE`
CAUSES_OF_TEXT: dict[tuple[str, str], str] = {
    ("", "runs over an axis of size 1"): "softmax-over-wrong-axis",
    ("constant-input", "the data set returns one sample"): "dataset-ignores-index",
    ("constant-input", "scaling removed"): "inputs-collapsed",
    ("duplicate-samples", "the sampler draws"): "sampler-wrong",
    ("illegal-optimizer-setting", "eps="): "eps-wrong",
    ("illegal-optimizer-setting", "lr="): "lr-too-high",
    ("illegal-optimizer-setting", "momentum"): "momentum-too-high",
    ("illegal-optimizer-setting", "sparse"): "sparse-gradient-unsupported",
    ("index-out-of-range", "label"): "label-out-of-range",
    ("index-out-of-range", "the table has"): "index-out-of-range",
    ("non-finite-batch", "divided by a deviation"): "division-by-zero",
    ("non-finite-batch", "gaps"): "nan-in-data",
    ("non-finite-start", "a logarithm or a root"): "log-of-zero",
    ("non-finite-start", "a mask"): "mask-all-inf",
    ("non-finite-start", "exp of large"): "exp-overflow",
    ("shape-mismatch", "channels come last"): "axes-swapped",
    ("shape-mismatch", "not flattened"): "flatten-missing",
    ("shape-mismatch", "a kernel of"): "map-too-small",
    ("shape-mismatch", "it mixes samples"): "batch-axis-mixed",
    ("shape-mismatch", "in_features"): "shape-mismatch",
    ("shape-mismatch", "in_channels"): "shape-mismatch",
    ("shape-mismatch", "two paths"): "shape-mismatch",
    ("unreachable-target", "the output layer ends"): "output-range",
    ("unreachable-target", "not scaled"): "targets-not-scaled",
}

# what a finding calls a place -> what the programs call it
PLACES: dict[str, str] = {"(all)": "model", "input": "batch", "inputs": "batch", "data": "batch", "target": "batch"}
