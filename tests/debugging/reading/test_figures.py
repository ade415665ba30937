"""Splits, figures, preparation and data: each rule has cells that it must find, and cells that it must not."""

from __future__ import annotations

import pytest

from tests.debugging.reading.cells import read, told

LOOP = """
for epoch in range(3):
    net.train()
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        optimizer.step()
"""
BINARY = """
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
labels = torch.randint(0, 2, (120, 1)).float()
loader = DataLoader(TensorDataset(x, labels), batch_size=20)
criterion = nn.BCEWithLogitsLoss()
"""

SICK = {
    "random-split-in-the-loop": ("split-made-anew", """
        data = TensorDataset(x, y)
        look(net)
        for epoch in range(3):
            train_set, val_set = random_split(data, [100, 20])
            for xb, yb in DataLoader(train_set, batch_size=20):
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
        """),
    "order-in-the-loop": ("split-made-anew", """
        look(net)
        for epoch in range(3):
            perm = torch.randperm(len(x))
            train_idx = perm[:100]
            test_idx = perm[100:]
            for i in range(0, 100, 20):
                rows = train_idx[i : i + 20]
                optimizer.zero_grad()
                criterion(net(x[rows]), y[rows]).backward()
                optimizer.step()
        """),
    "training-set-for-validation": ("validated-on-training-data", """
        data = TensorDataset(x, y)
        train_loader = DataLoader(data, batch_size=20, shuffle=True)
        val_loader = DataLoader(data, batch_size=60)
        look(net)
        for epoch in range(3):
            for xb, yb in train_loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            hits = sum((net(a).argmax(1) == b).sum().item() for a, b in val_loader)
        """),
    "rows-multiplied": ("rows-on-both-sides", """
        x = torch.cat([x, x])
        order = torch.randperm(len(x))
        X_train, X_test = x[order[:180]], x[order[180:]]
        look(net)
        """),
    "subsets-overlap": ("subsets-overlap", """
        data = TensorDataset(x, y)
        train_set = Subset(data, list(range(100)))
        val_set = Subset(data, list(range(80, 120)))
        look(net)
        """),
    "scaler-before-the-split": ("fitted-before-the-split", """
        from sklearn.model_selection import train_test_split
        from sklearn.preprocessing import StandardScaler
        X = StandardScaler().fit_transform(x.numpy())
        X_train, X_test, y_train, y_test = train_test_split(X, y.numpy(), random_state=0)
        look(net)
        """),
    "half-of-scores": ("half-of-a-score", BINARY + """
look(net)
""" + LOOP + """
    preds = (net(x) > 0.5).float()
"""),
    "scores-rounded": ("half-of-a-score", BINARY + """
def evaluate(model):
    with torch.no_grad():
        outputs = model(x)
        return (torch.round(outputs) == labels).float().mean()

look(net)
""" + LOOP + """
    print(evaluate(net))
"""),
    "half-by-a-method": ("half-of-a-score", BINARY + """
look(net)
""" + LOOP + """
    scores = net(x).detach().cpu()
    preds = scores.gt(0.5)
"""),
    "max-of-the-batch": ("argmax-over-the-batch", "look(net)\n" + LOOP + """
    _, predicted = torch.max(net(x[:3]), 0)
    print((predicted == y[:3]).sum())
"""),
    "validated-in-a-loop-over-train": ("validated-on-training-data", "look(net)\n" + LOOP + """
    val_loss = 0.0
    with torch.no_grad():
        for xb, yb in loader:
            val_loss += criterion(net(xb), yb).item()
"""),
    "argmax-of-the-batch": ("argmax-over-the-batch", "look(net)\n" + LOOP + """
    with torch.no_grad():
        outputs = net(x[:3])
        print((outputs.argmax(dim=0) == y[:3]).float().mean())
"""),
    "columns-of-targets": ("metric-of-all-pairs", """
targets = torch.randn(120, 1)
net = nn.Linear(8, 1)
look(net)
for epoch in range(3):
    optimizer.zero_grad()
    F.mse_loss(net(x), targets).backward()
    optimizer.step()
    with torch.no_grad():
        predicted = net(x).flatten()
        print((predicted - targets).abs().mean().item())
"""),
    "column-of-classes": ("metric-of-all-pairs", "look(net)\n" + LOOP + """
    with torch.no_grad():
        for xb, yb in val_loader:
            pred = net(xb).argmax(dim=1, keepdim=True)
            right = (pred == yb).float().mean().item()
"""),
    "column-of-classes-by-a-method": ("metric-of-all-pairs", "look(net)\n" + LOOP + """
    with torch.no_grad():
        outputs = net(x)
        _, pred = outputs.topk(1)
        print(pred.eq(y).sum().item() / len(y))
"""),
    "column-of-indices": ("metric-of-all-pairs", "look(net)\n" + LOOP + """
    print(torch.eq(net(x).topk(1).indices, y).float().mean())
"""),
    "loss-of-all-epochs": ("sum-never-reset", """
running_loss = 0.0
look(net)
for epoch in range(3):
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    print(epoch, running_loss / len(loader))
"""),
    "loss-of-all-epochs-in-a-function": ("sum-never-reset", """
def fit(model, epochs):
    total = 0
    for epoch in range(epochs):
        for xb, yb in loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(xb)
        print(total / len(loader.dataset))

look(net)
fit(net, 3)
"""),
    "loss-of-all-hundreds": ("sum-never-reset", """
running_loss = 0.0
look(net)
for epoch in range(3):
    for i, (xb, yb) in enumerate(loader):
        optimizer.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        if i % 2 == 1:
            print(i, running_loss / 2)
"""),
    "last-batch-alone": ("figure-of-last-batch", "look(net)\n" + LOOP + """
    net.eval()
    with torch.no_grad():
        for xb, yb in val_loader:
            val_loss = criterion(net(xb), yb).item()
    print(epoch, val_loss)
"""),
    "last-batch-in-a-function": ("figure-of-last-batch", """
def validate(model, loader):
    model.eval()
    with torch.no_grad():
        for images, labels in loader:
            logits = model(images)
            acc = (logits.argmax(1) == labels).float().mean().item()
    return acc

look(net)
""" + LOOP + """
    print(validate(net, val_loader))
"""),
    "validated-on-train": ("validated-on-training-data", """
def evaluate(model, data):
    with torch.no_grad():
        return sum((model(a).argmax(1) == b).sum().item() for a, b in data) / len(data.dataset)

look(net)
""" + LOOP + """
    val_acc = evaluate(net, loader)
    print(val_acc)
"""),
    "test-not-standardised": ("evaluated-unprepared", """
x = 40 + 9 * x
x_test = 40 + 9 * torch.randn(60, 8)
x = (x - x.mean(0)) / x.std(0)
look(net)
for epoch in range(3):
    optimizer.zero_grad()
    criterion(net(x), y).backward()
    optimizer.step()
with torch.no_grad():
    print(net(x_test).argmax(1))
"""),
    "prepared-in-the-loop-only": ("evaluated-unprepared", """
mean, std = x.mean(0), x.std(0)
look(net)
for epoch in range(3):
    for xb, yb in loader:
        optimizer.zero_grad()
        criterion(net((xb - mean) / std), yb).backward()
        optimizer.step()
    right = 0
    with torch.no_grad():
        for xb, yb in val_loader:
            right += (net(xb).argmax(1) == yb).sum().item()
"""),
    "pixels-divided": ("divided-without-a-rest", """
        pixels = torch.randint(0, 256, (120, 8))
        x = (pixels // 255).float()
        look(net)
        """),
    "bytes": ("bytes-that-wrap", """
        pixels = torch.randint(0, 256, (120, 8)).to(torch.uint8)
        x = (pixels - 128) / 64
        look(net)
        """),
    "marks": ("mark-for-missing-values", """
        x = torch.where(torch.rand(x.shape) < 0.05, -999.0, x)
        look(net)
        """),
    "weights-upside-down": ("class-weights-upside-down", """
        counts = torch.bincount(torch.tensor([0] * 90 + [1] * 20 + [2] * 10))
        class_weights = counts / len(y)
        criterion = nn.CrossEntropyLoss(weight=class_weights)
        look(net)
        """),
    "weights-upside-down-in-place": ("class-weights-upside-down", """
        labels = torch.tensor([0] * 90 + [1] * 20 + [2] * 10)
        criterion = nn.CrossEntropyLoss(weight=torch.bincount(labels).float() / len(labels))
        look(net)
        """),
    "classes-as-amounts-by-rows": ("classes-as-amounts", """
        net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        criterion = nn.MSELoss()
        look(net)
        for epoch in range(3):
            for rows in torch.randperm(120).split(20):
                optimizer.zero_grad()
                criterion(net(x[rows]).squeeze(1), y[rows].float()).backward()
                optimizer.step()
        """),
    "classes-as-amounts": ("classes-as-amounts", """
        net = nn.Linear(8, 1)
        look(net, batch=(x, y))
        for xb, yb in loader:
            optimizer.zero_grad()
            out = net(xb).squeeze(-1)
            loss = F.mse_loss(out, yb.float())
            loss.backward()
            optimizer.step()
        """),
    "several-labels": ("softmax-over-independent-labels", """
        many = (torch.rand(120, 3) < 0.5).float()
        look(net, batch=(x, many))
        for xb, yb in DataLoader(TensorDataset(x, many), 20):
            optimizer.zero_grad()
            criterion(net(xb), yb).backward()
            optimizer.step()
        """),
}  # fmt: skip

