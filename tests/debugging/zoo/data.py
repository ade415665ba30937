"""Small data sets that need no network, and the measures that programs of the zoo end with."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import sklearn.datasets
import torch
from torch import Tensor, nn

Split = tuple[Tensor, Tensor, Tensor, Tensor]


@functools.cache
def _bunch(name: str) -> Any:
    return getattr(sklearn.datasets, f"load_{name}")()


def _split(x: Tensor, y: Tensor, *, share: float = 0.8) -> Split:
    """Return x_train, y_train, x_test, y_test; always the same rows."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1234))
    x, y, cut = x[order], y[order], int(share * len(x))
    return x[:cut].clone(), y[:cut].clone(), x[cut:].clone(), y[cut:].clone()


def digits(*, flat: bool = False) -> Split:
    """Images float32 [1437 and 360, 1, 8, 8] (or [n, 64]) from 0 to 1, and labels int64 0 to 9."""
    bunch = _bunch("digits")
    x = torch.tensor(bunch.data, dtype=torch.float32) / 16
    return _split(x if flat else x.view(-1, 1, 8, 8), torch.tensor(bunch.target))


def raw_digits() -> Split:
    """The same images as uint8 [n, 1, 8, 8] from 0 to 255, as files hold them."""
    x, y, xt, yt = digits()
    return (x * 255).to(torch.uint8), y, (xt * 255).to(torch.uint8), yt


def table(name: str, *, scaled: bool = True) -> Split:
    """One of scikit-learn's tables: iris, wine, breast_cancer (int64 labels) or diabetes (float32 [n, 1] targets)."""
    bunch = _bunch(name) if name != "diabetes" else sklearn.datasets.load_diabetes(scaled=False)
    x = torch.tensor(bunch.data, dtype=torch.float32)
    y = torch.tensor(bunch.target)
    y = y.float().unsqueeze(1) if name == "diabetes" else y.long()
    x, y, xt, yt = _split(x, y)
    if scaled:
        mean, std = x.mean(0), x.std(0)
        x, xt = (x - mean) / std, (xt - mean) / std
    return x, y, xt, yt


def line(n: int = 512, *, noise: float = 0.1) -> Split:
    """Inputs [n, 3] and targets [n, 1] of a linear relation, both about unit scale."""
    g = torch.Generator().manual_seed(7)
    x = torch.randn(n, 3, generator=g)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + noise * torch.randn(n, 1, generator=g)
    return _split(x, y)


def wave(n: int = 1024, *, length: int = 24) -> Split:
    """Windows [n, length, 1] of a noisy sum of sines, and the next value [n, 1]."""
    g = torch.Generator().manual_seed(8)
    t = torch.arange(n + length, dtype=torch.float32)
    y = (torch.sin(t / 5) + 0.5 * torch.sin(t / 2) + 0.05 * torch.randn(n + length, generator=g)) / 1.5
    x = y.unfold(0, length, 1)[:n].unsqueeze(-1).clone()
    return _split(x, y[length : length + n].unsqueeze(1).clone())


def order_task(n: int = 1500, *, length: int = 10, words: int = 8) -> Split:
    """Token sequences int64 [n, length]; the label tells whether word 1 comes before word 2. Both occur once."""
    g = torch.Generator().manual_seed(9)
    x = torch.randint(3, words, (n, length), generator=g)
    places = torch.stack([torch.randperm(length, generator=g)[:2] for _ in range(n)])
    rows = torch.arange(n)
    x[rows, places[:, 0]], x[rows, places[:, 1]] = 1, 2
    return _split(x, (places[:, 0] < places[:, 1]).long())


def ragged(n: int = 1200, *, longest: int = 30, words: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Token sequences int64 [n, longest] padded with 0, their lengths, and the class (0 to 3) of the first word."""
    g = torch.Generator().manual_seed(10)
    lengths = torch.randint(3, 9, (n,), generator=g)
    x = torch.randint(5, words, (n, longest), generator=g)
    y = torch.randint(0, 4, (n,), generator=g)
    x[:, 0] = y + 1
    x[torch.arange(longest) >= lengths[:, None]] = 0
    return x, lengths, y


@functools.cache
def text() -> str:
    """Some 20,000 characters of English that ship with scikit-learn: what it says about its data sets."""
    names = ("iris", "digits", "wine", "breast_cancer", "diabetes", "linnerud")
    return "\n".join(_bunch(name).DESCR for name in names).lower()


def characters() -> tuple[Tensor, int]:
    """The text as int64 character ids, and how many characters there are."""
    known = {c: i for i, c in enumerate(sorted(set(text())))}
    return torch.tensor([known[c] for c in text()]), len(known)


def words(*, most: int = 400) -> tuple[Tensor, int]:
    """The text as int64 word ids (0 is every rare word), and the size of the vocabulary."""
    found = "".join(c if c.isalpha() else " " for c in text()).split()
    counts: dict[str, int] = {}
    for word in found:
        counts[word] = counts.get(word, 0) + 1
    known = {w: i for i, w in enumerate(sorted(counts, key=lambda w: (-counts[w], w))[: most - 1], 1)}
    return torch.tensor([known.get(w, 0) for w in found]), most


def windows(ids: Tensor, count: int, length: int) -> tuple[Tensor, Tensor]:
    """Return `count` random windows of `length`, and the same moved on by one; both int64 [count, length]."""
    starts = torch.randint(0, len(ids) - length - 1, (count,))
    rows = starts[:, None] + torch.arange(length)
    return ids[rows], ids[rows + 1]


def batches(*tensors: Tensor, size: int = 64, shuffle: bool = True) -> Iterator[tuple[Tensor, ...]]:
    """One epoch of batches of the same rows of all tensors; the last one may be smaller."""
    order = torch.randperm(len(tensors[0])) if shuffle else torch.arange(len(tensors[0]))
    for rows in order.split(size):
        yield tuple(t[rows] for t in tensors)


def predict(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return what a model gives in evaluation mode; the mode is put back."""
    was_training = isinstance(model, nn.Module) and [m.training for m in model.modules()]
    if isinstance(model, nn.Module):
        nn.Module.train(model, False)
    with torch.no_grad():
        out = model(x)
    if isinstance(model, nn.Module):
        for module, mode in zip(model.modules(), was_training, strict=True):
            module.training = mode
    return out


def accuracy(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """Share of right classes, evaluated as it should be."""
    return (predict(model, x).argmax(-1) == y).float().mean().item()


def balanced_accuracy(predicted: Tensor, y: Tensor) -> float:
    """Mean over the classes of the share that is recognised."""
    return float(np.mean([(predicted[y == c] == c).float().mean().item() for c in y.unique()]))


def r2(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """Explained share of the targets' variance; NaN if an output is not finite."""
    out = predict(model, x).reshape(y.shape)
    value = (1 - (out - y).square().mean() / (y - y.mean()).square().mean()).item()
    return max(value, -10.0) if math.isfinite(value) else math.nan


def graph_nodes(kept: Any) -> int:
    """Return how many nodes of autograd graphs are held by a value, or by the values of a list."""
    tensors = kept if isinstance(kept, list) else [kept]
    open_ = [t.grad_fn for t in tensors if isinstance(t, Tensor) and t.grad_fn is not None]
    seen = set(open_)
    while open_:
        for node, _ in open_.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                open_.append(node)
    return len(seen)


def resident_mb() -> float:
    """Memory of this process in MB."""
    import psutil

    return psutil.Process().memory_info().rss / 1e6
