"""Memory is solved by remembering the cue, and by nothing else."""

from itertools import product

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from bayesrl.envs import Memory, check, load_state, make, save_state, single


def play(env, policy, seed=None):
    """The observations and rewards of an episode; policy: (all observations so far) -> action."""
    seen, rewards, over = [env.reset(seed=seed)[0]], [], False
    while not over:
        obs, reward, over, truncated, _ = env.step(policy(seen))
        assert not truncated
        seen.append(obs)
        rewards.append(reward)
    return seen, rewards


def test_both_checkers_pass():
    check(single("bayesrl/Memory-v0"))
    check_env(single("bayesrl/Memory-v0").unwrapped)


@pytest.mark.parametrize("cue", [-1, 1])
def test_an_episode_by_hand(cue):
    env = Memory(length=2)
    seed = next(seed for seed in range(20) if env.reset(seed=seed)[0][0] == cue)
    seen, rewards = play(env, lambda seen: 1, seed)
    thirds = np.array([1, 2 / 3, 1 / 3], np.float32)
    wanted = [[cue, thirds[0], 0], [0, thirds[1], 0], [0, thirds[2], 0], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(seen, wanted, rtol=0, atol=1e-7)
    assert rewards == [0, 0, 0, cue]
    assert all(obs in env.observation_space for obs in seen)


@pytest.mark.parametrize("length", [0, 1, 20, 100])
def test_the_optimum_is_one(length):
    env = Memory(length)
    for seed in range(10):
        _, rewards = play(env, lambda seen: int(seen[0][0] > 0), seed)
        assert len(rewards) == length + 2
        assert (sum(rewards), rewards[-1]) == (1, 1)


def test_no_policy_of_the_current_observation_is_above_zero():
    """All 16 that act on the cue's sign where it is seen, and on the query: equally many seeds of each cue average 0.

    They are all deterministic ones of observations told apart by cue and query, since time tells no cue.
    """
    env, seeds = Memory(3), {-1: [], 1: []}
    for seed in range(40):
        seeds[int(env.reset(seed=seed)[0][0])].append(seed)
    for actions in product((0, 1), repeat=4):
        table = dict(zip([(-1, 0), (1, 0), (0, 0), (0, 1)], actions, strict=True))
        returns = [
            sum(play(env, lambda seen, table=table: table[int(seen[-1][0]), int(seen[-1][2])], seed)[1])
            for cue in (-1, 1)
            for seed in seeds[cue][:5]
        ]
        assert len(returns) == 10
        assert sum(returns) == 0


def test_both_cues_are_equally_likely():
    """4,000 resets: sd of the mean 0.016; 4 sd pass."""
    env = Memory()
    env.reset(seed=0)
    cues = [env.reset()[0][0] for _ in range(4000)]
    assert set(cues) == {-1, 1}
    assert abs(np.mean(cues)) < 0.064


def test_a_fresh_environment_goes_on_bit_for_bit():
    envs, choice = make("bayesrl/Memory-v0", 3, {"length": 3}, vectorization="sync")
    envs.reset(seed=0)
    actions = np.random.default_rng(0).integers(2, size=(52, 3))
    for action in actions[:12]:
        envs.step(action)
    state = save_state(envs)
    assert state is not None
    fresh, _ = make("bayesrl/Memory-v0", 3, {"length": 3}, vectorization=choice)
    load_state(fresh, state)
    rewards = []
    for action in actions[12:]:
        got, wanted = fresh.step(action), envs.step(action)
        for a, b in zip(got[:4], wanted[:4], strict=True):
            assert a.tobytes() == b.tobytes()
        rewards.append(wanted[1])
    assert set(np.ravel(rewards)) == {-1, 0, 1}


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match=r"got length=-1, wanted 0 or more blank steps; 20"):
        Memory(-1)
    env = Memory(0)
    with pytest.raises(ValueError, match=r"call reset\(\) after terminated"):
        env.step(0)
    env.reset()
    with pytest.raises(ValueError, match=r"got action 2, wanted 0 \(cue -1\) or 1"):
        env.step(2)
    play(env, lambda seen: 0)
    with pytest.raises(ValueError, match=r"call reset\(\) after terminated"):
        env.step(0)
