"""Environments in tensors end and begin episodes as they should, and wait for nobody."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch.utils._python_dispatch import TorchDispatchMode

from bayesrl.envs import (
    DeepSea,
    Numpy,
    Single,
    TensorAcrobot,
    TensorCartPole,
    TensorDeepSea,
    TensorMountainCar,
    TensorRiverSwim,
    check,
    flatten,
    load_state,
    make,
    observation_layout,
    save_state,
    single,
)
from bayesrl.envs.vector.tensor_env import flatten_tensor
from support.tensor_environments import ALL, CLASSIC, DISCRETE, Counting, play, same, started

# --- episodes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_episodes_end_and_begin_in_one_step(cls):
    """Over 40 random steps with a limit of 9, or DeepSea's 9 rows: each is `dynamics` and, at an end, `initial`."""
    env = started(cls, size=9) if cls is TensorDeepSea else started(cls, max_episode_steps=9)
    clock, ends = torch.zeros(64), 0
    for _ in range(40):
        fresh, noise = env.draw()
        env.draw = lambda: (fresh, noise)  # noqa: B023
        action = torch.as_tensor(env.action_space.sample())
        after, reward, terminated = env.dynamics(env.state, action, noise)
        obs, got, over, cut, infos = env.step(action)
        del env.draw
        clock += 1
        done = terminated | (clock == 9)
        assert torch.equal(infos["final_obs"], env.observe(after)) and torch.equal(infos["_final_obs"], done)
        assert torch.equal(obs[done], env.observe(env.initial(fresh))[done]) and torch.equal(got, reward.float())
        assert torch.equal(obs[~done], infos["final_obs"][~done])
        assert torch.equal(over, terminated)
        assert torch.equal(cut, (clock == 9) & (cls is not TensorDeepSea))
        clock[done] = 0
        assert torch.equal(env.clock.float(), clock)
        ends += int(done.sum())
    assert ends >= 4 * 64


def test_an_episode_may_both_end_and_be_cut():
    env = Counting([2, 3, 5], max_episode_steps=3)
    env.reset(seed=0)
    flags = [[flag.tolist() for flag in step[2:4]] for step in play(env, 3)]
    assert flags[1:] == [[[True, False, False], [False] * 3], [[False, True, False], [False, True, True]]]


def test_no_start_is_used_twice():
    """Episodes of 2 and 3 steps with numbers drawn only every 2 steps: 10,000 starts, each its own.

    48 random bits a start, so that two are equal by chance with probability 2e-7.
    """

    class Pairs(Counting):
        reset_noise, min_episode_steps = 2, 2

        def initial(self, noise):
            return noise[:, 0] + noise[:, 1].double() / 2**24, torch.zeros(len(noise))

        def observe(self, state):
            return torch.stack(state, 1).float()

    env = Pairs([2, 3] * 500)
    starts = []
    for _ in range(2):
        env.reset()
        starts.append(env.state[0].clone())
        for _ in range(11):
            done = env.step(np.zeros(1000, int))[4]["_final_obs"]
            starts.append(env.state[0][done])
    starts = torch.cat(starts)
    assert len(starts) == 2 * (1000 + 500 * 5 + 500 * 3) and len(starts.unique()) == len(starts)


@pytest.mark.parametrize(("cls", "actions"), [(TensorCartPole, 2), (TensorAcrobot, 3)])
def test_no_episode_is_shorter_than_said(cls, actions):
    """All sequences of actions, from every corner of the first states and 50 more."""
    env = cls(1)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    state = env.initial(torch.cat((corners, torch.rand(50, 4, generator=torch.Generator().manual_seed(0)))))
    for _ in range(env.min_episode_steps - 1):
        action = torch.arange(actions).repeat_interleave(len(state[0]))
        state, _, ended = env.dynamics(tuple(s.repeat(actions) for s in state), action, torch.empty(0))
        assert not ended.any()


def test_first_states_are_gymnasiums():
    """10,000 of each: bounds are exact; a uniform mean's standard deviation is 0.0029 of the width, and 4 pass."""
    for env_id, low, high in (
        ("CartPole-v1", [-0.05] * 4, [0.05] * 4),
        ("Acrobot-v1", [-0.1] * 4, [0.1] * 4),
        ("MountainCar-v0", [-0.6, 0], [-0.4, 0]),
        ("MountainCarContinuous-v0", [-0.6, 0], [-0.4, 0]),
        ("Pendulum-v1", [-np.pi, -1], [np.pi, 1]),
    ):
        states = torch.stack(started(CLASSIC[env_id][0], 10_000).state, 1).double().numpy()
        low, high = np.array(low), np.array(high)
        assert (states >= low - 1e-6).all() and (states <= high + 1e-6).all()
        assert (np.abs(states.mean(0) - (low + high) / 2) <= 0.0116 * (high - low)).all()
        theirs = gym.make(env_id).unwrapped
        drawn = np.stack([(theirs.reset(seed=i), theirs.state)[1] for i in range(300)])
        assert (drawn >= low).all() and (drawn <= high).all()
        assert (np.ptp(drawn, 0) >= 0.95 * (high - low)).all()  # 300 uniform numbers span less with probability 4e-6


# --- reproducing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_a_seed_tells_everything(cls):
    same(play(started(cls, 4, seed=5), 150), play(started(cls, 4, seed=5), 150))
    a = started(cls, 4, seed=5)
    if cls not in (TensorDeepSea, TensorRiverSwim):
        assert not torch.equal(a.state[0], started(cls, 4, seed=6).state[0])
        first = a.reset()[0]
        assert not torch.equal(first, a.reset()[0])


