"""Each maker of a patch: a source before, and the source after its patch; and sources that it leaves alone."""

from __future__ import annotations

import textwrap

import pytest
import torch

from nbops.debugging.aspects import BatchView, TensorStats
from nbops.debugging.causes import likely
from nbops.debugging.diffs import apply_patch
from nbops.debugging.patching import patch_of, traced
from nbops.debugging.remedies.facts import Facts
from nbops.debugging.views import LayerView, StepView

LOOP = """
net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1), nn.Sigmoid())
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.999)
loader = DataLoader(TensorDataset(x, y), batch_size=32)
for epoch in range(3):
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        optimizer.step()
"""


def patched(cause: str, source: str, facts: Facts | None = None) -> str:
    source = textwrap.dedent(source).strip("\n")
    patch = patch_of(cause, source, facts or Facts())
    return apply_patch(source, patch) if patch else ""


def replaced(source: str, old: str, new: str) -> str:
    """Return a source with `new` in the place of `old`, which stands in it once."""
    source = textwrap.dedent(source).strip("\n")
    assert source.count(old) == 1
    return source.replace(old, new)


def seen(*, mean: float = 0.0, std: float = 1.0, ratio: float = 0.0, inputs: int = 8) -> Facts:
    batch = BatchView(
        inputs=TensorStats((32, inputs), "float32", mean=0.0, std=1.0),
        targets=TensorStats((32,), "float32", mean=mean, std=std), predictions=TensorStats((32, 1), "float32"),
    )  # fmt: skip
    return Facts(StepView(step=3, batch=batch, layers={"0": LayerView("0", update_ratio=ratio)}))


# ---- the loop --------------------------------------------------------------------------------------------------------

BACKWARD = "        loss.backward()\n"
STEP = "        optimizer.step()"


