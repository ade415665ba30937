"""Order, rebuilding, schedules, checkpoints and graphs: cells that a rule must find, and cells that it must not."""

from __future__ import annotations

import pytest

from tests.debugging.reading.cells import read, told

SICK = {
    "one-model-for-all-folds": ("model-kept-over-folds", """
        from sklearn.model_selection import KFold
        look(net)
        for train, held_out in KFold(5, shuffle=True).split(x.numpy()):
            optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
            for epoch in range(3):
                for rows in torch.tensor(train).split(20):
                    optimizer.zero_grad()
                    criterion(net(x[rows]), y[rows]).backward()
                    optimizer.step()
        """),
    "one-model-for-all-folds-in-a-function": ("model-kept-over-folds", """
        from sklearn.model_selection import StratifiedKFold

        def fit(model, rows):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for batch in torch.tensor(rows).split(20):
                optimizer.zero_grad()
                criterion(model(x[batch]), y[batch]).backward()
                optimizer.step()

        splitter = StratifiedKFold(3)
        folds = list(splitter.split(x.numpy(), y.numpy()))
        look(net)
        for fold, (train, held_out) in enumerate(folds):
            fit(net, train)
        """),
    "clip-before-backward": ("clipped-at-wrong-place", """
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                loss.backward()
                optimizer.step()
        """),
    "clip-after-step": ("clipped-at-wrong-place", """
        def train_epoch(model, loader, opt):
            for xb, yb in loader:
                opt.zero_grad(set_to_none=True)
                out = model(xb)
                F.cross_entropy(out, yb).backward()
                opt.step()
                nn.utils.clip_grad_value_(model.parameters(), 0.5)

        look(net)
        for epoch in range(3):
            train_epoch(net, loader, optimizer)
        """),
    "scaler-bypassed": ("scaler-misused", """
        scaler = torch.amp.GradScaler("cpu")
        look(net)
        for xb, yb in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = criterion(net(xb), yb)
            scaler.scale(loss).backward()
            optimizer.step()
        """),
    "clipped-while-scaled": ("scaler-misused", """
        scaler = torch.amp.GradScaler("cpu")
        look(net)
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            scaler.scale(loss).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        """),
    "scaler-never-updated": ("scaler-misused", """
        grad_scaler = torch.amp.GradScaler("cpu")
        look(net)
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            grad_scaler.scale(loss).backward()
            grad_scaler.step(optimizer)
        """),
    "model-in-epoch-loop": ("model-built-in-loop", """
        look(net)
        for epoch in range(3):
            net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
            optimizer = torch.optim.Adam(net.parameters())
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
        """),
    "model-in-batch-loop": ("model-built-in-loop", """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(8, 3)
            def forward(self, x):
                return self.fc(x)

        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                model = Net()
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
                loss = criterion(model(xb), yb)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        """),
    "one-cycle-of-too-few": ("schedule-too-short", """
        sched = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
                sched.step()
        """),
    "one-cycle-of-fewer-epochs": ("schedule-too-short", """
        def batches():
            yield x, y

        sched = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=2, steps_per_epoch=6)
        look(net)
        for epoch in range(5):
            for xb, yb in batches():
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
                sched.step()
        """),
    "rates-for-factors": ("schedule-of-rates", """
        def rate(epoch):
            return 1e-3 if epoch < 10 else 1e-4

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=rate)
        look(net)
        """),
    "plateau-max-of-a-loss": ("plateau-of-wrong-mode", """
        sched = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max")
        look(net)
        for epoch in range(3):
            val_loss = 0.0
            sched.step(val_loss)
        """),
    "plateau-min-of-an-accuracy": ("plateau-of-wrong-mode", """
        sched = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
        look(net)
        for epoch in range(3):
            metrics = {"val_acc": 0.5}
            sched.step(metrics["val_acc"])
        """),
    "epoch-schedule-per-batch": ("epoch-schedule-per-batch", """
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
        look(net)
        for epoch in range(30):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
                scheduler.step()
        """),
    "schedule-never-stepped": ("schedule-never-stepped", """
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            print(scheduler.get_last_lr())
        """),
    "one-cycle-per-epoch": ("schedule-hardly-begun", """
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10 * len(loader))
        look(net)
        for epoch in range(10):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            scheduler.step()
        """),
    "state-not-copied": ("best-state-not-copied", """
        best_acc, best_weights = 0.0, None
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            acc = 0.5
            if acc > best_acc:
                best_acc = acc
                best_weights = net.state_dict()
        net.load_state_dict(best_weights)
        """),
    "state-copied-by-halves": ("best-state-not-copied", """
        best_acc, best_weights = 0.0, None
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            acc = 0.5
            if acc > best_acc:
                best_acc, best_weights = acc, copy.copy(net.state_dict())
        net.load_state_dict(best_weights)
        """),
    "state-as-a-dict-of-the-same-tensors": ("best-state-not-copied", """
        best_acc, best_weights = 0.0, None
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            acc = 0.5
            if acc > best_acc:
                best_acc = acc
                best_weights = {name: tensor.detach() for name, tensor in net.state_dict().items()}
        net.load_state_dict(best_weights)
        """),
    "state-in-an-object-that-restores-it": ("best-state-not-copied", """
        class EarlyStopping:
            def __init__(self, patience=3):
                self.best, self.state, self.bad = float("inf"), None, 0

            def __call__(self, value, model):
                if value < self.best:
                    self.best = value
                    self.state = model.state_dict()
                    self.bad = 0
                else:
                    self.bad += 1
                return self.bad > 3

            def restore(self, model):
                model.load_state_dict(self.state)

        stopper = EarlyStopping()
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            if stopper(loss.item(), net):
                break
        stopper.restore(net)
        """),
    "state-in-an-attribute-of-a-trainer": ("best-state-not-copied", """
        class Trainer:
            def __init__(self, model):
                self.model, self.best, self.best_state = model, float("inf"), None

            def fit(self, epochs):
                for epoch in range(epochs):
                    for xb, yb in loader:
                        optimizer.zero_grad()
                        loss = criterion(self.model(xb), yb)
                        loss.backward()
                        optimizer.step()
                    if loss.item() < self.best:
                        self.best = loss.item()
                        self.best_state = self.model.state_dict()
                self.model.load_state_dict(self.best_state)

        trainer = Trainer(net)
        look(net)
        trainer.fit(3)
        """),
    "state-in-a-dict": ("best-state-not-copied", """
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            if epoch == 1:
                checkpoint = {"model": net.state_dict(), "epoch": epoch}
        torch.save(checkpoint, "best.pt")
        """),
    "model-as-best-model": ("best-state-not-copied", """
        def train(model, loader, optimizer):
            best_loss, best_model = 1e9, None
            for epoch in range(3):
                for xb, yb in loader:
                    optimizer.zero_grad()
                    loss = criterion(model(xb), yb)
                    loss.backward()
                    optimizer.step()
                if loss.item() < best_loss:
                    best_loss = loss.item()
                    best_model = model
            return best_model

        look(net)
        train(net, loader, optimizer)
        """),
    "state-in-an-early-stopper": ("best-state-not-copied", """
        class Stopper:
            def __init__(self):
                self.best, self.state = 1e9, None

            def step(self, value, model):
                if value < self.best:
                    self.best, self.state = value, model.state_dict()

        stopper = Stopper()
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            stopper.step(loss.item(), net)
        net.load_state_dict(stopper.state)
        """),
    "accumulation-of-sums": ("accumulation-not-averaged", """
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        look(net)
        for i, (xb, yb) in enumerate(loader):
            loss = criterion(net(xb), yb)
            loss.backward()
            if (i + 1) % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
        """),
    "highest-loss-kept": ("worst-model-kept", """
        best = 0.0
        look(net)
        for epoch in range(3):
            val_loss = 1.0
            if val_loss > best:
                best = val_loss
                torch.save(net.state_dict(), "best.pt")
        """),
    "lowest-accuracy-kept": ("worst-model-kept", """
        best_score = 1.0
        look(net)
        for epoch in range(3):
            accuracy = 0.1
            if best_score > accuracy:
                best_score = accuracy
                kept = copy.deepcopy(net)
        """),
    "nothing-fits": ("checkpoint-not-loaded", """
        state = {f"module.{k}": v for k, v in net.state_dict().items()}
        net.load_state_dict(state, strict=False)
        look(net)
        """),
    "create-graph": ("graph-created-for-nothing", """
        look(net)
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(net(xb), yb)
            loss.backward(create_graph=True)
            optimizer.step()
        """),
    "outputs-in-a-list": ("graphs-in-a-list", """
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            preds = []
            for xb, yb in val_loader:
                preds.append(net(xb))
        """),
    "losses-summed-in-evaluation": ("graphs-in-a-list", """
        def evaluate(model, loader):
            model.eval()
            total = 0
            for xb, yb in loader:
                total += criterion(model(xb), yb)
            return total / len(loader)

        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            print(evaluate(net, val_loader))
        """),
}  # fmt: skip