HEALTHY = {
    "whole-numbers-that-are-amounts": """
        visits = torch.poisson(torch.full((120,), 3.0)).long()
        net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        criterion = nn.MSELoss()
        look(net)
        for epoch in range(3):
            for rows in torch.randperm(120).split(20):
                optimizer.zero_grad()
                criterion(net(x[rows]).squeeze(1), visits[rows].float()).backward()
                optimizer.step()
        """,
    "samplers-that-share-a-set": """
        from torch.utils.data import SubsetRandomSampler
        data = TensorDataset(x, y)
        train_loader = DataLoader(data, batch_size=20, sampler=SubsetRandomSampler(range(100)))
        val_loader = DataLoader(data, batch_size=20, sampler=SubsetRandomSampler(range(100, 120)))
        look(net)
        for epoch in range(3):
            for xb, yb in train_loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
            hits = sum((net(a).argmax(1) == b).sum().item() for a, b in val_loader)
        """,
    "sums-that-begin-anew": """
best, seen, whole = 0.0, 0, 0.0
look(net)
for epoch in range(3):
    running_loss = 0.0
    some = 0.0
    for i, (xb, yb) in enumerate(loader):
        optimizer.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        some += loss.item()
        whole += loss.item() * len(xb)
        seen += len(xb)
        if i % 2 == 1:
            print(some / 2)
            some = 0.0
    print(running_loss / len(loader), whole / seen)
print(whole / len(loader))
""",
    "columns-on-both-sides": """
column = y.unsqueeze(1)
look(net)
""" + LOOP + """
    with torch.no_grad():
        pred = net(x).argmax(dim=1, keepdim=True)
        print((pred == column).float().mean(), pred.eq(y.view_as(pred)).sum().item(), (pred.squeeze(1) == y).sum())
        _, flat = net(x).max(1)
        top = net(x).topk(1).indices[:, 0]
        print(flat.eq(y).sum().item(), (top == y).sum().item())
        _, three = net(x).topk(2, 1, True, True)
        print(three.t().eq(y.view(1, -1).expand_as(three.t())).sum())
""",
    "usual-evaluation": """
def accuracy(model, loader):
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for xb, yb in loader:
            pred = model(xb).argmax(dim=1)
            correct += (pred == yb).sum().item()
            total += len(yb)
    return correct / total

look(net)
""" + LOOP + """
    train_acc, val_acc = accuracy(net, loader), accuracy(net, val_loader)
    print(train_acc, val_acc)
""",
    "losses-collected": "look(net)\n" + LOOP + """
    losses = []
    with torch.no_grad():
        for xb, yb in val_loader:
            val_loss = criterion(net(xb), yb)
            losses.append(val_loss.item())
    print(sum(losses) / len(losses))
""",
    "training-figures-of-the-training-loader": """
def evaluate(model, data):
    with torch.no_grad():
        return sum((model(a).argmax(1) == b).sum().item() for a, b in data)

look(net)
""" + LOOP + """
    train_acc = evaluate(net, loader)
    val_acc = evaluate(net, val_loader)
""",
    "folds-are-split": """
for fold in range(3):
    model = nn.Linear(8, 3)
    opt = torch.optim.Adam(model.parameters())
    order = torch.randperm(len(x))
    train, test = order[:100], order[100:]
    look(model)
    for epoch in range(2):
        opt.zero_grad()
        criterion(model(x[train]), y[train]).backward()
        opt.step()
""",
    "batches-of-a-random-order": """
look(net)
for epoch in range(3):
    perm = torch.randperm(len(x))
    for i in range(0, len(x), 20):
        rows = perm[i : i + 20]
        optimizer.zero_grad()
        criterion(net(x[rows]), y[rows]).backward()
        optimizer.step()
""",
    "split-with-a-seed": """
data = TensorDataset(x, y)
look(net)
for epoch in range(3):
    train_set, val_set = random_split(data, [100, 20], generator=torch.Generator().manual_seed(0))
    for xb, yb in DataLoader(train_set, batch_size=20):
        optimizer.zero_grad()
        criterion(net(xb), yb).backward()
        optimizer.step()
""",
    "probabilities-cut-at-a-half": BINARY + "look(net)\n" + LOOP + """
    preds = torch.sigmoid(net(x)) > 0.5
    hard = net(x).sigmoid().round()
    margin = net(x) > 0
""",
    "model-with-a-sigmoid": """
net = nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())
criterion = nn.BCELoss()
look(net)
""" + LOOP + """
    preds = net(x) > 0.5
""",
    "a-column-of-both": """
targets = torch.randn(120, 1)
net = nn.Linear(8, 1)
look(net)
for epoch in range(3):
    optimizer.zero_grad()
    F.mse_loss(net(x), targets).backward()
    optimizer.step()
    print((net(x) - targets).abs().mean().item(), (net(x).squeeze(1) - targets.squeeze(1)).abs().mean())
""",
    "scaler-fitted-to-the-training-rows": """
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, StandardScaler
labels = LabelEncoder().fit_transform(y.numpy())
X_train, X_test, y_train, y_test = train_test_split(x.numpy(), labels, random_state=0)
scaler = StandardScaler()
X_train = torch.tensor(scaler.fit_transform(X_train))
X_test = torch.tensor(scaler.transform(X_test))
look(net)
""",
    "both-standardised": """
x_test = 40 + 9 * torch.randn(60, 8)
mean, std = 40.0, 9.0
x = (40 + 9 * x - mean) / std
x_test = (x_test - mean) / std
look(net)
for epoch in range(3):
    optimizer.zero_grad()
    criterion(net(x), y).backward()
    optimizer.step()
print(net(x_test).argmax(1))
""",
    "noise-in-training-only": """
look(net)
for epoch in range(3):
    for xb, yb in loader:
        optimizer.zero_grad()
        criterion(net(xb + 0.1 * torch.randn_like(xb)), yb).backward()
        optimizer.step()
    with torch.no_grad():
        for xb, yb in val_loader:
            print(net(xb).argmax(1))
""",
    "prepared-in-both-loops": """
def normalize(t):
    return (t - 0.5) / 0.25

look(net)
for epoch in range(3):
    for xb, yb in loader:
        xb = normalize(xb)
        optimizer.zero_grad()
        criterion(net(xb), yb).backward()
        optimizer.step()
    with torch.no_grad():
        for xb, yb in val_loader:
            xb = normalize(xb)
            print(net(xb).argmax(1))
""",
    "bytes-converted-first": """
pixels = torch.randint(0, 256, (120, 8)).to(torch.uint8)
x = (pixels.float() - 128) / 64
rows, half = len(x) // 2, pixels // 128
look(net)
""",
    "weights-inverted": """
counts = torch.bincount(y).float()
weights = counts.sum() / (len(counts) * counts)
criterion = nn.CrossEntropyLoss(weight=weights)
other = counts / counts.sum()
second = nn.CrossEntropyLoss(weight=1 / other)
look(net)
""",
    "counts-as-amounts": """
net = nn.Linear(8, 1)
counts = torch.poisson(torch.full((120,), 2.0)).long()
look(net, batch=(x, counts))
for xb, yb in DataLoader(TensorDataset(x, counts), 20):
    optimizer.zero_grad()
    F.mse_loss(net(xb).squeeze(-1), yb.float()).backward()
    optimizer.step()
""",
    "soft-targets": """
soft = torch.softmax(torch.randn(120, 3), 1)
hot = F.one_hot(y, 3).float()
look(net, batch=(x, hot))
for xb, yb in DataLoader(TensorDataset(x, hot), 20):
    optimizer.zero_grad()
    criterion(net(xb), yb).backward()
    optimizer.step()
""",
    "one-sample-by-itself": "look(net)\n" + LOOP + """
    print(net(x[:1])[0].argmax(0) == y[0])
""",
}  # fmt: skip


@pytest.mark.parametrize("case", SICK)
def test_finds(case: str) -> None:
    rule, source = SICK[case]
    assert rule in told(source)


@pytest.mark.parametrize("case", HEALTHY)
def test_says_nothing_of(case: str) -> None:
    assert told(HEALTHY[case]) == []


def test_a_patch_sums_the_batches() -> None:
    found = dict(read(SICK["last-batch-alone"][1]))["figure-of-last-batch"]
    lines = [line.strip() for line in found.causes[0].patch.split("\n")]
    assert "+        val_losss = []" in found.causes[0].patch
    assert lines[-1] == "+        val_loss = sum(val_losss) / len(val_losss)"
