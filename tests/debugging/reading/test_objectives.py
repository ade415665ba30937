"""Objectives, adversaries, attention and layers: each rule has cells that it must find, and cells that it must not."""

from __future__ import annotations

import pytest

from tests.debugging.reading.cells import read, told

GAN = """
maker = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
critic = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
bce = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(20, 1), torch.zeros(20, 1)
opt_g = torch.optim.Adam(maker.parameters())
opt_d = torch.optim.Adam({held})
look(maker)
for real, _ in loader:
    fake = maker(torch.randn(20, 4))
    d_loss = bce(critic(real), ones) + bce(critic({fake}), zeros)
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()
    g_loss = bce(critic(fake), {label})
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()
"""
BOTH = "[*critic.parameters(), *maker.parameters()]"
POLICY = """
from torch.distributions import Categorical
policy = nn.Linear(8, 3)
optimizer = torch.optim.Adam(policy.parameters(){more})
look(policy)
for episode in range(3):
    log_probs, rewards = [], []
    for t in range(5):
        dist = Categorical(logits=policy(x[t]))
        action = {action}
        log_probs.append({sign}dist.log_prob(action))
        rewards.append(1.0)
    returns = torch.tensor([{returns} for t in range(len(rewards))])
    loss = {loss}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def policy(*, more="", action="dist.sample()", sign="", returns="sum(rewards[t:])",
           loss="-(torch.stack(log_probs) * returns).sum()"):  # fmt: skip
    return POLICY.format(more=more, action=action, sign=sign, returns=returns, loss=loss)


DISCOUNTED = """
from torch.distributions import Categorical
policy = nn.Linear(8, 3)
optimizer = torch.optim.Adam(policy.parameters())
look(policy)
for episode in range(3):
    rewards, log_probs, returns, R = [1.0, 0.0], [], [], 0
    for t in range(2):
        log_probs.append(Categorical(logits=policy(x[t])).log_prob(torch.tensor(1)))
    for r in {order}:
        R = r + 0.99 * R
        returns.insert(0, R)
    loss = -(torch.stack(log_probs) * torch.tensor(returns)).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
