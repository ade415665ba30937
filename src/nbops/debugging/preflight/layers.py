"""What crashes inside one of torch's own modules mean: its settings against what it was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.rnn import RNNBase, RNNCellBase

from nbops.debugging.preflight.explaining import Explanation
from nbops.debugging.preflight.mending import line_patch, resized_and_flat, resized_call
from nbops.debugging.preflight.observing import tag_of
from nbops.debugging.preflight.pooling import explain_pool
from nbops.debugging.preflight.repairs import Repair, remade, replaced, resized
from nbops.debugging.preflight.sites import Site, explain_device, explain_dtype
from nbops.debugging.specs import dtype_name, listed, shape_of, spec

_TRANSFORMER_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def explain_layer(site: Site) -> Explanation | None:
    """Return what the crash of one of torch's modules means; None if the module does not say."""
    if not isinstance(site.x, Tensor):
        return None
    found = _inside_transformer(site, site.x)
    if found is not None:
        return found
    for kinds, explain in _EXPLAINERS:
        if isinstance(site.module, kinds):
            found = explain(site, site.module, site.x)
            if found is not None:
                return found
    return explain_device(site, site.x) or explain_dtype(site, site.x)


def _inside_transformer(site: Site, x: Tensor) -> Explanation | None:
    """Explain a wrong width inside a transformer layer, whose parts nobody sets one by one."""
    path = site.path
    while path:
        path = path.rpartition(".")[0]
        owner = site.subject.module(path) if path else site.subject.model
        if isinstance(owner, _TRANSFORMER_LAYERS):
            break
    else:
        return None
    width, has = int(owner.self_attn.embed_dim), int(x.shape[-1]) if x.ndim else 0
    if has == width or has == int(owner.linear1.out_features):
        return None
    place, kind = site.subject.place_of(path), type(owner).__name__
    heads = math.gcd(int(owner.self_attn.num_heads), has)

    def remake(old: Any) -> nn.Module:
        made: nn.Module = type(old)(has, heads, old.linear1.out_features, batch_first=old.self_attn.batch_first)
        return made

    repairs = [
        Repair(
            f"d_model of '{path}' is {width}, and what it is given has {has} features",
            f"Set d_model={has} in '{path}'.",
            f"nn.{kind}(d_model={has}, …)", 0.8, apply=replaced(path, remake),
            patch=resized_call(place, kind, {"d_model": width}, {"d_model": has}), name="shape-mismatch",
        ),
        *_maker(site, "out_features", nn.Linear, width), *_maker(site, "embedding_dim", nn.Embedding, width),
    ]  # fmt: skip
    what = f"'{path}' ({kind}) takes {width} features and was given {has}"
    found = site.shape(what, *repairs, expected=f"[…, {width}]")
    return replace(found, layer=site.subject.called(path), place=place or found.place)


# ---- by kind ---------------------------------------------------------------------------------------------------------


def _linear(site: Site, m: nn.Linear, x: Tensor) -> Explanation | None:
    shape = shape_of(x)
    if not shape or shape[-1] == m.in_features:
        return None
    has, rest = shape[-1], math.prod(shape[1:])
    repairs: list[Repair] = []
    if x.ndim > 2 and rest == m.in_features:
        repairs.append(site.input(
            f"the input is not flattened: {' × '.join(map(str, shape[1:]))} is {rest}", "x = x.flatten(1)",
            lambda x: x.flatten(1), confidence=0.95, name="flatten-missing",
        ))  # fmt: skip
    elif x.ndim > 3:
        repairs.append(_flattened(site, m, rest))
    if x.ndim > 1 and shape[-2] == m.in_features:
        repairs.append(site.input("the last two axes are swapped", "x = x.transpose(-1, -2)",
                                  lambda x: x.transpose(-1, -2), confidence=0.6))  # fmt: skip
    repairs.append(site.size("in_features", m.in_features, has, confidence=0.85 if x.ndim <= 3 else 0.3))
    repairs += _maker(site, "out_features", nn.Linear, m.in_features)
    return site.shape(f"'{site.path}' takes {m.in_features} features and was given {has}", *repairs,
                      expected=f"[…, {m.in_features}]", )  # fmt: skip


