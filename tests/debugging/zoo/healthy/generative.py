"""Autoencoders, adversaries, flows, diffusion and reinforcement learning, all in order."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

from zoo.data import batches, digits, predict, r2
from zoo.program import healthy
from zoo.worlds import Corridor, play


@healthy(family="generative", metric="r2", works=0.6)
def autoencoder(lab):
    """Images through a code of 12 numbers; the target is the input itself."""
    x, _, xt, _ = digits(flat=True)
    net = nn.Sequential(
        nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 12), nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid()
    )
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], x[:64]))
    for epoch in range(15):
        for (xb,) in batches(x):
            optimizer.zero_grad()
            loss = criterion(net(xb), xb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt, xt))


@healthy(family="generative", metric="r2", works=0.45)
def noise_removed(lab):
    """A convolutional autoencoder takes the noise out of images."""
    x, _, xt, _ = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1),
    )  # fmt: skip
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(x[:64], x[:64]))
    for epoch in range(6):
        for (xb,) in batches(x):
            optimizer.zero_grad()
            loss = criterion(net(xb + 0.3 * torch.randn_like(xb)), xb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, xt + 0.3 * torch.randn_like(xt), xt))


@healthy(family="generative", metric="r2", works=0.4)
def variational_autoencoder(lab):
    """Reconstruction and divergence, both summed over an image; some codes stay unused."""

    class Vae(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 16))
            self.decoder = nn.Sequential(nn.Linear(8, 96), nn.ReLU(), nn.Linear(96, 64))

        def forward(self, x):
            mean, log_var = self.encoder(x).chunk(2, 1)
            code = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
            return self.decoder(code), mean, log_var

    x, _, xt, _ = digits(flat=True)
    net = Vae()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:64],))
    for epoch in range(20):
        for (xb,) in batches(x):
            out, mean, log_var = net(xb)
            rebuilt = F.binary_cross_entropy_with_logits(out, xb, reduction="none").sum(1)
            divergence = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1)
            loss = (rebuilt + 0.5 * divergence).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(lambda t: net.decoder(net.encoder(t)[:, :8]).sigmoid(), xt, xt))


@healthy(family="generative", metric="r2", works=0.3)
def codebook(lab):
    """A code that is rounded to the nearest of 32 entries, with a straight-through gradient."""

    class Vq(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
            self.book = nn.Embedding(32, 4)
            self.decoder = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64))

        def forward(self, x):
            code = self.encoder(x).view(-1, 4)
            nearest = self.book(torch.cdist(code, self.book.weight).argmin(1))
            extra = F.mse_loss(nearest, code.detach()) + 0.25 * F.mse_loss(code, nearest.detach())
            return self.decoder((code + (nearest - code).detach()).view(-1, 16)), extra

    x, _, xt, _ = digits(flat=True)
    net = Vq()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    lab.watch(net, optimizer, batch=(x[:64],))
    for epoch in range(15):
        for (xb,) in batches(x):
            out, extra = net(xb)
            loss = F.mse_loss(out, xb) + 0.1 * extra
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(lambda t: net(t)[0], xt, xt))


@healthy(family="generative", metric="error", works=1.1)
def adversarial_pair(lab):
    """A small GAN: two optimizers, losses that go up and down for ever."""
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizer_g = torch.optim.Adam(maker.parameters(), lr=2e-3, betas=(0.5, 0.9))
    optimizer_d = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    lab.watch(maker, optimizer_g)
    lab.watch(critic, optimizer_d)
    ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)
    for step in range(500):
        real = torch.randn(64, 2) * 0.5 + torch.tensor([2.0, -1.0])
        fake = maker(torch.randn(64, 4))
        loss_d = criterion(critic(real), ones) + criterion(critic(fake.detach()), zeros)
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        loss_g = criterion(critic(fake), ones)
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        if step % 100 == 0:
            print(step, loss_d.item(), loss_g.item())
    made = predict(maker, torch.randn(1000, 4))
    lab.score((made.mean(0) - torch.tensor([2.0, -1.0])).norm())


@healthy(family="generative", metric="error", works=1.1)
def gradient_penalty(lab):
    """A Wasserstein GAN with gradient penalty: negative losses, second derivatives, three critic steps to one."""
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer_g = torch.optim.Adam(maker.parameters(), lr=3e-3, betas=(0.5, 0.9))
    optimizer_d = torch.optim.Adam(critic.parameters(), lr=3e-3, betas=(0.5, 0.9))
    lab.watch(maker, optimizer_g)
    lab.watch(critic, optimizer_d)
    for step in range(250):
        for _ in range(3):
            real = torch.randn(64, 2) * 0.5 + torch.tensor([2.0, -1.0])
            fake = maker(torch.randn(64, 4)).detach()
            between = torch.lerp(real, fake, torch.rand(64, 1)).requires_grad_()
            (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
            penalty = (slope.norm(dim=1) - 1).square().mean()
            loss_d = critic(fake).mean() - critic(real).mean() + 5 * penalty
            optimizer_d.zero_grad()
            loss_d.backward()
            optimizer_d.step()
        loss_g = -critic(maker(torch.randn(64, 4))).mean()
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        if step % 50 == 0:
            print(step, loss_d.item(), loss_g.item())
    made = predict(maker, torch.randn(1000, 4))
    lab.score((made.mean(0) - torch.tensor([2.0, -1.0])).norm())


@healthy(family="generative", metric="loss", works=2.3)
def normalising_flow(lab):
    """Four coupling layers map two moons to a Gaussian; the loss is a likelihood."""
    from sklearn.datasets import make_moons

    class Coupling(nn.Module):
        def __init__(self, first):
            super().__init__()
            self.first = first
            self.net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2))

        def forward(self, x):
            kept, moved = (x[:, :1], x[:, 1:]) if self.first else (x[:, 1:], x[:, :1])
            scale, shift = self.net(kept).chunk(2, 1)
            scale = torch.tanh(scale)
            moved = moved * scale.exp() + shift
            return torch.cat([kept, moved] if self.first else [moved, kept], 1), scale.squeeze(1)

    x = torch.tensor(make_moons(1500, noise=0.05, random_state=0)[0], dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    net = nn.ModuleList(Coupling(i % 2 == 0) for i in range(4))

    def likelihood_fn(z):
        logs = torch.zeros(len(z))
        for layer in net:
            z, log = layer(z)
            logs = logs + log
        return (0.5 * z.square().sum(1) + 1.8379 - logs).mean()

    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer)
    for epoch in range(15):
        for (xb,) in batches(x[:1200]):
            loss = likelihood_fn(xb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(likelihood_fn(x[1200:]))


@healthy(family="generative", metric="r2", works=0.4)
def diffusion(lab):
    """A network guesses the noise in images at random times: the loss is noisy and falls slowly."""
    x, _, xt, _ = digits(flat=True)
    x, xt = 2 * x - 1, 2 * xt - 1
    net = nn.Sequential(nn.Linear(65, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 64))
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    lab.watch(net, optimizer, loss=criterion, batch=(torch.randn(64, 65), torch.randn(64, 64)))

    def noisy(images):
        time, noise = torch.rand(len(images), 1), torch.randn_like(images)
        mixed = (1 - time).sqrt() * images + time.sqrt() * noise
        return torch.cat([mixed, time], 1), noise

    for epoch in range(15):
        for (xb,) in batches(x):
            given, noise = noisy(xb)
            optimizer.zero_grad()
            loss = criterion(net(given), noise)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
    lab.score(r2(net, *noisy(xt)))


@healthy(family="generative", metric="return", works=0.8)
def policy_gradient(lab):
    """REINFORCE on a corridor: one episode per step, a loss whose sign and size mean little."""
    world, policy = Corridor(), nn.Sequential(nn.Linear(7, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    lab.watch(policy, optimizer)
    for episode in range(250):
        state, done, log_probs, rewards = world.reset(), False, [], []
        while not done:
            choice = Categorical(logits=policy(state))
            action = choice.sample()
            state, reward, done = world.step(action.item())
            log_probs.append(choice.log_prob(action))
            rewards.append(reward)
        returns = torch.tensor(rewards).flip(0).cumsum(0).flip(0)
        loss = -(torch.stack(log_probs) * (returns - 0.5)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if episode % 50 == 0:
            print(episode, sum(rewards))
    lab.score(play(policy, world, episodes=100))


@healthy(family="generative", metric="return", works=0.8)
def actor_and_critic(lab):
    """Two heads on one body, an advantage, and a bonus for entropy."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(7, 32), nn.Tanh())
            self.actor = nn.Linear(32, 2)
            self.critic = nn.Linear(32, 1)

        def forward(self, state):
            h = self.body(state)
            return self.actor(h), self.critic(h).squeeze(-1)

    world, net = Corridor(), Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    lab.watch(net, optimizer)
    for episode in range(250):
        state, done, states, actions, rewards = world.reset(), False, [], [], []
        while not done:
            with torch.no_grad():
                action = Categorical(logits=net(state)[0]).sample()
            states.append(state)
            actions.append(action)
            state, reward, done = world.step(action.item())
            rewards.append(reward)
        logits, values = net(torch.stack(states))
        steps_left = torch.arange(len(rewards) - 1, -1, -1)
        returns = 0.97**steps_left * rewards[-1]
        choice = Categorical(logits=logits)
        gain = (choice.log_prob(torch.stack(actions)) * (returns - values.detach())).mean()
        loss = -gain + 0.5 * F.mse_loss(values, returns) - 0.01 * choice.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    lab.score(play(lambda s: net(s)[0], world, episodes=100))


@healthy(family="generative", metric="return", works=0.8)
def deep_q_learning(lab):
    """Q-learning with a replay memory and a target network that follows now and then."""
    world, net = Corridor(), nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 2))
    target = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    lab.watch(net, optimizer, loss=F.smooth_l1_loss)
    memory, state = [], world.reset()
    for step in range(600):
        greedy = torch.rand(()) > max(0.1, 1 - step / 300)
        action = predict(net, state).argmax().item() if greedy else int(torch.randint(0, 2, ()))
        after, reward, done = world.step(action)
        memory.append((state, torch.tensor(action), torch.tensor(reward), after, torch.tensor(float(done))))
        state = world.reset() if done else after
        if step < 100:
            continue
        rows = torch.randint(0, len(memory), (32,)).tolist()
        s, a, r, s2, d = (torch.stack(part) for part in zip(*(memory[i] for i in rows), strict=True))
        wanted = r + 0.9 * (1 - d) * target(s2).amax(1)
        loss = F.smooth_l1_loss(net(s).gather(1, a[:, None]).squeeze(1), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            target.load_state_dict(net.state_dict())
    lab.score(play(lambda s: 50 * net(s), world, episodes=100))