@pytest.mark.parametrize(
    ("cause", "before", "after"),
    [
        ("grads-not-cleared", ("        optimizer.zero_grad()\n", ""),
         (BACKWARD, f"        optimizer.zero_grad()\n{BACKWARD}")),
        ("grads-not-cleared", ("optimizer.zero_grad()", "optimizer.zero_grad"), ("zero_grad\n", "zero_grad()\n")),
        ("grads-cleared-before-step", ("        optimizer.zero_grad()\n", ""), None),
        ("step-missing", (STEP, ""), (BACKWARD.rstrip(), f"{BACKWARD}{STEP}")),
        ("backward-missing", (BACKWARD, ""), ("net(xb), yb)\n", f"net(xb), yb)\n{BACKWARD}")),
        ("loss-sign", ("= criterion(", "= -criterion("), ("= -criterion(", "= criterion(")),
        ("loss-reduction-sum", ("nn.MSELoss()", 'nn.MSELoss(reduction="sum")'), ('"sum"', '"mean"')),
        ("graph-kept", (STEP, f"{STEP}\n        total += loss"), ("+= loss", "+= loss.item()")),
        ("graph-kept", ("loss.backward()", "loss.backward(create_graph=True)"), ("create_graph=True", "")),
        ("eps-wrong", ("momentum=0.999", "eps=0.0"), ("eps=0.0", "eps=1e-8")),
        ("momentum-too-high", ("", ""), ("momentum=0.999", "momentum=0.9")),
        ("weight-decay-too-high", ("momentum=0.999", "weight_decay=1.0"), ("weight_decay=1.0", "weight_decay=1e-4")),
        ("data-not-shuffled", ("", ""), ("batch_size=32", "batch_size=32, shuffle=True")),
        ("last-batch-too-small", ("", ""), ("batch_size=32", "batch_size=32, drop_last=True")),
        ("real-class-ignored", ("nn.MSELoss()", "nn.CrossEntropyLoss(ignore_index=0)"), ("=0)", "=-100)")),
        ("double-softmax", ("", ""), ("nn.Sigmoid()", "nn.Identity()")),
        ("double-softmax", ("nn.MSELoss", "nn.BCEWithLogitsLoss"), ("nn.BCEWithLogitsLoss", "nn.BCELoss")),
        ("logits-to-nll", ("nn.MSELoss", "nn.NLLLoss"), ("nn.NLLLoss", "nn.CrossEntropyLoss")),
        ("train-in-eval-mode", ("", ""),
         ("        optimizer.zero_grad()", "        net.train()\n        optimizer.zero_grad()")),
        ("exploding-gradient", ("", ""),
         (BACKWARD, f"{BACKWARD}        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)\n")),
        ("clip-at-wrong-place", (BACKWARD, f"        clip_grad_norm_(net.parameters(), 1.0)\n{BACKWARD}"),
         (f"        clip_grad_norm_(net.parameters(), 1.0)\n{BACKWARD}",
          f"{BACKWARD}        clip_grad_norm_(net.parameters(), 1.0)\n")),
        ("parameters-not-in-optimizer", ("net.parameters()", "net[0].parameters()"), ("net[0].", "net.")),
        ("parameter-twice-in-optimizer", ("net.parameters()", "[*net.parameters(), *net[0].parameters()]"),
         ("[*net.parameters(), *net[0].parameters()]", "net.parameters()")),
        ("accumulation-not-scaled", (f"{STEP}", f"        if i % 4 == 0:\n    {STEP}"),
         ("loss.backward()", "(loss / 4).backward()")),
        ("nothing-requires-grad", ("        loss = criterion(net(xb), yb)",
                                   "        with torch.no_grad():\n            out = net(xb)\n"
                                   "        loss = criterion(out, yb)"),
         ("torch.no_grad()", "torch.enable_grad()")),
        ("loop-cut-short", (STEP, f"{STEP}\n        break"), ("\n        break", "")),
        ("loader-empty", ("batch_size=32", "batch_size=32, drop_last=True"), ("drop_last=True", "drop_last=False")),
        ("activation-on-output", ("nn.Sigmoid()", "nn.Dropout(0.5)"), ("nn.Dropout(0.5)", "nn.Identity()")),
        ("too-much-regularisation", ("nn.ReLU()", "nn.Dropout(0.95)"), ("0.95", "0.2")),
    ],
)  # fmt: skip
def test_a_loop_is_mended(cause: str, before: tuple[str, str], after: tuple[str, str] | None) -> None:
    sick = LOOP.strip("\n").replace(before[0], before[1], 1) if before[0] else LOOP
    if after is None:
        assert patched(cause, sick) == ""
    else:
        assert patched(cause, sick) == replaced(sick, *after)


def test_clearing_moves_before_the_backward_pass() -> None:
    sick = LOOP.replace("        optimizer.zero_grad()\n", "").replace(STEP, f"        optimizer.zero_grad()\n{STEP}")
    healthy = sick.replace("        optimizer.zero_grad()\n", "").replace(
        BACKWARD, f"        optimizer.zero_grad()\n{BACKWARD}"
    )
    assert patched("grads-cleared-before-step", sick) == healthy.strip("\n")


def test_the_optimizer_is_built_behind_the_model() -> None:
    again = LOOP.replace("loader =", "net = build()\nloader =")
    done = patched("optimizer-of-other-parameters", again)
    assert done.index("net = build()") < done.index("optimizer = ") < done.index("loader =")
    assert done.count("optimizer = ") == 1
    assert patched("optimizer-of-other-parameters", LOOP, Facts(model="other")) == replaced(
        LOOP, "(net.parameters()", "(other.parameters()"
    )


def test_an_optimizer_of_an_unchanged_model_stays_where_it_is() -> None:
    assert patched("optimizer-of-other-parameters", LOOP) == ""
    assert patched("optimizer-of-other-parameters", LOOP.replace("loader =", "nb.watch(net)\nloader =")) == ""
    grown = patched("optimizer-of-other-parameters", LOOP.replace("loader =", "grow(net)\nloader ="))
    assert grown.index("grow(net)") < grown.rindex("optimizer = torch")