@pytest.mark.parametrize("cls", ALL)
def test_a_captured_state_goes_on_bit_for_bit(cls):
    env = started(cls, 3)
    play(env, 37)
    state = save_state(env)
    env.action_space.seed(1)
    wanted = play(env, 300)
    for other in (cls(3), env):
        load_state(other, state)
        other.action_space.seed(1)
        same(play(other, 300), wanted)


# --- Gymnasium -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_numpy_in_and_out(cls):
    """Arrays of the spaces, to the same numbers; and Gymnasium's own wrapper counts episodes with them."""
    env, plain = started(cls, 5, seed=2), Numpy(cls(5))
    obs, infos = plain.reset(seed=2)
    assert plain.observation_space.contains(obs) and infos == {}
    for _ in range(20):
        action = plain.action_space.sample()
        obs, reward, terminated, truncated, infos = plain.step(action)
        assert plain.observation_space.contains(obs) and plain.observation_space.contains(infos["final_obs"])
        assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float32, bool, bool)
        tensor = env.step(torch.as_tensor(action))
        np.testing.assert_array_equal(obs, tensor[0].numpy())
        np.testing.assert_array_equal(reward, tensor[1].numpy())
    counted = gym.wrappers.vector.RecordEpisodeStatistics(Numpy(started(cls, 5)))
    counted.reset(seed=0)
    for _ in range(1020):
        counted.step(counted.action_space.sample())
    assert counted.episode_count >= 5


@pytest.mark.parametrize("cls", DISCRETE)
def test_a_single_one_keeps_gymnasiums_laws(cls):
    check(single(cls))
    envs, choice = make(cls, 2, vectorization="sync")
    envs.reset(seed=0)
    assert choice == "sync" and isinstance(envs.envs[0].unwrapped, Single)
    steps = [envs.step(envs.action_space.sample()) for _ in range(130)]
    assert cls in (TensorAcrobot, TensorMountainCar) or any("final_obs" in step[4] for step in steps)


def test_a_single_one_is_a_row_of_the_vector():
    env, one = started(TensorCartPole, 1, seed=4), Single(TensorCartPole(1))
    np.testing.assert_array_equal(one.reset(seed=4)[0], env.reset(seed=4)[0][0])
    for _ in range(100):
        action = env.action_space.sample()
        got, wanted = one.step(action[0]), env.step(action)
        np.testing.assert_array_equal(got[0], wanted[4]["final_obs"][0])
        assert got[1:4] == tuple(x.item() for x in wanted[1:4])
        if got[2]:
            return
    raise AssertionError("no episode ended")


@pytest.mark.parametrize(
    ("space", "obs"),
    [
        (Discrete(4, start=2), torch.tensor([2, 5, 3])),
        (MultiDiscrete([2, 3], start=[1, 0]), torch.tensor([[1, 0], [2, 2]])),
        (MultiBinary([2, 2]), torch.tensor([[[0, 1], [1, 1]]], dtype=torch.int8)),
        (Box(-1, 1, (2, 3)), torch.rand(4, 2, 3)),
        (Box(0, 255, (4, 4, 3), np.uint8), torch.ones(2, 4, 4, 3, dtype=torch.uint8)),
        (DeepSea(3).observation_space, torch.tensor([[[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0] * 3] * 3]).byte()),
    ],
)
def test_agents_see_the_same_as_of_arrays(space, obs):
    got, wanted = flatten_tensor(space, obs), flatten(space, obs.numpy())
    np.testing.assert_array_equal(got.numpy(), wanted)
    assert str(got.dtype).endswith(observation_layout(space).dtype) and got.numpy().dtype == wanted.dtype


@pytest.mark.parametrize("cls", DISCRETE)
def test_features_are_of_the_observation(cls):
    env = started(cls, 20)
    for _ in range(15):
        state, _, _ = env.dynamics(env.state, torch.as_tensor(env.action_space.sample()), env.draw()[1])
        assert torch.equal(env.features(state), flatten_tensor(env.single_observation_space, env.observe(state)))
        play(env, 1)


# --- devices ---------------------------------------------------------------------------------------------------------


class Unread(TorchDispatchMode):
    """Refuses what would make the host wait for a device: reading a number, or shapes that depend on data."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "item")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("cls", ALL)
def test_no_step_is_read_by_the_host(cls):
    env = started(cls)
    actions = [torch.as_tensor(env.action_space.sample()) for _ in range(3)]
    with Unread():
        for action in actions:
            env.step(action)


def test_a_captured_step_is_the_eager_one():
    """100 steps of 16 environments, resets and masks included: 1e-5, some roundings of numbers up to 100."""
    eager, compiled = (Counting([3] * 8 + [7] * 8, masked=True, max_episode_steps=6) for _ in range(2))
    compiled.capture()
    eager.reset(seed=0), compiled.reset(seed=0)
    for _ in range(100):
        action = eager.action_space.sample()
        a, b = eager.step(action), compiled.step(action)
        for x, y in zip((*a[:4], *a[4].values()), (*b[:4], *b[4].values()), strict=True):
            x, y = (v["action_mask"] if isinstance(v, dict) else v for v in (x, y))
            assert x.dtype == y.dtype and torch.allclose(x.double(), y.double(), atol=1e-5)
