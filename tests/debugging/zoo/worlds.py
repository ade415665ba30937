"""Tiny worlds for reinforcement learning."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Corridor:
    """Seven fields in a row, begun anywhere between the ends: the right end pays 1, the left end nothing; 30 steps."""

    length = 7

    def reset(self) -> Tensor:
        """Begin anew; a state is the one-hot place, float32 [7]."""
        self.place, self.left = int(torch.randint(1, self.length - 1, ())), 30
        return self._state()

    def step(self, action: int) -> tuple[Tensor, float, bool]:
        """Go left (0) or right (1); return the state, the reward and whether it is over."""
        self.place += 1 if action else -1
        self.left -= 1
        is_over = self.place in (0, self.length - 1)
        return self._state(), float(is_over and self.place > 0), is_over or self.left == 0

    def _state(self) -> Tensor:
        return torch.eye(self.length)[self.place]


class Fork:
    """The first of four steps decides, the last one pays: 1 after action 1, else nothing."""

    def reset(self) -> Tensor:
        """Begin anew; a state is the one-hot time, float32 [7]."""
        self.time, self.choice = 0, 0
        return torch.eye(7)[0]

    def step(self, action: int) -> tuple[Tensor, float, bool]:
        """Take action 0 or 1; return the state, the reward and whether it is over."""
        if self.time == 0:
            self.choice = action
        self.time += 1
        is_over = self.time == 4
        return torch.eye(7)[self.time], float(is_over and self.choice), is_over


@torch.no_grad()
def play(policy: nn.Module, world: Corridor | Fork, *, episodes: int) -> float:
    """Return the mean return of a policy that gives logits of the actions."""
    total = 0.0
    for _ in range(episodes):
        state, done = world.reset(), False
        while not done:
            action = torch.distributions.Categorical(logits=policy(state)).sample().item()
            state, reward, done = world.step(action)
            total += reward
    return total / episodes