def _flattened(site: Site, m: nn.Linear, features: int) -> Repair:
    def make(old: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Flatten(), remade(old, in_features=features))

    return Repair(
        f"the input is not flattened, and flat it has {features} features",
        f"Flatten the input, x.flatten(1), and set in_features={features} in '{site.path}'.",
        f"nn.Linear({features}, {m.out_features})\nx = x.flatten(1)  # before '{site.path}'", 0.8,
        apply=replaced(site.path, make), name="flatten-missing",
        patch=resized_and_flat(site.crash.place, site.place, site.path, m.in_features, features),
    )  # fmt: skip


def _maker(site: Site, setting: str, kind: type[nn.Module], size: int) -> Iterator[Repair]:
    """Yield the repair of the layer before, if that could give what this one takes."""
    for visit in reversed(site.made.visits):
        if not visit.has_parameters or not visit.is_leaf:
            continue
        maker = dict(site.subject.fake_model.named_modules()).get(visit.path) if site.made.is_fake else None
        if isinstance(maker, kind) and getattr(maker, setting, size) != size:
            place = site.subject.place_of(visit.path)
            now = getattr(maker, setting)
            yield Repair(
                f"{setting} of '{visit.path}', the layer before, should be {size}",
                f"Set {setting}={size} in '{visit.path}'.",
                f"nn.{type(maker).__name__}({setting}={size}, …)", 0.4,
                apply=resized(visit.path, **{setting: size}), name="shape-mismatch",
                patch=resized_call(place, type(maker).__name__, {setting: now}, {setting: size}),
            )  # fmt: skip
        return


def _conv(site: Site, m: _ConvNd, x: Tensor) -> Explanation | None:
    shape, dims = shape_of(x), len(m.kernel_size)
    expected = f"[N, {m.in_channels}, {', '.join('LHW'[:1] if dims == 1 else 'DHW'[-dims:])}]"
    is_single = x.ndim == dims + 1
    if x.ndim not in (dims + 1, dims + 2):
        return _conv_dims(site, m, x, expected)
    has = shape[0 if is_single else 1]
    if has == m.in_channels:
        return _conv_kernel(site, m, x, expected) if not isinstance(m, nn.modules.conv._ConvTransposeNd) else None
    repairs: list[Repair] = []
    if not is_single and shape[-1] == m.in_channels:
        order = (0, dims + 1, *range(1, dims + 1))
        repairs.append(site.input("the channels come last, as in NumPy images", f"x = x.permute{order}",
                                  lambda x: x.permute(order), confidence=0.9))  # fmt: skip
    if is_single and m.in_channels == 1:
        repairs.append(site.input("the axis of the channels is missing", "x = x.unsqueeze(1)",
                                  lambda x: x.unsqueeze(1), confidence=0.95))  # fmt: skip
    if is_single and shape[-1] == m.in_channels:
        order = (dims, *range(dims))
        repairs.append(site.input("the axis of the samples is missing, and the channels come last",
                                  f"x = x.permute{order}.unsqueeze(0)", lambda x: x.permute(order).unsqueeze(0),
                                  confidence=0.7))  # fmt: skip
    if not is_single and has % m.groups == 0:
        repairs.append(site.size("in_channels", m.in_channels, has, confidence=0.8))
        repairs += _maker(site, "out_channels", _ConvNd, m.in_channels)
    return site.shape(f"'{site.path}' takes {m.in_channels} channels and was given {has}", *repairs, expected=expected)


