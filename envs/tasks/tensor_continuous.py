"""Continuous control in tensors: pendulums that start at the bottom, and a pole on a cart to balance or to swing up.

Shapes: E environments; a variable of a state is [E], an action [E, 1].
"""

from __future__ import annotations

import math

import torch
from gymnasium.spaces import Box
from torch import Tensor

from bayesrl.envs.tasks.tensor_classic import TensorPendulum, box
from bayesrl.envs.vector.noise import normal
from bayesrl.envs.vector.tensor_env import State, TensorEnv


class NoisyPendulum(TensorPendulum):
    """Gymnasium's pendulum, begun hanging still, whose angular velocity is disturbed at every step.

    Arguments:
        num_envs, max_episode_steps, device: as TensorEnv's.
        noise: standard deviation of the disturbance, in radians per second.
    """

    reset_noise, step_noise = 2, 1

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        noise: float = 0.1,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(num_envs, max_episode_steps, device=device)
        self.noise = noise

    def initial(self, noise: Tensor) -> State:
        return math.pi + 0.1 * (noise[:, 0] - 0.5), 0.1 * (noise[:, 1] - 0.5)

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        (angle, spin), reward, ended = super().dynamics(state, action, noise)
        push = self.noise * normal(noise[:, 0])
        return (angle + push * self.STEP, (spin + push).clamp(-self.FASTEST, self.FASTEST)), reward, ended


class SparsePendulum(TensorPendulum):
    """Gymnasium's pendulum, begun hanging still; +1 at every step within 15 degrees of upright, else nothing."""

    NEAR = math.cos(math.pi / 12)

    def initial(self, noise: Tensor) -> State:
        return math.pi + 0.1 * (noise[:, 0] - 0.5), 0.1 * (noise[:, 1] - 0.5)

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        after, _, ended = super().dynamics(state, action, noise)
        return after, (after[0].cos() > self.NEAR).float(), ended


class ContinuousCartPole(TensorEnv):
    """Balance a pole on a cart pushed with a force in [-10, 10] N, an action in [-1, 1]; +1 a step for 200 steps.

    The equations, start and limits are CartPole's (Barto, Sutton & Anderson, 1983).
    """

    EDGE, FALL = 2.4, 12 * math.pi / 180

    single_observation_space = box(2 * EDGE, math.inf, 2 * FALL, math.inf)
    single_action_space = box(1)
    max_episode_steps, min_episode_steps = 200, 8
    reset_noise = 4

    def initial(self, noise: Tensor) -> State:
        return (noise * 0.1 - 0.05).unbind(1)

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        x, speed, angle, spin = state
        pull, bend = accelerations(angle, spin, 10 * action[:, 0].clamp(-1, 1))
        h = 0.02
        after = x + h * speed, speed + h * pull, angle + h * spin, spin + h * bend
        return after, torch.ones_like(x), fallen(self.observe(after))

    def observe(self, state: State) -> Tensor:
        return torch.stack(state, 1)


class CartPoleSwingUp(TensorEnv):
    """Swing a hanging pole up and hold it, by a force in [-10, 10] N on its cart; 250 steps of 0.04 s.

    Observed are position, velocity, cosine and sine of the angle, angular velocity. The reward is at most 1 a step and
    asks, as in the DeepMind Control Suite's (Tassa et al., 2018), for a pole upright, a cart in the middle, a slow pole
    and small forces at once. Walls stop the cart at 2.4 m.
    """

    EDGE, STEP, PARTS, FASTEST = 2.4, 0.02, 2, 30.0

    single_observation_space = Box(-math.inf, math.inf, (5,))
    single_action_space = box(1)
    max_episode_steps = min_episode_steps = 250
    reset_noise = 4

    def initial(self, noise: Tensor) -> State:
        x, speed, angle, spin = (0.1 * (noise - 0.5)).unbind(1)
        return x, speed, angle + math.pi, spin

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        push = action[:, 0].clamp(-1, 1)
        for _ in range(self.PARTS):
            x, speed, angle, spin = self.runge_kutta(state, 10 * push)
            speed = torch.where(x.abs() > self.EDGE, 0, speed)
            state = x.clamp(-self.EDGE, self.EDGE), speed, angle, spin.clamp(-self.FASTEST, self.FASTEST)
        return state, self.reward(state, push), torch.zeros_like(push, dtype=torch.bool)

    def runge_kutta(self, state: State, force: Tensor) -> State:
        """Fourth order, over STEP seconds."""

        def slope(state: State) -> State:
            _, speed, angle, spin = state
            pull, bend = accelerations(angle, spin, force)
            return speed, pull, spin, bend

        h, k = self.STEP, [slope(state)]
        for part in (h / 2, h / 2, h):
            k.append(slope(tuple(s + part * d for s, d in zip(state, k[-1], strict=True))))
        return tuple(s + h / 6 * (a + 2 * b + 2 * c + d) for s, a, b, c, d in zip(state, *k, strict=True))

    def reward(self, state: State, push: Tensor) -> Tensor:
        """Return the reward of the state reached and the push in [-1, 1] that led there, [E]."""
        x, _, angle, spin = state
        upright, centered, slow = (1 + angle.cos()) / 2, near(x, 2), near(spin, 5)
        return upright * (1 + centered) / 2 * (5 - push.square()) / 5 * (1 + slow) / 2

    def observe(self, state: State) -> Tensor:
        x, speed, angle, spin = state
        return torch.stack((x, speed, angle.cos(), angle.sin(), spin), 1)


class SparseCartPoleSwingUp(CartPoleSwingUp):
    """The same, paid +1 at a step only where the pole is within 6 degrees of upright and the cart within 0.25 m."""

    def reward(self, state: State, push: Tensor) -> Tensor:
        x, _, angle, _ = state
        return ((angle.cos() > 0.995) & (x.abs() < 0.25)).float()


def accelerations(angle: Tensor, spin: Tensor, force: Tensor) -> tuple[Tensor, Tensor]:
    """Return the accelerations of cart and pole without friction: cart 1 kg, pole 0.1 kg and 1 m, force in N; [E]."""
    cos, sin = angle.cos(), angle.sin()
    push = (force + 0.05 * spin.square() * sin) / 1.1
    bend = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos.square() / 1.1))
    return push - 0.05 * bend * cos / 1.1, bend


def fallen(next_obs: Tensor) -> Tensor:
    """Return whether a step of ContinuousCartPole ends the episode: [*, 4] -> [*] bool."""
    x, _, angle, _ = next_obs.unbind(-1)
    return (x.abs() > ContinuousCartPole.EDGE) | (angle.abs() > ContinuousCartPole.FALL)


def stands(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Return SparseCartPoleSwingUp's reward of a step: obs [*, 5], action [*, 1], next obs [*, 5] -> [*].

    By the direction of cosine and sine together: what worlds say of the two need not be of length 1, and of a cosine
    alone, which hardly changes near upright, a plan finds worlds that are wrong.
    """
    x, _, cos, sin, _ = next_obs.unbind(-1)
    return ((cos > 0.995 * torch.hypot(cos, sin)) & (x.abs() < 0.25)).to(next_obs.dtype)


def near(x: Tensor, margin: float) -> Tensor:
    """1 at 0, falling as a Gaussian to 0.1 at the margin."""
    return (math.log(0.1) * (x / margin).square()).exp()
