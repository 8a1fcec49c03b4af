"""Environments in tensors have the dynamics and the rewards of their originals."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from bayesrl.envs import (
    DeepSeaVector,
    RiverSwim,
    TensorCartPole,
    TensorDeepSea,
    TensorRiverSwim,
    normal,
)
from bayesrl.envs.tasks.deep_sea import move
from support.tensor_environments import CLASSIC


@pytest.mark.parametrize("env_id", CLASSIC)
def test_transitions_are_gymnasiums(env_id):
    """100,000 random states, those beyond the limits included, and actions, fed to both.

    In float64 all ends are the same and numbers agree to 1e-10 of their range, a thousand roundings and more. In
    float32, as they run, to some ten roundings of 6e-8; Acrobot at 9 pi rad/s multiplies a rounding by a thousand in
    its step of 0.2 s. There at most 5 ends differ, of states within a rounding of the limit.
    """
    cls, most, single_precision = CLASSIC[env_id]
    theirs, rng, n = gym.make(env_id).unwrapped, np.random.default_rng(0), 100_000
    continuous = isinstance(theirs.action_space, Box)
    theirs.reset(seed=0)
    states = rng.uniform(-1, 1, (n, len(most))) * most
    if "MountainCar" in env_id:
        states[:, 0] = rng.uniform(-1.2, 0.6, n)
        states[:100, 0] = -1.2
    actions = rng.uniform(-3, 3, (n, 1)) if continuous else rng.integers(theirs.action_space.n, size=n)
    rows, seen, rewards, ends = np.empty_like(states), [], np.empty(n), np.empty(n, bool)
    for i, (state, action) in enumerate(zip(states, actions, strict=True)):
        theirs.state, theirs.steps_beyond_terminated = state, None
        obs, rewards[i], ends[i], _, _ = theirs.step(action)
        rows[i] = theirs.state
        seen.append(obs)
    assert env_id == "Pendulum-v1" or 0.01 < ends.mean() < 0.99
    scale = np.abs(rows).max(0)
    exact = 1e-7 if env_id == "MountainCarContinuous-v0" else 1e-10  # whose states are float32 in Gymnasium too
    for dtype, tolerance in ((torch.float64, exact), (torch.float32, single_precision)):
        ours, given = cls(1), torch.as_tensor(actions, dtype=dtype if continuous else torch.int64)
        after, reward, ended = ours.dynamics(torch.as_tensor(states, dtype=dtype).unbind(1), given, torch.empty(n, 0))
        apart = torch.stack(after, 1).double().numpy() - rows
        if env_id == "Acrobot-v1":
            apart[:, :2] = (apart[:, :2] + np.pi) % (2 * np.pi) - np.pi  # pi and -pi are one angle
        assert (np.abs(apart) <= tolerance * scale).all()
        agree = ended.numpy() == ends
        assert (~agree).sum() <= (0 if dtype is torch.float64 else 5)
        np.testing.assert_allclose(reward.double().numpy()[agree], rewards[agree], rtol=10 * tolerance, atol=tolerance)
        spread = np.abs(ours.observe(after).double().numpy() - np.stack(seen)).max(0)
        assert (spread <= max(tolerance, 1e-7) * np.maximum(1, np.abs(seen).max(0)) * 10).all()


@pytest.mark.parametrize("barto", [False, True])
def test_cartpole_pays_as_gymnasiums_native_vector(barto):
    ours, theirs = (
        TensorCartPole(100, sutton_barto_reward=barto),
        gym.make_vec("CartPole-v1", 100, "vector_entry_point"),
    )
    theirs = type(theirs)(100, sutton_barto_reward=barto)
    theirs.reset(seed=0)
    theirs.state = np.random.default_rng(0).uniform(-1, 1, (4, 100)) * np.array([[2.6], [3], [0.25], [3]])
    after, reward, ended = ours.dynamics(tuple(torch.tensor(theirs.state)), torch.ones(100).long(), torch.empty(100, 0))
    obs, wanted, ends, _, _ = theirs.step(np.ones(100, int))
    np.testing.assert_array_equal(reward.numpy(), wanted)
    np.testing.assert_array_equal(ended.numpy(), ends)
    np.testing.assert_allclose(torch.stack(after, 1).numpy(), obs, atol=1e-6)


def test_deep_sea_is_the_host_s():
    """100,000 random transitions side by side; rewards to float32's rounding of 0.99, 6e-8."""
    ours, theirs = TensorDeepSea(1000, 7, 3), DeepSeaVector(1000, 7, 3)
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for _ in range(100):
        action = ours.action_space.sample()
        got, wanted = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(got[0].numpy(), wanted[0])
        np.testing.assert_allclose(got[1].numpy(), wanted[1], atol=6e-8)
        np.testing.assert_array_equal(got[2].numpy(), wanted[2])
        assert got[0].dtype == torch.uint8 and not got[3].any()
        if wanted[2].any():
            np.testing.assert_array_equal(got[4]["final_obs"].numpy(), np.stack(wanted[4]["final_obs"]))


def test_stochastic_deep_sea_is_the_host_s():
    """10,000 cells, actions, gusts and waves, fed to both."""

    class Fed:
        random = staticmethod(lambda n: noise[:, 0].numpy())
        standard_normal = staticmethod(lambda n: normal(noise[:, 1]).numpy())

    ours = TensorDeepSea(10_000, size=4, stochastic=True)
    noise = torch.rand(10_000, 2, generator=torch.Generator().manual_seed(0))
    row, column, action = torch.randint(4, (3, 10_000), generator=torch.Generator().manual_seed(1))
    action = action % 2
    (below, beside), reward, over = ours.dynamics((row, column), action, noise)
    mapping = ours.mapping.view(4, 4).numpy()
    wanted, pay = move(mapping, row.numpy(), column.numpy(), action.numpy(), Fed())
    np.testing.assert_array_equal(beside.numpy(), wanted)
    np.testing.assert_allclose(reward.numpy(), pay, atol=1e-6)
    assert torch.equal(below, row + 1) and torch.equal(over, row == 3)


def test_river_swim_flows_as_the_host_s():
    """On 1,000 evenly spaced random numbers each next state is counted 1000 P times, give or take 1 at a bound."""
    ours, theirs, n = TensorRiverSwim(1000, size=5), RiverSwim(5), 1000
    noise = ((torch.arange(n) + 0.5) / n)[:, None]
    for state in range(5):
        for action in range(2):
            (after,), reward, over = ours.dynamics((torch.full((n,), state),), torch.full((n,), action), noise)
            counts = torch.bincount(after, minlength=5).numpy()
            assert np.abs(counts - n * theirs.P[state, action]).max() <= 1
            np.testing.assert_allclose(reward.numpy(), theirs.R[state, action], rtol=1e-7)
            assert not over.any()


def test_normal_numbers_are_normal():
    """100,000 uniform numbers: four standard deviations of mean, variance and fourth moment; 0 is finite."""
    x = normal(torch.rand(100_000, generator=torch.Generator().manual_seed(0)))
    assert abs(x.mean()) < 4 * 0.0032 and abs(x.var() - 1) < 4 * 0.0045 and abs((x**4).mean() - 3) < 4 * 0.031
    assert normal(torch.zeros(1)).isfinite().all()