def _conv_dims(site: Site, m: _ConvNd, x: Tensor, expected: str) -> Explanation:
    shape, dims = shape_of(x), len(m.kernel_size)
    repairs = []
    side = round((math.prod(shape[1:]) / m.in_channels) ** (1 / dims))
    if x.ndim == 2 and m.in_channels * side**dims == shape[1]:
        sizes = (-1, m.in_channels, *[side] * dims)
        repairs.append(
            site.input("the images are flat", f"x = x.view{sizes}", lambda x: x.reshape(sizes), confidence=0.9)
        )
    return site.shape(f"'{site.path}' ({site.kind}) takes {dims + 2} axes and was given {x.ndim}", *repairs,
                      expected=expected)  # fmt: skip


def _conv_kernel(site: Site, m: _ConvNd, x: Tensor, expected: str) -> Explanation | None:
    dims = len(m.kernel_size)
    sides = shape_of(x)[-dims:]
    pads = [0] * dims if isinstance(m.padding, str) else [int(p) for p in m.padding]
    reach = [d * (k - 1) + 1 for d, k in zip(m.dilation, m.kernel_size, strict=True)]
    if m.padding == "same" or all(s + 2 * p >= r for s, p, r in zip(sides, pads, reach, strict=True)):
        return None
    small = max(1, min(s + 2 * p for s, p in zip(sides, pads, strict=True)))
    pad = max(math.ceil((r - s) / 2) for s, r in zip(sides, reach, strict=True))
    kernel = m.kernel_size[0]
    repairs = [
        site.size("kernel_size", kernel, small, confidence=0.6,
                  text=f"the kernel of {kernel} is larger than the map of {' × '.join(map(str, sides))}",
                  name="map-too-small"),
        site.size("padding", pads[0], pad, confidence=0.5, text="the map has become too small without padding",
                  name="map-too-small"),
    ]  # fmt: skip
    what = f"the kernel of '{site.path}' is larger than its input ({' × '.join(map(str, sides))})"
    return site.shape(what, *repairs, expected=expected + f" with sides of at least {max(reach) - 2 * min(pads)}")


def _norm(site: Site, m: _NormBase, x: Tensor) -> Explanation | None:
    allowed = {"1": (2, 3), "2": (4,), "3": (5,)}.get(site.kind.rstrip("d")[-1:], ())
    shape = shape_of(x)
    if allowed and x.ndim not in allowed:
        digit = {2: "1", 3: "1", 4: "2", 5: "3"}.get(x.ndim)
        right = f"{site.kind[:-2]}{digit}d"
        repairs = []
        if digit is not None:
            other: type[nn.Module] = getattr(nn, right)
            line = site.place.code if site.place else ""
            repairs.append(Repair(
                f"{site.kind} is for other data", f"Use nn.{right}.",
                f"nn.{right}({m.num_features})", 0.9, patch=line_patch(site.place, line.replace(site.kind, right, 1)),
                apply=replaced(site.path, lambda old: other(m.num_features)), name="shape-mismatch",
            ))  # fmt: skip
        axes = " or ".join(map(str, allowed))
        return site.shape(f"'{site.path}' ({site.kind}) takes {axes} axes and was given {x.ndim}", *repairs,
                          expected=f"{axes} axes")  # fmt: skip
    if x.ndim > 1 and shape[1] != m.num_features:
        repairs = [site.size("num_features", m.num_features, shape[1], confidence=0.85)]
        if shape[-1] == m.num_features:
            repairs.append(site.input("the features come last", "x = x.transpose(1, -1)",
                                      lambda x: x.transpose(1, -1), confidence=0.6))  # fmt: skip
        return site.shape(f"'{site.path}' normalises {m.num_features} features and was given {shape[1]}", *repairs,
                          expected=f"[N, {m.num_features}, …]")  # fmt: skip
    if m.training and x.ndim > 1 and x.numel() == shape[1]:
        fix = Repair("batch normalisation cannot learn from one value for each feature",
                     "Use batches of two samples or more: DataLoader(…, drop_last=True).",
                     "DataLoader(…, drop_last=True)", 0.9, name="last-batch-too-small")  # fmt: skip
        return site.shape(f"'{site.path}' was given one value for each feature, of which it takes the variance", fix,
                          expected="2 values or more for each feature")  # fmt: skip
    return None


