"""Pools that leave nothing of their map: which kernel would make the rest of the network true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from nbops.debugging.preflight.explaining import Explanation
from nbops.debugging.preflight.limits import numbers
from nbops.debugging.preflight.mending import resized_call
from nbops.debugging.preflight.repairs import Repair, replaced, with_settings
from nbops.debugging.specs import shape_of

if TYPE_CHECKING:
    from nbops.debugging.preflight.sites import Site

POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


def explain_pool(site: Site, m: nn.Module, x: Tensor) -> Explanation | None:
    """Return the explanation of a pool whose kernel is larger than its map, with the kernels that would do."""
    if not isinstance(m, POOLS):
        return None
    dims = int(site.kind[-2])
    if x.ndim not in (dims + 1, dims + 2):
        return site.shape(f"'{site.path}' ({site.kind}) takes {dims + 2} axes and was given {x.ndim}",
                          expected=f"{dims + 2} axes")  # fmt: skip
    sides = shape_of(x)[-dims:]
    kernel, stride, pad = (_first(getattr(m, name)) for name in ("kernel_size", "stride", "padding"))
    gives = tuple((side + 2 * pad - kernel) // stride + 1 for side in sides)
    if all(side > 0 for side in gives):
        return None
    repairs = [_kernel(site, m, size, count, kernel, stride) for size, count in _sizes(min(sides), kernel, stride)]
    repairs.append(_adaptive(site, dims))
    words = " × ".join
    found = site.shape(
        f"the kernel of '{site.path}' ({kernel}) is larger than its map: {words(map(str, sides))} would become "
        f"{words(str(max(0, side)) for side in gives)}", *repairs,
        expected=f"a map with sides of at least {kernel - 2 * pad}",
    )  # fmt: skip
    found.evidence.update(kernel=kernel, stride=stride, map=list(sides), gives=[max(0, side) for side in gives])
    return found


def _first(value: Any) -> int:
    return int(numbers(value)[0])


def _sizes(side: int, kernel: int, stride: int) -> Iterator[tuple[int, int]]:
    """Iterate over the kernels worth trying, each with the side it gives: for every side, the kernel that loses least.

    Where the stride was the kernel, it stays so.
    """
    seen = set()
    for size in range(side, 0, -1):
        count = (side - size) // (size if stride == kernel else stride) + 1
        if count not in seen:
            seen.add(count)
            yield size, count


def _kernel(site: Site, m: nn.Module, size: int, count: int, kernel: int, stride: int) -> Repair:
    follows = stride == kernel
    settings = {"kernel_size": size, "stride": size} if follows else {"kernel_size": size}
    words = f"kernel_size=stride={size}" if follows else f"kernel_size={size}"
    return Repair(
        f"a kernel of {size} leaves {count} × {count}, and what follows is made for that",
        f"Set {words} in '{site.path}'.", f"nn.{site.kind}({size})", 0.3, apply=with_settings(site.path, **settings),
        test=f"'{site.path}' gives a side of {count}",
            name="map-too-small", patch=_resized(site, kernel, size, follows),
    )  # fmt: skip


def _resized(site: Site, kernel: int, size: int, follows: bool) -> str:
    """Return the patch of the kernel, and of the stride where that is the kernel and is written."""
    old = {"kernel_size": kernel}
    both = resized_call(site.place, site.kind, old, {"kernel_size": size, "stride": size}) if follows else ""
    return both or resized_call(site.place, site.kind, old, {"kernel_size": size})


def _adaptive(site: Site, dims: int) -> Repair:
    name = f"{'AdaptiveAvgPool' if 'Avg' in site.kind else 'AdaptiveMaxPool'}{dims}d"
    kind: type[nn.Module] = getattr(nn, name)
    return Repair("the map may have any size here", f"Use nn.{name}(1).", f"nn.{name}(1)", 0.25,
                  apply=replaced(site.path, lambda _: kind(1)), name="map-too-small")  # fmt: skip