HEALTHY = {
    "a-model-for-each-fold": """
        from sklearn.model_selection import KFold
        net = None
        look(net)
        for train, held_out in KFold(5).split(x.numpy()):
            net = nn.Linear(8, 3)
            optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
            for rows in torch.tensor(train).split(20):
                optimizer.zero_grad()
                criterion(net(x[rows]), y[rows]).backward()
                optimizer.step()
        """,
    "weights-put-back-for-each-fold": """
        from sklearn.model_selection import KFold
        start = copy.deepcopy(net.state_dict())
        look(net)
        for train, held_out in KFold(5).split(x.numpy()):
            net.load_state_dict(start)
            optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
            for rows in torch.tensor(train).split(20):
                optimizer.zero_grad()
                criterion(net(x[rows]), y[rows]).backward()
                optimizer.step()
        """,
    "splits-in-the-order-of-time": """
        from sklearn.model_selection import TimeSeriesSplit
        look(net)
        for past, future in TimeSeriesSplit(4).split(x.numpy()):
            optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
            for rows in torch.tensor(past).split(20):
                optimizer.zero_grad()
                criterion(net(x[rows]), y[rows]).backward()
                optimizer.step()
        """,
    "plain": """
        look(net)
        for epoch in range(3):
            net.train()
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
        """,
    "zero-at-the-end": """
        look(net)
        for xb, yb in loader:
            loss = criterion(net(xb), yb)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        """,
    "accumulation": """
        look(net)
        for i, (xb, yb) in enumerate(loader):
            loss = criterion(net(xb), yb) / 4
            loss.backward()
            if (i + 1) % 4 == 0:
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        """,
    "accumulation-divided-in-place": """
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        look(net)
        for i, (xb, yb) in enumerate(loader):
            loss = criterion(net(xb), yb)
            loss = loss / 4
            loss.backward()
            if i % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
        """,
    "amp": """
        scaler = torch.amp.GradScaler("cpu")
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3 * len(loader))
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.float16):
                    loss = criterion(net(xb), yb)
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.update()
                scheduler.step()
        """,
    "scaler-that-is-off": """
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        look(net)
        for xb, yb in loader:
            optimizer.zero_grad()
            scaler.scale(criterion(net(xb), yb)).backward()
            optimizer.step()
        """,
    "two-optimizers": """
        other = nn.Linear(8, 3)
        second = torch.optim.Adam(other.parameters())
        look(net)
        for xb, yb in loader:
            optimizer.zero_grad()
            second.zero_grad()
            a = criterion(net(xb), yb)
            a.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            b = criterion(other(xb), yb)
            b.backward()
            nn.utils.clip_grad_norm_(other.parameters(), 1.0)
            second.step()
        """,
    "folds": """
        def build():
            return nn.Linear(8, 3)

        for fold in range(3):
            model = build()
            opt = torch.optim.Adam(model.parameters())
            look(model)
            for epoch in range(2):
                for xb, yb in loader:
                    opt.zero_grad()
                    criterion(model(xb), yb).backward()
                    opt.step()
        """,
    "rates-tried-one-by-one": """
        look(net)
        for lr in (0.1, 0.01):
            net = nn.Linear(8, 3)
            optimizer = torch.optim.SGD(net.parameters(), lr=lr)
            for step in range(20):
                optimizer.zero_grad()
                criterion(net(x), y).backward()
                optimizer.step()
        """,
    "seeds-of-one-loop": """
        for seed in range(3):
            torch.manual_seed(seed)
            net = nn.Linear(8, 3)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            look(net)
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
        """,
    "warm-up": """
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 500))
        look(net)
        for xb, yb in loader:
            optimizer.zero_grad()
            criterion(net(xb), yb).backward()
            optimizer.step()
            scheduler.step()
        """,
    "plateau": """
        sched = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max")
        look(net)
        for epoch in range(3):
            total_loss, correct = 0.0, 1
            sched.step(correct / 100)
        """,
    "steps-per-batch-by-plan": """
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=100, gamma=0.5)
        look(net)
        for epoch in range(10):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
                scheduler.step()
        """,
    "scheduler-of-the-module": """
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)

        def end_of_epoch():
            scheduler.step()

        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            end_of_epoch()
        """,
    "last-state-kept": """
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            state = {"epoch": epoch, "model": net.state_dict()}
        torch.save(state, "last.pt")
        """,
    "scheduler-given-on": """
        def fit(model, optimizer, scheduler):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(model(xb), yb).backward()
                optimizer.step()
            scheduler.step()

        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
        look(net)
        fit(net, optimizer, scheduler)
        """,
    "best-state-copied": """
        best_loss, best, best_model = float("inf"), None, None
        on_disk = {k: v.cpu().numpy().copy() for k, v in net.state_dict().items()}
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                loss = criterion(net(xb), yb)
                loss.backward()
                optimizer.step()
            if loss.item() < best_loss:
                best_loss = loss.item()
                best = {k: v.detach().clone() for k, v in net.state_dict().items()}
                best_model = copy.deepcopy(net)
        net.load_state_dict(best)
        """,
    "saved-at-once": """
        best_acc = 0.0
        look(net)
        for epoch in range(3):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            acc = 0.2
            if acc > best_acc:
                best_acc = acc
                state = net.state_dict()
                torch.save(state, "best.pt")
        """,
    "negated-loss-as-score": """
        best = -1e9
        look(net)
        for epoch in range(3):
            val_loss = 1.0
            score = -val_loss
            if score > best:
                best = score
                torch.save(net.state_dict(), "best.pt")
        """,
    "backbone-loaded": """
        state = dict(list(net.state_dict().items())[:2])
        net.load_state_dict(state, strict=False)
        look(net)
        """,
    "gradient-penalty": """
        look(net)
        for xb, yb in loader:
            xb.requires_grad_()
            optimizer.zero_grad()
            out = net(xb)
            (slope,) = torch.autograd.grad(out.sum(), xb, create_graph=True)
            (criterion(out, yb) + slope.square().mean()).backward()
            optimizer.step()
        """,
    "outputs-under-no-grad": """
        @torch.no_grad()
        def predict(model, loader):
            return torch.cat([model(xb) for xb, _ in loader])

        look(net)
        for xb, yb in loader:
            optimizer.zero_grad()
            criterion(net(xb), yb).backward()
            optimizer.step()
        losses = []
        with torch.inference_mode():
            for xb, yb in val_loader:
                losses.append(criterion(net(xb), yb))
        """,
    "steps-of-a-sequence": """
        look(net)
        for xb, yb in loader:
            optimizer.zero_grad()
            outputs = []
            for t in range(4):
                outputs.append(net(xb))
            loss = criterion(torch.stack(outputs).mean(0), yb)
            loss.backward()
            optimizer.step()
        """,
    "losses-of-a-task-batch": """
        def meta_loss(model):
            total = 0
            for xb, yb in loader:
                total = total + criterion(model(xb), yb)
            return total

        look(net)
        for step in range(3):
            optimizer.zero_grad()
            loss = meta_loss(net)
            loss.backward()
            optimizer.step()
        """,
}  # fmt: skip


@pytest.mark.parametrize("case", SICK)
def test_finds(case: str) -> None:
    rule, source = SICK[case]
    assert rule in told(source)


@pytest.mark.parametrize("case", HEALTHY)
def test_says_nothing_of(case: str) -> None:
    assert told(HEALTHY[case]) == []


def test_a_patch_moves_the_clipping() -> None:
    (_, found), *_ = read(SICK["clip-before-backward"][1])
    assert found.place is not None
    assert found.place.code == "torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)"
    assert found.causes[0].name == "clip-at-wrong-place"
    assert (
        found.causes[0].patch.split("\n")[-1].strip()
        == "+        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)"
    )


def test_a_checkpoint_that_cannot_be_seen_is_a_hint() -> None:
    source = """
        def fetch():
            return net.state_dict()

        net.load_state_dict(fetch(), strict=False)
        look(net)
    """
    assert [(name, one.status) for name, one in read(source)] == [("checkpoint-not-loaded", "hint")]


@pytest.mark.parametrize("source", ["look(net)\n", "look(None)\n", "if True:\n    look(net)\n"])
def test_code_without_a_loop_gives_nothing(source: str) -> None:
    assert read(source) == []
