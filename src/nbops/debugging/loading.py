"""One batch of what a training loop iterates over, taken without side effects, and the size of an epoch's last one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import GeneratorType
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from nbops.core.errors import InvalidInput
from nbops.debugging.randomness import untouched_randomness


def one_batch(batch: Any) -> Any:
    """Return the batch to look at: what was given, or the first batch of a loader.

    Random states and the loader's generator are put back; the workers of a ``DataLoader`` are not started.

    Parameters
    ----------
    batch : object
        A batch as a loop gets it, a ``DataLoader``, or anything else that can be iterated over more than once and gives
        batches: a list of them, a loader of one's own.

    Raises
    ------
    InvalidInput
        A generator, which would lose its first batch; a data set without a loader; a loader that is empty.
    """
    if isinstance(batch, GeneratorType) or (isinstance(batch, Iterator) and type(batch).__module__ == "builtins"):
        raise InvalidInput("an iterator would lose its first batch", hint="Pass the loader, or next(iterator).")
    if isinstance(batch, DataLoader):
        return _of_loader(batch)
    if isinstance(batch, Dataset) and not hasattr(batch, "__iter__"):
        raise InvalidInput(
            f"{type(batch).__name__} is a data set, not a batch", hint="Pass DataLoader(dataset, batch_size=…)."
        )
    if isinstance(batch, list):
        return batch[0] if _are_batches(batch) else batch
    if isinstance(batch, Tensor | Mapping | tuple | str) or not _iterates(batch):
        return batch
    with untouched_randomness():
        first = _first(batch)
    return first if _is_batch(first) else batch


def last_of(batch: Any, first: Any, variables: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Return how many samples the last batch of an epoch has, as in `last_size`, and whether a loader tells it.

    Parameters
    ----------
    batch, first : object
        What was given, and its first batch.
    variables : mapping
        The caller's: a loader that gave the batch may be among them.
    """
    loader = batch if isinstance(batch, DataLoader) else _loader_of(first, variables)
    return (None, False) if loader is None else (last_size(loader), True)


def last_size(loader: DataLoader[Any]) -> int | None:
    """Return how many samples the last batch of an epoch has; None if it is as large as the others or not known."""
    size = loader.batch_size
    if size is None or loader.drop_last or isinstance(loader.dataset, IterableDataset):
        return None
    try:
        rest = len(loader.sampler) % size  # type: ignore[arg-type]
    except TypeError:  # a sampler without a length
        return None
    return rest or None


def _loader_of(batch: Any, variables: Mapping[str, Any]) -> DataLoader[Any] | None:
    """Return the only loader among some variables that may have given a training batch: of its size, and shuffled."""
    found = {id(v): v for v in variables.values() if isinstance(v, DataLoader) and isinstance(v.sampler, RandomSampler)}
    first = batch
    while isinstance(first, list | tuple) and first:
        first = first[0]
    size = len(first) if isinstance(first, Tensor) and first.ndim else None
    fits = [one for one in found.values() if size is not None and one.batch_size == size]
    return fits[0] if len(fits) == 1 else None


def _of_loader(loader: DataLoader[Any]) -> Any:
    generator = loader.generator
    state = generator.get_state() if generator is not None else None
    try:
        with untouched_randomness():
            is_plain = type(loader).__iter__ is DataLoader.__iter__ and loader.batch_sampler is not None
            if not is_plain or isinstance(loader.dataset, IterableDataset):
                return _first(loader)
            rows: list[int] = _first(loader.batch_sampler)
            whole = getattr(loader.dataset, "__getitems__", None)
            samples = whole(rows) if whole is not None else [loader.dataset[row] for row in rows]
            return loader.collate_fn(samples)
    finally:
        if generator is not None and state is not None:
            generator.set_state(state)


def _first(loader: Any) -> Any:
    for batch in loader:
        return batch
    raise InvalidInput(f"{type(loader).__name__} gives no batch", hint="Look at its length and at drop_last.")


def _iterates(value: Any) -> bool:
    return hasattr(type(value), "__iter__") and not hasattr(value, "keys")


def _is_batch(value: Any) -> bool:
    """Return whether a value holds tensors, and no name before them, as the items of a mapping would."""
    if isinstance(value, Mapping):
        return any(_is_batch(item) for item in value.values())
    if isinstance(value, list | tuple):
        return not any(isinstance(item, str) for item in value[:1]) and any(_is_batch(item) for item in value)
    return isinstance(value, Tensor)


def _are_batches(rows: list[Any]) -> bool:
    """Return whether the items of a list are batches of one kind, not the parts of one batch."""
    kinds = {_form(row) for row in rows}
    return len(kinds) == 1 and isinstance(rows[0], list | tuple | Mapping) and _is_batch(rows[0])


def _form(value: Any) -> Any:
    """Return what batches of one loader have in common: keys, types, and the shape of a sample."""
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape[1:])
    if isinstance(value, Mapping):
        return tuple((key, _form(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_form, value))
    return type(value)