def test_a_loop_inside_a_function_is_mended_too() -> None:
    inside = "def train(x, y):\n" + textwrap.indent(LOOP.replace("        optimizer.zero_grad()\n", ""), "    ")
    assert f"    {BACKWARD}".replace("loss.backward", "optimizer.zero_grad") in patched("grads-not-cleared", inside)
    made = "def train(x, y):\n" + textwrap.indent(
        LOOP.replace(
            "        optimizer.zero_grad()\n", "        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        ),
        "    ",
    )
    assert patched("optimizer-rebuilt-in-loop", made).count("optimizer = ") == 1


def test_scores_are_compared_where_classes_were() -> None:
    source = """
        for xb, yb in loader:
            guess = net(xb).argmax(dim=1).float()
            loss = F.mse_loss(guess, yb.float())
            loss.backward()
    """
    done = patched("graph-cut", source)
    assert "guess = net(xb)\n    loss = F.cross_entropy(guess, yb)\n" in done


def test_a_fresh_iterator_in_the_loop_becomes_a_stream() -> None:
    done = patched(
        "same-batch-always",
        """
        for step in range(9):
            xb, yb = next(iter(loader))
            criterion(net(xb), yb).backward()
    """,
    )
    assert done.splitlines()[0] == "stream = (batch for _ in iter(int, 1) for batch in loader)"
    assert "xb, yb = next(stream)" in done


def test_a_stream_of_a_loader_goes_on_for_ever() -> None:
    loader = torch.utils.data.DataLoader(torch.arange(4), batch_size=2)
    stream = (batch for _ in iter(int, 1) for batch in loader)
    assert [next(stream).tolist() for _ in range(5)] == [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1]]


# ---- settings by what was measured -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "made", "ratio", "rate"),
    [
        ("lr-too-high", "SGD(net.parameters(), lr=0.1, momentum=0.999)", 0.05, "0.01"),
        ("lr-too-high", "SGD(net.parameters(), lr=0.1, momentum=0.999)", 5.0, "0.001"),
        ("lr-too-high", "Adam(net.parameters(), lr=1.0)", 5.0, "0.001"),
        ("lr-too-low", "Adam(net.parameters(), lr=1e-6)", 1e-6, "0.001"),
        ("lr-too-low", "SGD(net.parameters(), lr=1e-5)", 2e-6, "0.01"),
    ],
)
def test_a_rate_comes_from_the_length_of_updates(cause: str, made: str, ratio: float, rate: str) -> None:
    source = LOOP.replace("SGD(net.parameters(), lr=0.1, momentum=0.999)", made)
    old = made.partition("lr=")[2].partition(",")[0].rstrip(")")
    assert patched(cause, source, seen(ratio=ratio)) == replaced(source, f"lr={old}", f"lr={rate}")


def test_targets_far_from_unit_scale_scale_the_output_and_the_loss() -> None:
    done = patched("targets-not-scaled", LOOP, seen(mean=150.0, std=80.0))
    assert "net.register_forward_hook(lambda module, inputs, output: output * 80 + 150)\noptimizer =" in done
    assert "loss = criterion(net(xb), yb) / 80**2\n" in done
    assert patched("targets-not-scaled", LOOP, seen()) == ""
    adam = LOOP.replace("SGD", "Adam")
    assert "/ 80**2" not in patched("targets-not-scaled", adam, seen(mean=150.0, std=80.0))


def test_a_bounded_output_is_scaled_to_its_targets() -> None:
    source = "class Net(nn.Module):\n    def forward(self, x):\n        return torch.sigmoid(self.out(x))"
    facts = seen(mean=150.0, std=80.0)
    assert patched("output-range", source, facts) == replaced(
        source, "torch.sigmoid(self.out(x))", "self.out(x) * 80 + 150"
    )
    assert patched("output-range", source, seen()) == replaced(source, "torch.sigmoid(self.out(x))", "self.out(x)")


