"""Faults of generative adversarial networks and of reinforcement learning."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical

from zoo.data import accuracy, digits, predict
from zoo.program import drop, sick, swap
from zoo.worlds import Corridor, Fork, play


@sick(
    family="adversarial", kind="invariant", cause=("optimizer-of-other-parameters", "parameters-not-in-optimizer"),
    place=("optimizer", "model", "*"), metric="error", works=0.8, margin=0.5,
    fix=[
        swap(
            "optimizer_g = torch.optim.Adam(critic.parameters()",
            "optimizer_g = torch.optim.Adam(maker.parameters()",
        ),
    ],
)  # fmt: skip
def generator_never_trained(lab):
    """The generator's optimizer was given the discriminator's parameters."""
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    optimizer_g = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))  # <- here
    optimizer_d = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    lab.watch(maker, optimizer_g, batch=(torch.randn(64, 4),))
    lab.watch(critic, optimizer_d, batch=(torch.randn(64, 2),))
    for step in range(800):
        real = torch.randn(64, 2) * 0.5 + torch.tensor([2.0, -1.0])
        fake = maker(torch.randn(64, 4))
        loss_d = F.softplus(-critic(real)).mean() + F.softplus(critic(fake.detach())).mean()
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        loss_g = F.softplus(-critic(fake)).mean()
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        if step % 100 == 0:
            print(step, loss_d.item(), loss_g.item())
    made = predict(maker, torch.randn(1000, 4))
    lab.score((made.mean(0) - torch.tensor([2.0, -1.0])).norm())


@sick(
    family="adversarial", kind="invariant", cause=("detach-missing", "grads-not-cleared"),
    place=("optimizer", "model", "*"), by=50, metric="error", works=0.8, margin=0.3,
    fix=[swap("critic(fake)).mean()\n    optimizer_d", "critic(fake.detach())).mean()\n    optimizer_d")],
)  # fmt: skip
def generator_helps_the_critic(lab):
    """The fake images are not detached for the critic's loss, and one optimizer steps both networks."""
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    optimizer_g = torch.optim.Adam(maker.parameters(), lr=2e-3, betas=(0.5, 0.9))
    optimizer_d = torch.optim.Adam([*critic.parameters(), *maker.parameters()], lr=2e-3, betas=(0.5, 0.9))  # <- here
    lab.watch(maker, optimizer_g, batch=(torch.randn(64, 4),))
    lab.watch(critic, optimizer_d, batch=(torch.randn(64, 2),))
    for step in range(800):
        real = torch.randn(64, 2) * 0.5 + torch.tensor([2.0, -1.0])
        fake = maker(torch.randn(64, 4))
        loss_d = F.softplus(-critic(real)).mean() + F.softplus(critic(fake)).mean()
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        fake = maker(torch.randn(64, 4))
        loss_g = F.softplus(-critic(fake)).mean()
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        if step % 100 == 0:
            print(step, loss_d.item(), loss_g.item())
    made = predict(maker, torch.randn(1000, 4))
    lab.score((made.mean(0) - torch.tensor([2.0, -1.0])).norm())


@sick(
    family="adversarial", kind="statistic", cause=("adversarial-labels-wrong", "loss-sign"), place=("loss", "*"),
    metric="error", works=0.8, margin=0.5,
    fix=[swap("loss_g = criterion(critic(fake), zeros)", "loss_g = criterion(critic(fake), ones)")],
)  # fmt: skip
def generator_wants_to_be_caught(lab):
    """The generator's loss uses the label of fakes: it learns to be told apart."""
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizer_g = torch.optim.Adam(maker.parameters(), lr=2e-3, betas=(0.5, 0.9))
    optimizer_d = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)
    lab.watch(maker, optimizer_g, loss=criterion, batch=(torch.randn(64, 4),))
    lab.watch(critic, optimizer_d, loss=criterion, batch=(torch.randn(64, 2), ones))
    for step in range(800):
        real = torch.randn(64, 2) * 0.5 + torch.tensor([2.0, -1.0])
        fake = maker(torch.randn(64, 4))
        loss_d = criterion(critic(real), ones) + criterion(critic(fake.detach()), zeros)
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        loss_g = criterion(critic(fake), zeros)  # <- here
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        if step % 100 == 0:
            print(step, loss_d.item(), loss_g.item())
    made = predict(maker, torch.randn(1000, 4))
    lab.score((made.mean(0) - torch.tensor([2.0, -1.0])).norm())


