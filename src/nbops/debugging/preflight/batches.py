"""Checks of one real batch: values, scale, layout, padding, duplicates, labels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from nbops.debugging.places import place_of_error
from nbops.debugging.preflight.found import Found, because, check
from nbops.debugging.preflight.subject import Subject
from nbops.debugging.specs import dtype_name, listed, shape_of, spec, tensors_in

LARGE = 100.0  # an input value beyond it is not scaled, whatever it means
PADDED = 0.9
_LOOKED_AT = 4_000_000  # values of one tensor


def _values(tensor: Tensor) -> Tensor:
    """Return a tensor's values on the CPU, at most some millions of them from whole samples."""
    if tensor.numel() > _LOOKED_AT and tensor.ndim:
        tensor = tensor[: max(1, int(len(tensor) * _LOOKED_AT / tensor.numel()))]
    found = tensor.detach()
    return (found.coalesce().values() if found.is_sparse else found).cpu()


def _has_values(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and tensor.device.type != "meta" and not tensor.is_complex()


def _first_layer(subject: Subject) -> nn.Module | None:
    owners = [m for m in subject.model.modules() if any(p is not None for p in m._parameters.values())]
    return owners[0] if owners else None


@check("loading-error", stage="batch")
def failed_loading(subject: Subject) -> Iterator[Found]:
    """Find loaders that cannot give their first batch.

    What it measures
        Whether the data set, the sampler or the function that puts samples together raises, and on which line.
    Why it matters
        Training stops before its first step; with workers the error comes from another process.
    When it is wrong
        Data sets that only work in a worker process.
    Fix
        See the line; samples of different sizes need padding, or a ``collate_fn``.
    References
        torch.utils.data.DataLoader.
    """
    yield from ()  # found while the batch is loaded, in nbops.debugging.preflight.running


def loading_error(error: Exception) -> Found:
    """Return the finding of a loader that raised."""
    message = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
    is_uneven = "stack expects each tensor to be equal size" in str(error) or "equal size" in str(error)
    causes = (because("the samples have different sizes", "Pad them in a collate_fn, or resize them in the data set.",
                      "DataLoader(…, collate_fn=lambda rows: …)", confidence=0.9,
                          name="shape-mismatch"),) if is_uneven else ()  # fmt: skip
    place = place_of_error(error.__traceback__)
    error.__traceback__ = None
    return Found(
        "batch", "error", f"the loader raised {message}", "There is no batch to train on.",
        causes[0].fix if causes else "Look at this line of the data set.", 0.95, place=place,
        expected="samples of one size" if is_uneven else "a batch", got=message, causes=causes, blocks=True,
    )  # fmt: skip


@check("empty-batch", stage="batch")
def empty_batch(subject: Subject) -> Iterator[Found]:
    """Find batches without tensors or without samples.

    What it measures
        The tensors in the batch and their sizes.
    Why it matters
        The loss of no samples is NaN.
    When it is wrong
        Batches of objects that the model turns into tensors itself are left alone.
    Fix
        Look at the data set and its filter.
    References
        None.
    """
    for path, tensor in tensors_in(subject.batch):
        if tensor.ndim and not tensor.numel():
            yield Found(
                "batch", "error", f"{path or 'the batch'} holds no values: {spec(tensor)}",
                "The loss of nothing is NaN.",
                "Look at what the data set gives.", 0.95, expected="one sample or more", got=spec(tensor), blocks=True,
                causes=(because("the data set or a filter of it is empty", "Look at len(dataset).",
                    name="loader-empty"),),
            )  # fmt: skip


@check("non-finite-batch", stage="batch")
def non_finite_batch(subject: Subject) -> Iterator[Found]:
    """Find NaN and infinity in the batch.

    What it measures
        Each floating tensor of inputs and targets; the share of samples with a value that is not finite.
    Why it matters
        One such value makes the loss NaN, and with it all weights.
    When it is wrong
        Models that mask such values themselves.
    Fix
        Fill or drop the samples that are named; scale without dividing by a deviation of 0.
    References
        UMLAUT (CHI 2021), check "NaN in input"; keras issue 6921, "give me the batch".
    """
    for path, tensor in [*subject.inputs, *subject.targets]:
        if not tensor.is_floating_point() or not _has_values(tensor):
            continue
        bad = ~torch.isfinite(_values(tensor))
        count = int(bad.sum())
        if not count:
            continue
        rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten().tolist() if bad.ndim else [0]
        is_target = path.startswith("target")
        yield Found(
            "target" if is_target else "batch", "error", f"{path} holds {count} values that are not finite",
            "They make the loss NaN, and one step later all weights.", "Fill or drop these samples.", 0.95,
            measured=float(count), limit=0.0, expected="finite values",
            got=f"{count} NaN or infinite, in sample {rows[0]}",
            causes=(
                because("the raw data have gaps", "Fill them or drop the rows.", "x = torch.nan_to_num(x)",
                        confidence=0.6, name="nan-in-data"),
                because("a feature was divided by a deviation of 0", "Add a small number to the deviation.",
                        "(x - mean) / (std + 1e-8)", confidence=0.3, name="division-by-zero"),
            ),
            evidence={"samples": rows[:20]},
        )  # fmt: skip


@check("unscaled-input", stage="forward")
def unscaled_input(subject: Subject) -> Iterator[Found]:
    """Find inputs on a scale that slows or breaks training.

    What it measures
        Largest value and deviation of floating inputs: images from 0 to 255, features beyond 100. In a pass with values
        it is what the first layer with weights is given that counts, so a model that scales by itself is left alone.
    Why it matters
        The first step is as many times too large; losses explode or units die.
    When it is wrong
        A first layer that normalises (batch normalisation) is left alone. Deliberately large inputs are not.
    Fix
        Divide images by 255; standardise features with mean and deviation of the training set.
    References
        DeepDiagnosis (ICSE 2022), decision "normalise the data"; SageMaker Debugger, rule CheckInputImages.
    """
    first = _first_layer(subject)
    if first is None or isinstance(first, _NormBase | nn.LayerNorm | nn.GroupNorm | nn.Embedding):
        return
    seen = _seen_by_first_layer(subject)
    for path, tensor in subject.inputs:
        if not tensor.is_floating_point() or not _has_values(tensor) or tensor.ndim < 2:
            continue
        x = _values(tensor).float()
        low, high = (float(x.min()), float(x.max())) if seen is None else seen
        size = max(abs(low), abs(high))
        if not size > LARGE or not torch.isfinite(x).all():
            continue
        is_image = low >= 0 and 128 <= high <= 255 and x.ndim >= 3
        spread = f"{low:.4g} to {high:.4g}"
        yield Found(
            "batch", "warning", f"{path} ranges from {spread}" + (": bytes of images" if is_image else ""),
            "With inputs of this size the first steps are as many times too large.",
            "Divide by 255." if is_image else "Standardise each feature: (x - mean) / std.", 0.85 if is_image else 0.7,
            measured=size, limit=LARGE, expected="about -3 to 3", got=spread,
            place=subject.definitions.of_variable(subject.batch),
            causes=(because("the images were not scaled", "Divide by 255, best in the data set.", "x = x / 255",
                            confidence=0.9, name="inputs-not-scaled")
                    if is_image else because("the features keep their own units", "Standardise them.",
                                             "x = (x - x.mean(0)) / (x.std(0) + 1e-8)", confidence=0.85,
                                                 name="inputs-not-scaled"),),
            evidence={"low": low, "high": high},
        )  # fmt: skip


def _seen_by_first_layer(subject: Subject) -> tuple[float, float] | None:
    """Return the range that the first layer with weights was given; None where no pass with values was run."""
    if subject.explanations is None or not subject.training.is_complete or subject.values is None:
        return None
    return next(
        (visit.input_range for visit in subject.values.visits if visit.has_parameters and visit.input_range), None
    )


@check("constant-input", stage="batch")
def constant_input(subject: Subject) -> Iterator[Found]:
    """Find inputs that say nothing: all values equal, or all samples alike.

    What it measures
        Whether each input tensor has more than one value, and more than one sample that differs.
    Why it matters
        There is nothing to learn from.
    When it is wrong
        Masks of ones, and inputs that are the same for all samples on purpose beside others that are not.
    Fix
        Look at the loading and at the scaling of the data.
    References
        TheDeepChecker (TOSEM 2022), data checks.
    """
    wide = [(path, t) for path, t in subject.inputs if _has_values(t) and t.ndim and len(t) > 3 and t.numel() > 3]
    flat = []
    for path, tensor in wide:
        x = _values(tensor)
        rows = x.reshape(len(x), -1)
        if bool((rows == rows[:1]).all()):
            flat.append((path, "every sample is the same" if rows.shape[1] > 1 and bool((rows[0] != rows[0, 0]).any())
                         else f"every value is {float(rows[0, 0]):g}"))  # fmt: skip
    if wide and len(flat) == len(wide):
        path, what = flat[0]
        yield Found(
            "batch", "warning", f"in {path} {what}", "A model cannot tell the samples apart.",
            "Look at how the data are loaded and scaled.", 0.85, measured=1.0, expected="samples that differ", got=what,
            causes=(
                because("the data set returns one sample for every index", "Use the index in __getitem__.",
                        confidence=0.5, name="dataset-ignores-index"),
                because("scaling removed the differences (whole numbers were divided as whole numbers)",
                        "Scale in floating point.", "x.float() / 255", confidence=0.4, name="inputs-collapsed"),
            ),
        )  # fmt: skip


@check("duplicate-samples", stage="batch")
def duplicate_samples(subject: Subject) -> Iterator[Found]:
    """Find batches that hold the same sample many times.

    What it measures
        The share of samples that equal an earlier one in all inputs, where samples have 8 values or more.
    Why it matters
        The batch says less than its size; the same rows in training and validation flatter the result.
    When it is wrong
        Oversampling of rare classes, and data with few possible values.
    Fix
        Look at the sampler; drop duplicates before splitting.
    References
        TheDeepChecker (TOSEM 2022).
    """
    size = subject.batch_size
    parts = [
        _values(t).reshape(size, -1).double() for _, t in subject.inputs if _has_values(t) and t.shape[:1] == (size,)
    ]
    parts = [p for p in parts if len(p) == size]
    if size < 8 or not parts:
        return
    rows = torch.cat(parts, 1)
    if rows.shape[1] < 8 or rows.numel() > _LOOKED_AT or not any(t.is_floating_point() for _, t in subject.inputs):
        return
    share = 1 - len(torch.unique(rows, dim=0)) / size
    if 0.5 < share < 1 - 1 / size:
        yield Found(
            "batch", "warning", f"{share:.0%} of the samples are copies of others in the batch",
            "The batch says less than its size.", "Look at the sampler and at duplicates in the data.", 0.6,
            measured=share, limit=0.5, expected="different samples", got=f"{share:.0%} copies",
            causes=(because("the sampler draws with replacement from few rows", "Look at the sampler.",
                            confidence=0.5, name="sampler-wrong"),),
        )  # fmt: skip


@check("padded-batch", stage="batch")
def padded_batch(subject: Subject) -> Iterator[Found]:
    """Find batches of sequences that are mostly padding.

    What it measures
        The share of the most frequent index in each index tensor, where that is the padding index of an embedding,
        or 0.
    Why it matters
        Most of the computation is spent on nothing, and a loss without ``ignore_index`` learns to predict padding.
    When it is wrong
        Index 0 is a common word.
    Fix
        Sort samples by length into batches, cut at a lower length, set ``ignore_index`` or a mask.
    References
        SageMaker Debugger, rule NLPSequenceRatio (50 %).
    """
    pads = {m.padding_idx for m in subject.model.modules() if isinstance(m, nn.Embedding) and m.padding_idx is not None}
    if not any(isinstance(m, nn.Embedding) for m in subject.model.modules()):
        return
    for path, tensor in subject.inputs:
        if tensor.dtype != torch.int64 or tensor.ndim != 2 or not _has_values(tensor) or tensor.shape[1] < 4:
            continue
        x = _values(tensor)
        counts = {pad: float((x == pad).float().mean()) for pad in pads or {0}}
        pad, share = max(counts.items(), key=lambda item: item[1])
        if share > PADDED and int(x.max()) > int(x.min()):
            yield Found(
                "batch", "warning", f"{share:.0%} of {path} is the padding index {pad}",
                "Most of the work is done on padding.", "Put sequences of like length together, or cut them shorter.",
                0.65,
                measured=share, limit=PADDED, expected=f"at most {PADDED:.0%} padding", got=f"{share:.0%}",
                causes=(because("all sequences are padded to the longest of the data set", "Pad within each batch.",
                                "nn.utils.rnn.pad_sequence(batch, batch_first=True)", confidence=0.7,
                                    name="padding-read"),),
            )  # fmt: skip


@check("image-layout", stage="batch")
def image_layout(subject: Subject) -> Iterator[Found]:
    """Find images whose channels come last although the model takes them first.

    What it measures
        Four-dimensional inputs whose last axis is 1, 3 or 4 and whose second is the number of channels that the first
        convolution takes only by chance.
    Why it matters
        Where the sizes happen to fit, rows are taken for channels and nothing fails.
    When it is wrong
        Images that are 3 or 4 pixels wide.
    Fix
        ``x.permute(0, 3, 1, 2)``.
    References
        torch.nn.Conv2d.
    """
    first = _first_layer(subject)
    if not isinstance(first, _ConvNd):
        return
    for path, tensor in subject.inputs:
        if tensor.ndim != 4 or not tensor.is_floating_point():
            continue
        _, second, third, last = shape_of(tensor)
        if last in (1, 3, 4) and third > 8 and second == first.in_channels and second > 8 and second == third:
            yield Found(
                "batch", "warning", f"{path} looks like images with their channels last: {listed(shape_of(tensor))}",
                "Its rows are taken for channels.",
                "Write x.permute(0, 3, 1, 2), and set in_channels to the channels.", 0.7,
                expected=f"[N, {last}, H, W]", got=spec(tensor),
                causes=(because("the images come from NumPy or PIL", "Permute them.", "x = x.permute(0, 3, 1, 2)",
                    name="axes-swapped"),),
            )  # fmt: skip


@check("one-class-batch", stage="batch")
def one_class_batch(subject: Subject) -> Iterator[Found]:
    """Find batches whose labels are all the same, all ignored, or nearly so.

    What it measures
        Labels (whole numbers, one per sample) of batches of 8 samples or more: how many different ones there are, how
        many equal ``ignore_index``, and the share of the most frequent one.
    Why it matters
        Sorted data let the model unlearn one class after the other; with only ignored labels the loss is NaN.
    When it is wrong
        Rare positives: then most batches are of one class by chance.
    Fix
        ``shuffle=True``; a sampler that mixes the classes; ``class_weight`` for rare ones.
    References
        SageMaker Debugger, rule ClassImbalance; TheDeepChecker (label perplexity of at least 0.5).
    """
    ignored = getattr(subject.loss, "ignore_index", None)
    for _, target in subject.targets:
        if target.is_floating_point() or target.dtype == torch.bool or not _has_values(target):
            continue
        y = _values(target).flatten()
        if ignored is not None and bool((y == ignored).all()):
            yield Found(
                "target", "error", f"every label is {ignored}, which the loss ignores", "The mean of nothing is NaN.",
                "Look at how labels are masked.", 0.95, measured=1.0, limit=1.0, expected="labels that count",
                got=f"only {ignored}",
                causes=(because("the mask hides every token", "Look at what is masked.", confidence=0.7,
                    name="mask-inverted"),),
            )  # fmt: skip
            continue
        if target.ndim > 1 and target.shape[-1] != 1:
            continue
        values, counts = torch.unique(y, return_counts=True)
        share = float(counts.max()) / len(y)
        if len(values) == 1 and len(y) >= 8:
            yield Found(
                "target", "warning", f"all {len(y)} labels of the batch are {int(values[0])}",
                "If every batch is of one class, the model forgets the others.",
                "Shuffle: DataLoader(…, shuffle=True).", 0.6,
                measured=1.0, limit=0.98, expected="several classes", got=f"only {int(values[0])}",
                causes=(
                    because("the data are sorted by class and not shuffled", "Set shuffle=True.",
                            "DataLoader(dataset, batch_size, shuffle=True)", confidence=0.6, name="data-not-shuffled"),
                    because("the labels are read from the wrong column", "Look at the labels.", confidence=0.3,
                        name="labels-not-of-inputs"),
                ),
            )  # fmt: skip
        elif share > 0.98 and len(y) >= 64:
            yield Found(
                "target", "hint", f"{share:.0%} of the labels are {int(values[counts.argmax()])}",
                "Always answering with that one is nearly right.", "Weigh the classes, or sample them evenly.", 0.6,
                measured=share, limit=0.98, expected="a mix of classes",
                got=f"{dtype_name(y.dtype)}, {share:.0%} alike",
                causes=(because("the classes are rare", "Weigh them.", "nn.CrossEntropyLoss(weight=…)",
                                confidence=0.6, name="classes-imbalanced"),),
            )  # fmt: skip