def _layer_norm(site: Site, m: nn.LayerNorm | nn.RMSNorm, x: Tensor) -> Explanation | None:
    want, shape = tuple(m.normalized_shape), shape_of(x)
    if shape[-len(want) :] == want:
        return None
    new = shape[-len(want) :]
    old: Any = want[0] if len(want) == 1 else want
    repairs = [site.size("normalized_shape", old, new[0] if len(new) == 1 else new, confidence=0.85)]
    if len(want) == 1 and x.ndim > 2 and shape[1] == want[0]:
        repairs.append(Repair(
            "the features are the second axis here, not the last", f"Use nn.GroupNorm(1, {want[0]}).",
            f"nn.GroupNorm(1, {want[0]})", 0.88, apply=replaced(site.path, lambda _: nn.GroupNorm(1, want[0])),
                name="axes-swapped",
        ))  # fmt: skip
    return site.shape(f"'{site.path}' normalises {listed(want)} and was given {listed(new)}", *repairs,
                      expected=f"[…, {', '.join(map(str, want))}]")  # fmt: skip


def _group_norm(site: Site, m: nn.GroupNorm, x: Tensor) -> Explanation | None:
    shape = shape_of(x)
    if x.ndim < 2 or shape[1] == m.num_channels:
        return None
    groups = math.gcd(m.num_groups, shape[1])
    fix = site.size("num_channels", m.num_channels, shape[1], confidence=0.85, num_groups=groups)
    return site.shape(f"'{site.path}' normalises {m.num_channels} channels and was given {shape[1]}", fix,
                      expected=f"[N, {m.num_channels}, …]")  # fmt: skip


def _recurrent(site: Site, m: RNNBase, x: Tensor) -> Explanation | None:
    shape = shape_of(x)
    order = "[N, length, features]" if m.batch_first else "[length, N, features]"
    if x.ndim not in (2, 3):
        flat = site.input(
            "the features are spread over two axes", "x = x.flatten(2)", lambda x: x.flatten(2), confidence=0.6
        )
        return site.shape(f"'{site.path}' ({site.kind}) takes 3 axes and was given {x.ndim}", flat, expected=order)
    if shape[-1] != m.input_size:
        repairs = [site.size("input_size", m.input_size, shape[-1], confidence=0.85)]
        if x.ndim == 3 and shape[1] == m.input_size:
            repairs.append(site.input("length and features are swapped", "x = x.transpose(1, 2)",
                                      lambda x: x.transpose(1, 2), confidence=0.88))  # fmt: skip
        return site.shape(f"'{site.path}' takes {m.input_size} features and was given {shape[-1]}", *repairs,
                          expected=order.replace("features", str(m.input_size)))  # fmt: skip
    state = site.crash.args[1] if len(site.crash.args) > 1 else site.crash.kwargs.get("hx")
    if state is not None:
        samples = shape[0 if m.batch_first else 1] if x.ndim == 3 else 1
        sides = 2 if m.bidirectional else 1
        want = (m.num_layers * sides, samples, m.hidden_size)
        fix = Repair("the state was made for another batch size or another order of the axes",
                     f"Make it anew for each batch: torch.zeros{want}, with the batch size taken from x.",
                     "h0 = torch.zeros(layers, x.size(0), hidden, device=x.device)", 0.8,
                         name="shape-mismatch")  # fmt: skip
        return site.shape(f"the state of '{site.path}' is {spec(state)}, and this batch needs {listed(want)}", fix,
                          expected=f"a state {listed(want)}")  # fmt: skip
    return None


def _cell(site: Site, m: RNNCellBase, x: Tensor) -> Explanation | None:
    if not x.ndim or x.shape[-1] == m.input_size:
        return None
    fix = site.size("input_size", m.input_size, int(x.shape[-1]), confidence=0.85)
    return site.shape(f"'{site.path}' takes {m.input_size} features and was given {x.shape[-1]}", fix,
                      expected=f"[N, {m.input_size}]")  # fmt: skip