def test_inputs_are_normalised_in_front_of_the_model() -> None:
    done = patched("inputs-not-scaled", LOOP, seen())
    assert "net = nn.Sequential(nn.BatchNorm1d(8), net)\noptimizer =" in done


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "old", "new"),
    [
        ("log-of-zero", "a = torch.log(p)", "a = torch.log(p.clamp(min=1e-6))"),
        ("log-of-zero", "a = (p + q).log()", "a = ((p + q).clamp(min=1e-6)).log()"),
        ("sqrt-at-zero", "a = (p - q).square().sum(1).sqrt()", "a = ((p - q).square().sum(1) + 1e-6).sqrt()"),
        ("sqrt-at-zero", "a = torch.sqrt(p)", "a = torch.sqrt(p + 1e-6)"),
        ("division-by-zero", "a = p / q.norm(dim=1)", "a = p / (q.norm(dim=1) + 1e-6)"),
        ("exp-overflow", "a = torch.exp(p)", "a = torch.exp(p.clamp(-10, 10))"),
        ("where-gradient", "a = torch.where(p > 0, torch.sqrt(p), q)",
         "a = torch.where(p > 0, torch.sqrt(p.clamp(min=1e-6)), q)"),
        ("half-overflow", "a = p * p", "a = p.float() * p.float()"),
        ("domain-error", "a = torch.log1p(p)", "a = torch.log1p(p.clamp(min=0.0))"),
        ("mask-all-inf", 'a = p.masked_fill(mask, float("-inf"))', "a = p.masked_fill(mask, -1e4)"),
    ],
)  # fmt: skip
def test_the_operation_on_the_line_is_made_safe(cause: str, old: str, new: str) -> None:
    source = f"p, q = 1, 2\n{old}\nb = 3"
    assert patched(cause, source, Facts(line=old)) == source.replace(old, new)
    if cause != "mask-all-inf":
        assert patched(cause, source, Facts(line="b = 3")) == ""


def test_a_softmax_by_hand_subtracts_its_maximum() -> None:
    source = "e = torch.exp(s)\np = e / e.sum(1, keepdim=True)"
    done = patched("exp-overflow", source, Facts(line="e = torch.exp(s)"))
    assert done.startswith("e = torch.exp(s - s.amax(dim=-1, keepdim=True))\n")


def test_rows_that_are_not_finite_are_left_out() -> None:
    done = patched("nan-in-data", LOOP)
    assert "    for xb, yb in loader:\n        is_finite = torch.isfinite(xb)" in done
    assert "        xb, yb = xb[is_finite], yb[is_finite]\n" in done
    spread = LOOP.replace("loader =", "x = (x - x.mean(0)) / x.std(0)\nloader =")
    assert "/ x.std(0).clamp(min=1e-3)" in patched("nan-in-data", spread, Facts(rule="non-finite-batch"))
    named = LOOP.replace("loader =", "mean, std = x.mean(0), x.std(0)\nx = (x - mean) / std\nloader =")
    assert "x.std(0).clamp(min=1e-3)\n" in patched("division-by-zero", named)


# ---- the model -------------------------------------------------------------------------------------------------------

NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(4, 4) for _ in range(3)]
        self.heads = {"a": nn.Linear(4, 1)}
        self.scale = torch.randn(4, requires_grad=True)
        self.embed = nn.Embedding(9, 4, sparse=True)

    def train(self, x, y):
        self.training = False

    def forward(self, x):
        x = F.dropout(x, 0.5)
        x += self.scale
        code = torch.round(x)
        h = torch.from_numpy(np.tanh(code.detach().numpy()))
        return nn.Dropout(0.2)(h)