CRITIC = """
q = nn.Linear(8, 1)
target_q = copy.deepcopy(q)
optimizer = torch.optim.Adam(q.parameters())
look(q)
for step in range(3):
    reward = torch.rand(120, 1)
    {head}
    loss = F.smooth_l1_loss(q(x), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
VAE = """
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(8, 4), nn.Linear(2, 8)

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, 1)
        return self.dec(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar

net = VAE()
optimizer = torch.optim.Adam(net.parameters())
look(net)
for xb, _ in loader:
    recon, mu, logvar = net(xb)
    recon_loss = {recon}
    kl = {kl}
    loss = recon_loss + {weight}kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
KL = "-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())"
VAE_BY_FUNCTION = (
    VAE.partition("look(net)")[0]
    + """
def elbo(recon, x, mu, lv):
    return F.mse_loss(recon, x) + {factor} * (1 + lv - mu ** 2 - lv.exp()).sum(1).mean()

look(net)
for xb, _ in loader:
    recon, mu, lv = net(xb)
    loss = elbo(recon, xb, mu, lv)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
)
ATTENTION = """
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        {scores}
        weights = F.softmax(scores, dim=-1)
        return weights @ v

net = Attention()
look(net)
"""
MASKED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        layer = nn.TransformerEncoderLayer(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, tokens):
        mask = tokens {sign} 0
        return self.encoder(self.embed(tokens), src_key_padding_mask=mask)

look(Net())
"""
STEPS = """
for xb, yb in loader:
    optimizer.zero_grad()
    criterion(net(xb), yb).backward()
    optimizer.step()
"""

SICK = {
    "policy-without-a-minus": ("policy-gradient-upside-down", policy(loss="(torch.stack(log_probs) * returns).mean()")),
    "policy-in-a-list": ("policy-gradient-upside-down", policy(
        loss="torch.stack([lp * R for lp, R in zip(log_probs, returns)]).sum()")),
    "policy-loss-in-a-list": ("policy-gradient-upside-down", policy(loss="None").replace("    loss = None", """
    policy_loss = []
    for lp, R in zip(log_probs, returns):
        policy_loss.append(lp * R)
    loss = torch.stack(policy_loss).sum()""")),
    "returns-of-the-past": ("returns-of-the-past", policy(returns="sum(rewards[: t + 1])")),
    "returns-run-forward": ("returns-of-the-past", DISCOUNTED.format(order="rewards")),
    "likeliest-action": ("actions-never-tried", policy(action="torch.argmax(dist.probs)")),
    "target-with-a-graph": ("gradient-through-the-target", CRITIC.format(
        head="target = reward + 0.9 * q(x.flip(0))")),
    "target-by-a-name": ("gradient-through-the-target", CRITIC.format(
        head="next_values = q(x.flip(0))\n    target = reward + 0.9 * next_values")),
    "teacher-trained-too": ("gradient-through-the-target", """
        teacher, student = nn.Linear(8, 3), nn.Linear(8, 3)
        optimizer = torch.optim.Adam([*student.parameters(), *teacher.parameters()])
        look(student)
        for xb, yb in loader:
            soft = teacher(xb)
            loss = F.mse_loss(student(xb), soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        """),
    "critic-moves-the-maker": ("critic-moves-the-generator", GAN.format(held=BOTH, fake="fake", label="ones")),
    "maker-with-the-label-of-fakes": ("adversary-with-wrong-label", GAN.format(
        held="critic.parameters()", fake="fake.detach()", label="zeros")),
    "divergence-summed": ("divergence-summed", VAE.format(recon="F.mse_loss(recon, xb)", kl=KL, weight="")),
    "divergence-subtracted": ("divergence-with-wrong-sign", VAE.format(
        recon="F.mse_loss(recon, xb)", kl=KL.replace("sum", "mean"), weight="0.1 * -")),
    "divergence-without-its-minus": ("divergence-with-wrong-sign", VAE.format(
        recon='F.mse_loss(recon, xb, reduction="sum")', kl=KL.replace("-0.5", "0.5"), weight="")),
    "divergence-of-a-function": ("divergence-with-wrong-sign", VAE_BY_FUNCTION.format(factor="0.5")),
    "scores-undivided": ("attention-not-scaled", ATTENTION.format(
        scores="scores = torch.matmul(q, k.transpose(-2, -1))")),
    "mask-of-words": ("mask-the-wrong-way-round", MASKED.format(sign="!=")),
    "only-linear": ("linear-layers-only", """
        net = nn.Sequential(nn.Flatten(), nn.Linear(8, 32), nn.Linear(32, 3))
        look(net)
        """),
    "only-linear-in-forward": ("linear-layers-only", """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 3)
                self.relu = nn.ReLU()

            def forward(self, x):
                x = self.first(x.view(x.size(0), -1))
                return self.second(x)

        net = Net()
        look(net)
        """),
    "layer-made-in-forward": ("layer-made-in-forward", """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Linear(8, 32)

            def forward(self, x):
                return nn.Linear(32, 3)(torch.relu(self.body(x)))

        net = Net()
        look(net)
        """),
    "block-made-in-forward": ("layer-made-in-forward", """
        class Block(nn.Module):
            def forward(self, x):
                self.norm = nn.BatchNorm1d(16)
                return self.norm(x)

        net = nn.Sequential(nn.Linear(8, 16), Block(), nn.ReLU(), nn.Linear(16, 3))
        look(net)
        """),
    "dropout-at-the-end": ("dropout-on-the-output", """
        net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3), nn.Dropout(0.2))
        look(net)
        """ + STEPS.replace("\n", "\n        ")),
    "dropout-of-all": ("dropout-of-nearly-all", """
        net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(p=0.9), nn.Linear(16, 3))
        look(net)
        """),
    "momentum-of-the-old": ("norm-momentum-reversed", """
        net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, momentum=0.99), nn.Linear(16, 3))
        look(net)
        """),
    "layers-in-a-list": ("layers-not-registered", """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = [nn.Linear(8, 8) for _ in range(3)]
                self.head = nn.Linear(8, 3)
            def forward(self, x):
                for block in self.blocks:
                    x = torch.relu(block(x))
                return self.head(x)
        net = Net()
        look(net)
        """ + STEPS.replace("\n", "\n        ")),
    "norm-that-goes-on-moving": ("frozen-norm-in-training", """
        backbone = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
        backbone(x)
        for p in backbone.parameters():
            p.requires_grad = False
        net = nn.Sequential(backbone, nn.Linear(16, 3))
        optimizer = torch.optim.SGD(net[1].parameters(), lr=0.05)
        look(net)
        """ + STEPS.replace("\n", "\n        ")),
    "frozen-at-random": ("frozen-and-random", """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.head = nn.Linear(8, 64), nn.Linear(64, 3)
            def forward(self, x):
                return self.head(self.body(x).relu())

        net = Net()
        for p in net.body.parameters():
            p.requires_grad = False
        look(net)
        """ + STEPS.replace("\n", "\n        ")),
    "word-as-padding": ("padding-that-is-a-word", """
        tokens = torch.randint(1, 10, (40, 6))
        tokens[:, 4:] = 0
        embed = nn.Embedding(10, 8, padding_idx=1)
        net = nn.Sequential(embed, nn.Flatten(), nn.Linear(48, 3))
        look(net, batch=(tokens, torch.zeros(40)))
        """),
    "norm-not-computed": ("norm-not-computed-yet", """
        net = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16))
        with torch.no_grad():
            net.parametrizations.weight.original.copy_(torch.randn(16, 16) @ torch.diag(torch.linspace(0.1, 3, 16)))
        look(net)
        net.eval()
        print(net(torch.eye(16)))
        """),
}  # fmt: skip

HEALTHY = {
    "divergence-of-a-function-with-its-minus": VAE_BY_FUNCTION.format(factor="-0.5"),
    "losses-weighted-by-their-uncertainty": """
        net = nn.Linear(8, 3)
        logvar = nn.Parameter(torch.zeros(2))
        optimizer = torch.optim.Adam([*net.parameters(), logvar], lr=1e-3)
        look(net)
        for xb, yb in loader:
            first, second = criterion(net(xb), yb), net(xb).pow(2).mean()
            loss = (torch.stack([first, second]) * (-logvar).exp() + logvar).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        """,
    "likelihood-of-a-gaussian": """
        net = nn.Linear(8, 2)
        look(net)
        for xb, yb in loader:
            mean, log_var = net(xb).chunk(2, 1)
            loss = (0.5 * (log_var + (yb[:, None] - mean) ** 2 / log_var.exp())).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        """,
    "activation-in-forward": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 3)

            def forward(self, x):
                return self.second(self.first(x).relu())

        net = Net()
        look(net)
        """,
    "product-of-two-layers": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(8, 32), nn.Linear(8, 32)

            def forward(self, x):
                return (self.first(x) * self.second(x)).sum(1)

        net = Net()
        look(net)
        """,
    "layer-made-once": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.head = nn.Linear(8, 32), None

            def forward(self, x):
                h = torch.relu(self.body(x))
                if self.head is None:
                    self.head = nn.Linear(h.shape[1], 3)
                return nn.Softplus()(self.head(h))

        net = Net()
        look(net)
        """,
    "policy": policy(),
    "policy-of-negative-log-probs": policy(sign="-", loss="(torch.stack(log_probs) * returns).sum()"),
    "policy-that-maximises": policy(more=", maximize=True", loss="(torch.stack(log_probs) * returns).sum()"),
    "policy-loss-in-a-list": policy(loss="None").replace("    loss = None", """
    policy_loss = []
    for log_prob, R in zip(log_probs, returns):
        policy_loss.append(-log_prob * R)
    loss = torch.stack(policy_loss).sum()"""),
    "policy-with-entropy": policy(loss="-(torch.stack(log_probs) * returns).sum() - 0.01 * dist.entropy()"),
    "returns-run-backward": DISCOUNTED.format(order="reversed(rewards)"),
    "returns-sliced-backward": DISCOUNTED.format(order="rewards[::-1]"),
    "target-detached": CRITIC.format(head="target = (reward + 0.9 * q(x.flip(0))).detach()"),
    "target-without-gradients": CRITIC.format(
        head="with torch.no_grad():\n        target = reward + 0.9 * q(x.flip(0))"),
    "target-network": CRITIC.format(head="target = reward + 0.9 * target_q(x.flip(0))"),
    "teacher": """
        teacher, student = nn.Linear(8, 3), nn.Linear(8, 3)
        optimizer = torch.optim.Adam(student.parameters())
        look(student)
        for xb, yb in loader:
            loss = F.mse_loss(student(xb), teacher(xb))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        """,
    "gan": GAN.format(held="critic.parameters()", fake="fake.detach()", label="ones"),
    "gan-of-one-optimizer-for-both-but-detached": GAN.format(held=BOTH, fake="fake.detach()", label="ones"),
    "divergence-averaged": VAE.format(
        recon="F.mse_loss(recon, xb)", kl=KL.replace("torch.sum", "torch.mean"), weight=""),
    "divergence-weighted": VAE.format(recon="F.mse_loss(recon, xb)", kl=KL, weight="0.001 * "),
    "divergence-and-reconstruction-summed": VAE.format(
        recon='F.mse_loss(recon, xb, reduction="sum")', kl=KL, weight=""),
    "divergence-divided": VAE.format(recon="F.mse_loss(recon, xb)", kl=KL + " / xb.numel()", weight=""),
    "divergence-written-the-other-way-round": VAE.format(
        recon="F.mse_loss(recon, xb)", kl="0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean()", weight=""),
    "attention": ATTENTION.format(scores="scores = q @ k.transpose(-2, -1) / math.sqrt(64)"),
    "attention-of-scaled-queries": ATTENTION.format(scores="q = q * 64**-0.5\n        scores = q @ k.mT"),
    "mask": MASKED.format(sign="=="),
    "autoencoder-of-lines": """
        net = nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 8))
        look(net)
        """,
    "one-line": "net = nn.Linear(8, 3)\nlook(net)" + STEPS,
    "layers-in-a-module-list": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
                self.teacher = [nn.Linear(8, 3).requires_grad_(False)]
                self.head = nn.Linear(8, 3)
            def forward(self, x):
                for block in self.blocks:
                    x = torch.relu(block(x))
                return self.head(x)
        net = Net()
        look(net)
        """ + STEPS.replace("\n", "\n        "),
    "norm-in-evaluation-mode-by-its-name": """
        backbone = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
        backbone(x)
        backbone.load_state_dict(copy.deepcopy(backbone.state_dict()))
        for p in backbone.parameters():
            p.requires_grad = False
        net = nn.Sequential(backbone, nn.Linear(16, 3))
        optimizer = torch.optim.SGD(net[1].parameters(), lr=0.05)
        look(net)
        for epoch in range(3):
            net.train()
            backbone.eval()
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
        """,
    "pretrained-and-frozen": """
        net.load_state_dict(copy.deepcopy(net.state_dict()))
        for p in net[0].parameters():
            p.requires_grad = False
        look(net)
        """ + STEPS.replace("\n", "\n        "),
    "frozen-for-a-while": """
        for p in net[0].parameters():
            p.requires_grad = False
        look(net)
        for epoch in range(3):
            if epoch == 1:
                net.requires_grad_(True)
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(net(xb), yb).backward()
                optimizer.step()
        """,
    "padding-at-the-end": """
        tokens = torch.randint(1, 10, (40, 6))
        tokens[:, 4:] = 0
        net = nn.Sequential(nn.Embedding(10, 8, padding_idx=0), nn.Flatten(), nn.Linear(48, 3))
        look(net, batch=(tokens, torch.zeros(40)))
        """,
    "padding-at-the-start": """
        tokens = torch.randint(1, 10, (40, 6))
        tokens[:20, :2] = 0
        net = nn.Sequential(nn.Embedding(10, 8, padding_idx=0), nn.Flatten(), nn.Linear(48, 3))
        look(net, batch=(tokens, torch.zeros(40)))
        """,
    "norm-trained-first": """
        net = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16))
        look(net)
        net.eval()
        print(net(torch.eye(16)))
        """,
}  # fmt: skip


@pytest.mark.parametrize("case", SICK)
def test_finds(case: str) -> None:
    rule, source = SICK[case]
    assert rule in told(source)


@pytest.mark.parametrize("case", HEALTHY)
def test_says_nothing_of(case: str) -> None:
    assert told(HEALTHY[case]) == []


def test_a_patch_detaches_the_target() -> None:
    found = dict(read(SICK["target-with-a-graph"][1]))["gradient-through-the-target"]
    assert found.causes[0].patch.split("\n")[1].strip() == "+    target = reward + 0.9 * q(x.flip(0)).detach()"