@sick(
    family="adversarial", kind="statistic", cause="loss-sign", place="loss",
    metric="return", works=0.85, margin=0.5,
    fix=[swap("loss = (torch.stack(log_probs) * returns).sum()", "loss = -(torch.stack(log_probs) * returns).sum()")],
)  # fmt: skip
def reinforce_upside_down(lab):
    """The policy gradient has the wrong sign: what pays is done less often."""
    world, policy = Corridor(), nn.Sequential(nn.Linear(7, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    lab.watch(policy, optimizer, batch=(world.reset()[None],))
    for episode in range(200):
        log_probs, rewards, state, done = [], [], world.reset(), False
        while not done:
            choice = Categorical(logits=policy(state))
            action = choice.sample()
            log_probs.append(choice.log_prob(action))
            state, reward, done = world.step(action.item())
            rewards.append(reward)
        returns = torch.tensor([sum(rewards[t:]) for t in range(len(rewards))])
        loss = (torch.stack(log_probs) * returns).sum()  # <- here
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if episode % 50 == 0:
            print(episode, sum(rewards))
    lab.score(play(policy, Corridor(), episodes=40))


@sick(
    family="adversarial", kind="statistic", cause="returns-wrong", place="loss",
    metric="return", works=0.8, margin=0.1,
    fix=[swap("sum(rewards[: t + 1])", "sum(rewards[t:])")],
)  # fmt: skip
def returns_of_the_past(lab):
    """The return of a step is summed over what came before it, not after."""
    world, policy = Fork(), nn.Sequential(nn.Linear(7, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    lab.watch(policy, optimizer, batch=(world.reset()[None],))
    for episode in range(200):
        log_probs, rewards, state, done = [], [], world.reset(), False
        while not done:
            choice = Categorical(logits=policy(state))
            action = choice.sample()
            log_probs.append(choice.log_prob(action))
            state, reward, done = world.step(action.item())
            rewards.append(reward)
        returns = torch.tensor([sum(rewards[: t + 1]) for t in range(len(rewards))])  # <- here
        loss = -(torch.stack(log_probs) * returns).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if episode % 50 == 0:
            print(episode, sum(rewards))
    lab.score(play(policy, Fork(), episodes=40))


@sick(
    family="adversarial", kind="statistic", cause="target-not-detached", place=("loss", "model"), metric="error",
    works=0.25, margin=0.1,
    fix=[
        swap(
            "target = reward + 0.95 * value(after).squeeze(1) * alive",
            "target = reward + 0.95 * value(after).squeeze(1).detach() * alive",
        ),
    ],
)  # fmt: skip
def gradient_through_the_target(lab):
    """The bootstrapped target is part of the graph: the value of the next state is pulled to that of this one."""
    value = nn.Linear(8, 1, bias=False)
    nn.init.zeros_(value.weight)
    optimizer = torch.optim.SGD(value.parameters(), lr=0.5)
    states = torch.eye(8)
    lab.watch(value, optimizer, batch=(states,))
    for _ in range(600):
        at = torch.randint(0, 8, (32,))
        moves = torch.where(torch.rand(32) < 0.5, 1, -1)
        to = at + moves
        reward, alive = (to == 8).float(), ((to >= 0) & (to < 8)).float()
        after = states[to.clamp(0, 7)]
        target = reward + 0.95 * value(after).squeeze(1) * alive  # <- here
        loss = F.mse_loss(value(states[at]).squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    exact = torch.linalg.solve(
        torch.eye(8) - 0.95 * 0.5 * (torch.diag(torch.ones(7), 1) + torch.diag(torch.ones(7), -1)),
        torch.tensor([0.0] * 7 + [0.5]),
    )
    lab.score((value(states).squeeze(1) - exact).abs().max() / exact.max())


@sick(
    family="adversarial", kind="statistic", cause="exploration-missing", place=("model", "loss", "batch"),
    metric="return", works=0.85, margin=0.3,
    fix=[swap("action = choice.probs.argmax()", "action = choice.sample()")],
)  # fmt: skip
def always_the_best_known(lab):
    """Actions are the most likely ones, not drawn: what was never tried is never learned."""
    world, policy = Corridor(), nn.Sequential(nn.Linear(7, 32), nn.Tanh(), nn.Linear(32, 2))
    nn.init.constant_(policy[2].bias, 0.0)
    with torch.no_grad():
        policy[2].bias[0] += 0.5
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    lab.watch(policy, optimizer, batch=(world.reset()[None],))
    for episode in range(200):
        log_probs, rewards, state, done = [], [], world.reset(), False
        while not done:
            choice = Categorical(logits=policy(state))
            action = choice.probs.argmax()  # <- here
            log_probs.append(choice.log_prob(action))
            state, reward, done = world.step(action.item())
            rewards.append(reward)
        returns = torch.tensor([sum(rewards[t:]) for t in range(len(rewards))])
        loss = -(torch.stack(log_probs) * returns).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if episode % 50 == 0:
            print(episode, sum(rewards))
    lab.score(play(policy, Corridor(), episodes=40))


@sick(
    family="adversarial", kind="invariant", cause=("detach-missing", "parameters-not-in-optimizer"),
    place=("loss", "model", "*"), by=50, metric="accuracy", works=0.85, margin=0.1,
    fix=[swap("soft = teacher(xb)", "soft = teacher(xb).detach()"), drop("optimizer.add_param_group(")],
)  # fmt: skip
def teacher_learns_from_the_student(lab):
    """In distillation the teacher's output is not detached, and both are trained to agree: on nothing."""
    x, y, xt, yt = digits(flat=True)
    teacher = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    trainer = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    for _ in range(100):
        rows = torch.randint(0, len(x), (64,))
        trainer.zero_grad()
        F.cross_entropy(teacher(x[rows]), y[rows]).backward()
        trainer.step()
    before = copy.deepcopy(teacher)
    student = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
    optimizer.add_param_group({"params": list(teacher.parameters())})  # <- here
    lab.watch(student, optimizer, loss=F.mse_loss, batch=(x[:64], before(x[:64]).detach()))
    for step in range(300):
        rows = torch.randint(0, len(x), (64,))
        xb = x[rows] + 0.1 * torch.randn(64, 64)
        soft = teacher(xb)  # <- here
        loss = F.mse_loss(student(xb), soft)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, loss.item())
    lab.score(accuracy(student, xt, yt))


@sick(
    family="adversarial", kind="statistic", cause=("gan-unbalanced", "vanishing-gradient"),
    place=("optimizer", "model", "*"), metric="error", works=1.5, margin=1.0,
    fix=[swap("critic.parameters(), lr=0.05", "critic.parameters(), lr=1e-3"), swap("range(10)", "range(1)")],
)  # fmt: skip
def critic_too_strong(lab):
    """Ten fast steps of the critic for one of the generator, whose saturating loss is left without a gradient."""
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    optimizer_g = torch.optim.SGD(maker.parameters(), lr=0.05)
    optimizer_d = torch.optim.Adam(critic.parameters(), lr=0.05)  # <- here
    lab.watch(maker, optimizer_g)
    lab.watch(critic, optimizer_d)
    for step in range(300):
        for _ in range(10):
            real = torch.randn(64, 2) * 0.5 + torch.tensor([3.0, -3.0])
            fake = maker(torch.randn(64, 4)).detach()
            loss_d = F.softplus(-critic(real)).mean() + F.softplus(critic(fake)).mean()
            optimizer_d.zero_grad()
            loss_d.backward()
            optimizer_d.step()
        loss_g = -F.softplus(critic(maker(torch.randn(64, 4)))).mean()
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        if step % 50 == 0:
            print(step, loss_d.item(), loss_g.item())
    made = predict(maker, torch.randn(1000, 4))
    lab.score((made.mean(0) - torch.tensor([3.0, -3.0])).norm())