net = Net()
net.train(x, y)
"""


@pytest.mark.parametrize(
    ("cause", "line", "old", "new"),
    [
        ("modules-not-registered", "self.layers = [nn.Linear(4, 4) for _ in range(3)]",
         "[nn.Linear(4, 4) for _ in range(3)]", "nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])"),
        ("modules-not-registered", 'self.heads = {"a": nn.Linear(4, 1)}', '{"a": nn.Linear(4, 1)}',
         'nn.ModuleDict({"a": nn.Linear(4, 1)})'),
        ("parameter-not-registered", "self.scale = torch.randn(4, requires_grad=True)",
         "torch.randn(4, requires_grad=True)", "nn.Parameter(torch.randn(4))"),
        ("sparse-gradient-unsupported", "", "sparse=True", "sparse=False"),
        ("inplace-breaks-backward", "x += self.scale", "x += self.scale", "x = x + self.scale"),
        ("nondifferentiable-op", "", "torch.round(x)", "x + (torch.round(x) - x).detach()"),
        ("graph-cut", "h = torch.from_numpy(np.tanh(code.detach().numpy()))",
         "torch.from_numpy(np.tanh(code.detach().numpy()))", "torch.tanh(code)"),
    ],
)  # fmt: skip
def test_a_model_is_mended(cause: str, line: str, old: str, new: str) -> None:
    assert patched(cause, NET, Facts(line=line)) == replaced(NET, old, new)


def test_a_method_that_hides_one_of_torch_is_renamed_with_its_calls() -> None:
    done = patched("train-method-overridden", NET, Facts(line="def train(self, x, y):"))
    assert "def fit(self, x, y):\n        self.eval()" in done
    assert done.endswith("net.fit(x, y)")


def test_dropout_follows_the_mode_however_it_is_written() -> None:
    done = patched("dropout-always-on", NET)
    assert "F.dropout(x, 0.5, training=self.training)" in done
    assert "torch.nn.functional.dropout(h, 0.2, training=self.training)" in done


@pytest.mark.parametrize("name", ["___init___", "__int__"])
def test_a_constructor_gets_its_name(name: str) -> None:
    source = f"class Net(nn.Module):\n    def {name}(self):\n        super().__init__()"
    done = patched("constructor-not-run", source, Facts(line=f"def {name}(self):"))
    assert ("def __init__(self):" in done) is ("init" in name)


# ---- what is logged --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "old", "new"),
    [
        ("metric-wrong-axis", "net(x).argmax(0)", "net(x).argmax(1)"),
        ("threshold-on-logits", "(net(x) > 0.5)", "(net(x) > 0)"),
    ],
)
def test_a_metric_is_mended(cause: str, old: str, new: str) -> None:
    assert patched(cause, f"right = {old} == y") == replaced(f"right = {old} == y", old, new)


def test_a_sum_is_reset_at_each_epoch() -> None:
    source = LOOP.replace("for epoch", "running_loss = 0.0\nfor epoch").replace(
        STEP, f"{STEP}\n        running_loss += loss.item()"
    )
    done = patched("metric-not-reset", source)
    assert "for epoch in range(3):\n    running_loss = 0.0\n    for xb" in done
    assert done.count("running_loss = 0.0") == 1


# ---- which cause comes first -----------------------------------------------------------------------------------------


def test_labels_stay_with_their_inputs() -> None:
    alone = LOOP.replace("loader =", "y = y[torch.randperm(len(y))]\nloader =")
    assert patched("labels-not-of-inputs", alone) == LOOP.strip("\n")
    assert patched("labels-not-of-inputs", alone.replace("loader =", "x = x[torch.randperm(len(x))]\nloader =")) == ""
    zipped = LOOP.replace("in loader", "in zip(DataLoader(x, 32, shuffle=True), DataLoader(y, 32, shuffle=True))")
    one = "in DataLoader(torch.utils.data.TensorDataset(x, y), 32, shuffle=True):"
    assert one in patched("labels-not-of-inputs", zipped)
    assert patched("labels-not-of-inputs", LOOP) == ""


def test_a_loader_without_a_batch_gets_smaller_ones() -> None:
    source = LOOP.replace("batch_size=32", "batch_size=256, drop_last=True")
    facts = Facts(StepView(step=0, empty_loader=150))
    assert patched("loader-empty", source, facts) == replaced(source, "batch_size=256", "batch_size=16")


@pytest.mark.parametrize(
    ("line", "cause", "is_first"),
    [
        ("nn.init.zeros_(net[0].weight)", "constant-init", True),
        ("nn.init.constant_(net[0].bias, -4.0)", "constant-init", True),
        ("nn.init.zeros_(net[0].bias)", "constant-init", False),
        ("nn.init.ones_(norm.weight)", "constant-init", False),
    ],
)
def test_an_odd_filling_comes_before_its_consequences(line: str, cause: str, is_first: bool) -> None:
    source = LOOP.replace("criterion =", f"{line}\ncriterion =").replace("0.999", "0.9")
    found = traced(likely("dead-relu", cause), source, rule="never-on")
    assert (found[0].name == cause) is is_first


def test_a_mode_that_is_never_switched_back_explains_steps_that_explode() -> None:
    source = LOOP.replace("0.999", "0.9") + "    net.eval()\n"
    assert traced(likely("lr-too-high"), source, rule="non-finite-loss")[0].name == "train-in-eval-mode"
    teacher = source.replace("net.eval", "teacher.eval")
    assert traced(likely("lr-too-high"), teacher, rule="non-finite-loss")[0].name == "lr-too-high"
    at_last = source.replace("    net.eval()\n", "net.eval()\n")
    assert traced(likely("lr-too-high"), at_last, rule="non-finite-loss")[0].name == "lr-too-high"
    called = "def test(model):\n    model.eval()\n" + source.replace("net.eval()", "test(net)")
    assert traced(likely("lr-too-high"), called, rule="non-finite-loss")[0].name == "train-in-eval-mode"
    back = source + "    net.train()\n"
    assert traced(likely("lr-too-high"), back, rule="non-finite-loss")[0].name == "lr-too-high"
    assert traced(likely("lr-too-high"), source, rule="rate-grows")[0].name == "lr-too-high"


def test_a_rate_inside_its_factor_explains_a_loss_that_stays() -> None:
    scheduler = "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.1 * 0.95**epoch)"
    source = LOOP.replace("0.999", "0.9").replace("loader =", f"{scheduler}\nloader =")
    assert traced(likely("lr-too-high"), source, rule="loss-not-falling")[0].name == "scheduler-misread"
    assert patched("scheduler-misread", source) == replaced(source, "0.1 * 0.95**epoch", "0.95**epoch")


def test_only_odd_fillings_of_a_class_are_changed() -> None:
    lines = "        nn.init.constant_(w.weight, 0.05)\n        nn.init.zeros_(w.bias)"
    source = f"class Net(nn.Module):\n    def __init__(self):\n{lines}"
    new = "nn.init.kaiming_uniform_(w.weight, a=5**0.5)"
    assert patched("constant-init", source) == replaced(source, "nn.init.constant_(w.weight, 0.05)", new)


@pytest.mark.parametrize(("given", "is_loss"), [("total / len(x)", True), ("accuracy", False)])
def test_a_plateau_of_a_loss_has_the_mode_min(given: str, is_loss: bool) -> None:
    made = 'scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max")'
    source = LOOP.replace("loader =", f"{made}\nloader =").replace(STEP, f"{STEP}\n        total += loss.item()")
    source += f"    scheduler.step({given})\n"
    if is_loss:
        assert patched("scheduler-misread", source) == replaced(source, 'mode="max"', 'mode="min"')
    else:
        assert patched("scheduler-misread", source) == ""


def test_a_cause_that_the_source_shows_comes_first() -> None:
    causes = likely("lr-too-high", "loss-reduction-sum")
    summed = LOOP.replace("MSELoss()", 'MSELoss(reduction="sum")').replace("0.999", "0.9")
    names = [c.name for c in traced(causes, summed, rule="poor-start")]
    assert names == ["loss-reduction-sum", "lr-too-high"]
    plain = LOOP.replace("0.999", "0.9")
    assert [c.name for c in traced(causes, plain, rule="poor-start")] == ["lr-too-high", "loss-reduction-sum"]
    found = traced(causes, LOOP, rule="exploding-update-ratio")
    assert [c.name for c in found][:2] == ["momentum-too-high", "lr-too-high"]
    assert [c.confidence for c in found] == sorted((c.confidence for c in found), reverse=True)