def _embedding(site: Site, m: nn.Embedding, x: Tensor) -> Explanation | None:
    if x.dtype not in (torch.int64, torch.int32):
        fix = site.input("indices are whole numbers", "x = x.long()", lambda x: x.long(), confidence=0.9,
                         name="dtype-mismatch")  # fmt: skip
        what = f"'{site.path}' looks rows up by index and was given {dtype_name(x.dtype)}"
        return site.explained("dtype-mismatch", what, fix, expected=f"int64 {listed(shape_of(x))}")  # fmt: skip
    return explain_range(site, m, x)


def explain_range(site: Site, m: nn.Embedding, x: Tensor) -> Explanation | None:
    """Return the explanation of an index beyond a table."""
    values = tag_of(x).real if site.made.is_fake else x
    if values is None or not values.numel():
        return None
    low, high, size = int(values.min()), int(values.max()), m.num_embeddings
    if low >= 0 and high < size:
        return None
    count = int(((values < 0) | (values >= size)).sum())
    repairs = []
    if high >= size:
        text = f"the table has {size} rows, and the largest index of this batch is {high}"
        repairs.append(
            site.size("num_embeddings", size, high + 1, confidence=0.8, text=text, name="index-out-of-range")
        )
        if low >= 1 and high == size:
            repairs.append(site.input("the indices count from 1", "x = x - 1", lambda x: x - 1, confidence=0.85,
                                      name="index-out-of-range"))  # fmt: skip
    else:
        repairs.append(Repair("negative indices stand for padding or for what is not known",
                              "Give them an index of their own, 0 say, and pass it as padding_idx.",
                              "x = x.clamp(min=0)", 0.7, name="index-out-of-range"))  # fmt: skip
    worst = high if high >= size else low
    what = f"'{site.path}' has rows 0 to {size - 1} and was given index {worst}"
    found = site.explained("index-out-of-range", what, *repairs, expected=f"indices from 0 to {size - 1}")
    found.evidence.update(measured=float(worst), limit=float(size - 1), outside=count)
    return found


def _attention(site: Site, m: nn.MultiheadAttention, x: Tensor) -> Explanation | None:
    rows = [a for a in site.crash.args[:3] if isinstance(a, Tensor)]
    for name, tensor, want in zip(("query", "key", "value"), rows, (m.embed_dim, m.kdim, m.vdim), strict=False):
        if tensor.shape[-1] != want:
            fix = site.size("embed_dim", m.embed_dim, int(tensor.shape[-1]), confidence=0.7)
            what = f"the {name} of '{site.path}' has {tensor.shape[-1]} features, and the layer takes {want}"
            return site.shape(what, fix, expected=f"[…, {want}]")  # fmt: skip
    return None


def _shuffle(site: Site, m: nn.PixelShuffle, x: Tensor) -> Explanation | None:
    square = m.upscale_factor**2
    if x.ndim < 3 or x.shape[-3] % square == 0:
        return None
    return site.shape(f"'{site.path}' needs channels divisible by {square} and was given {x.shape[-3]}",
                      *_maker(site, "out_channels", _ConvNd, math.ceil(int(x.shape[-3]) / square) * square),
                      expected=f"[N, {square} × k, H, W]")  # fmt: skip


def _pool(site: Site, m: nn.Module, x: Tensor) -> Explanation | None:
    return explain_pool(site, m, x)


_EXPLAINERS: tuple[tuple[Any, Callable[[Site, Any, Tensor], Explanation | None]], ...] = (
    (nn.Linear, _linear), (_ConvNd, _conv), (_NormBase, _norm), ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    (nn.GroupNorm, _group_norm), (RNNBase, _recurrent), (RNNCellBase, _cell), (nn.Embedding, _embedding),
    (nn.MultiheadAttention, _attention),
    (nn.PixelShuffle, _shuffle), (nn.Module, _pool),
)  # fmt: skip
