"""Continuous control in tensors: its mechanics keep energy, its tasks pay and begin as they say."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from bayesrl.envs import (
    CartPoleSwingUp,
    ContinuousCartPole,
    NoisyPendulum,
    SparseCartPoleSwingUp,
    SparsePendulum,
    check,
    make,
    single,
)
from bayesrl.envs.tasks.tensor_classic import TensorCartPole, TensorPendulum
from bayesrl.envs.tasks.tensor_continuous import fallen, stands

IDS = [
    "bayesrl/CartPoleSwingUp-v0",
    "bayesrl/ContinuousCartPole-v0",
    "bayesrl/NoisyPendulum-v0",
    "bayesrl/SparseCartPoleSwingUp-v0",
    "bayesrl/SparsePendulum-v0",
]


@pytest.mark.parametrize("env_id", IDS)
def test_it_keeps_gymnasiums_laws_and_is_had_by_id(env_id):
    check(single(env_id))
    env, chosen = make(env_id, 3)
    assert chosen == "device" and env.num_envs == 3
    assert gym.spec(env_id).vector_entry_point is not None


def test_full_pushes_are_cartpoles_own_transitions():
    """Actions of -1 and 1 are pushes left and right: 10,000 states, float32."""
    generator = torch.Generator().manual_seed(0)
    state = tuple((torch.rand(10_000, generator=generator) - 0.5) * s for s in (4, 4, 0.4, 4))
    right = torch.rand(10_000, generator=generator) < 0.5
    discrete, continuous = TensorCartPole(10_000), ContinuousCartPole(10_000)
    nothing = torch.zeros(10_000, 0)
    after, _, fallen = discrete.dynamics(state, right.long(), nothing)
    own, reward, ended = continuous.dynamics(state, right.float()[:, None] * 2 - 1, nothing)
    for a, b in zip(after, own, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert torch.equal(fallen, ended) and (reward == 1).all()


def test_what_is_told_of_an_end_and_a_reward_is_the_environments_own():
    """On 10,000 states around where a pole falls, or stands, of which between a twentieth and a half do."""
    generator = torch.Generator().manual_seed(0)

    def around(*width):
        return tuple(((torch.rand(10_000, len(width), generator=generator) - 0.5) * 2 * torch.tensor(width)).unbind(1))

    action, nothing = torch.zeros(10_000, 1), torch.zeros(10_000, 0)
    env = ContinuousCartPole(10_000)
    state, _, ended = env.dynamics(around(2.6, 1.0, 0.22, 1.0), action, nothing)
    assert torch.equal(fallen(env.observe(state)), ended) and 500 < ended.sum() < 5000
    env = SparseCartPoleSwingUp(10_000)
    state, reward, _ = env.dynamics(around(0.5, 1.0, 0.2, 1.0), action, nothing)
    obs = env.observe(state)
    assert torch.equal(stands(obs, action, obs), reward) and 500 < reward.sum() < 5000


def test_what_stands_is_told_by_a_direction():
    """Of a cosine and a sine that are of no angle, as worlds expect them: 9 degrees off upright, and upright."""
    obs = torch.tensor([[0.0, 0.0, 0.998, 0.16, 0.0], [0.0, 0.0, 0.9, 0.01, 0.0], [0.3, 0.0, 1.0, 0.0, 0.0]])
    assert stands(obs, torch.zeros(3, 1), obs).tolist() == [0, 1, 0]


def test_a_pole_left_alone_keeps_its_energy():
    """1,000 control steps without force from angle 2: kinetic and potential energy within 0.1 % of what swings."""
    env = CartPoleSwingUp(1)
    state = tuple(torch.tensor([v], dtype=torch.float64) for v in (0.0, 0.0, 2.0, 0.0))

    def energy(state):
        _, v, angle, spin = (float(s) for s in state)
        tip = (v + 0.5 * spin * math.cos(angle), -0.5 * spin * math.sin(angle))  # of the pole's center
        turning = 0.1 * 1.0**2 / 12 * spin**2 / 2
        return 1.0 * v**2 / 2 + 0.1 * (tip[0] ** 2 + tip[1] ** 2) / 2 + turning + 0.1 * 9.8 * 0.5 * math.cos(angle)

    first, worst = energy(state), 0.0
    for _ in range(1000):
        state, _, _ = env.dynamics(state, torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 0))
        worst = max(worst, abs(energy(state) - first))
    swing = 0.1 * 9.8 * 0.5 * (math.cos(2.0) + 1)
    assert worst < 0.001 * swing


def test_walls_stop_the_cart():
    env = CartPoleSwingUp(1)
    state = tuple(torch.tensor([v]) for v in (2.39, 5.0, math.pi, 0.0))
    (x, speed, _, _), _, ended = env.dynamics(state, torch.ones(1, 1), torch.zeros(1, 0))
    assert x == pytest.approx(2.4) and speed < 0.5 and not ended


def test_rewards_are_what_the_texts_say():
    env, sparse = CartPoleSwingUp(1), SparseCartPoleSwingUp(1)
    state = lambda x, angle, spin: tuple(torch.tensor([float(v)]) for v in (x, 0, angle, spin))  # noqa: E731
    still, full = torch.zeros(1), torch.ones(1)
    assert float(env.reward(state(0, 0, 0), still)) == 1
    assert float(env.reward(state(0, 0, 0), full)) == pytest.approx(0.8)
    assert float(env.reward(state(0, math.pi, 0), still)) == pytest.approx(0, abs=1e-6)
    assert float(env.reward(state(2, 0, 0), still)) == pytest.approx((1 + 0.1) / 2)
    assert float(env.reward(state(0, 0, 5), still)) == pytest.approx((1 + 0.1) / 2)
    assert [float(sparse.reward(state(x, a, 0), full)) for x, a in [(0, 0.09), (0, 0.11), (0.3, 0)]] == [1, 0, 0]
    pendulum = SparsePendulum(2)
    angle = torch.tensor([math.radians(14.0), math.radians(16.0)])
    _, reward, _ = pendulum.dynamics((angle, torch.zeros(2)), torch.zeros(2, 1), torch.zeros(2, 0))
    assert reward.tolist() == [1, 0]


def test_the_noisy_pendulum_hangs_at_first_and_is_disturbed_as_said():
    """sd of the spin's disturbance over 20,000 environments: 0.1 within 2 % (4 standard errors); its law else."""
    env = NoisyPendulum(20_000)
    env.reset(seed=0)
    angle, spin = env.state
    assert float((angle - math.pi).abs().max()) <= 0.05 and float(spin.abs().max()) <= 0.05
    torque = torch.zeros(20_000, 1)
    (plain, _), cost, _ = TensorPendulum(20_000).dynamics(env.state, torque, torch.zeros(20_000, 0))
    _, noise = env.draw()
    (moved, _), noisy_cost, _ = env.dynamics(env.state, torque, noise)
    push = (moved - plain) / env.STEP
    assert float(push.std()) == pytest.approx(0.1, rel=0.02) and abs(float(push.mean())) < 4 * 0.1 / 20_000**0.5
    assert torch.equal(cost, noisy_cost)


def test_the_action_space_is_clipped_to():
    env = CartPoleSwingUp(2)
    env.reset(seed=0)
    state = tuple(s[:1].expand(2) for s in env.state)
    after, *_ = env.dynamics(state, torch.tensor([[1.0], [7.0]]), torch.zeros(2, 0))
    assert all(np.isclose(*s.tolist()) for s in after)
