"""DeepSea is bsuite's, number by number, and its two forms are one."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from bayesrl.envs import DeepSea, DeepSeaVector

# np.random.RandomState(0).binomial(1, 0.5, [3, 3])
MAPPING = [[1, 1, 1], [1, 0, 1], [0, 1, 1]]


def right(env: DeepSea) -> int:
    return int(env.mapping[env.row[0], env.column[0]])


def play(env: DeepSea, rights: list[bool]) -> tuple[list, list, list]:
    env.reset(seed=0)
    steps = [env.step(right(env) if go else 1 - right(env)) for go in rights]
    return [step[0] for step in steps], [step[1] for step in steps], [step[2] for step in steps]


def test_mapping_is_numpy_s_legacy_binomial():
    np.testing.assert_array_equal(DeepSea(3, seed=0).mapping, MAPPING)
    assert (DeepSea(10, seed=1).mapping != DeepSea(10, seed=0).mapping).any()
    assert (DeepSea(3, randomize_actions=False).mapping == 1).all()


def test_the_optimal_episode_by_hand():
    obs, rewards, terminated = play(DeepSea(3), [True] * 3)
    np.testing.assert_array_equal(obs[0], [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(obs[1], [[0, 0, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(obs[2], np.zeros((3, 3)))
    assert all(o.dtype == np.uint8 for o in obs)
    assert rewards == [-0.01 / 3, -0.01 / 3, 1 - 0.01 / 3]
    assert terminated == [False, False, True]


@pytest.mark.parametrize("size", [1, 2, 10, 40])
def test_the_optimum_is_099(size):
    _, rewards, _ = play(DeepSea(size), [True] * size)
    assert sum(rewards) == pytest.approx(0.99, abs=1e-12)


def test_left_is_free_and_stops_at_the_wall():
    obs, rewards, _ = play(DeepSea(3), [False] * 3)
    assert rewards == [0, 0, 0]
    np.testing.assert_array_equal(obs[1], [[0, 0, 0], [0, 0, 0], [1, 0, 0]])


def test_right_costs_its_price_where_the_wall_stops_it():
    env = DeepSea(3)
    env.reset(seed=0)
    env.column[0] = 2  # the last column in the first row, out of reach of a diver
    obs, reward, *_ = env.step(right(env))
    assert reward == 1 - 0.01 / 3
    np.testing.assert_array_equal(obs, [[0, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_right_that_a_gust_stops_costs_its_price():
    env = DeepSea(2, stochastic=True)
    moved = []
    for seed in range(40):
        env.reset(seed=seed)
        _, reward, *_ = env.step(right(env))
        assert reward == -0.01 / 2
        moved.append(env.column[0])
    assert set(moved) == {0, 1}


def test_stochastic_rights_succeed_at_their_rate():
    """10,000 rights at N = 5: sd of the rate 0.004, so that a rate off by 0.02 is found 5 sd away; 4 sd pass."""
    envs = DeepSeaVector(10_000, size=5, stochastic=True)
    envs.reset(seed=0)
    _, rewards, *_ = envs.step(np.full(10_000, envs.mapping[0, 0]))
    assert abs(envs.column.mean() - 0.8) < 4 * 0.004
    np.testing.assert_array_equal(rewards, np.full(10_000, -0.01 / 5))


@pytest.mark.parametrize(("column", "noisy"), [(0, True), (1, False), (2, True)])
def test_noise_comes_at_both_bottom_corners_by_the_column_before(column, noisy):
    """10,000 normals: the mean's sd is 0.01 and the variance's 0.0141; 4 sd pass."""
    envs = DeepSeaVector(10_000, size=3, stochastic=True)
    envs.reset(seed=0)
    envs.row[:], envs.column[:] = 2, column
    _, rewards, *_ = envs.step(1 - np.full(10_000, envs.mapping[2, column]))
    assert abs(rewards.mean()) < 0.04 * noisy + 1e-12
    assert abs(rewards.var() - noisy) < 0.0566 * noisy + 1e-12


@pytest.mark.parametrize("stochastic", [False, True])
def test_the_vector_of_one_is_the_single_environment(stochastic):
    envs, env = DeepSeaVector(1, 4, 3, stochastic), DeepSea(4, 3, stochastic)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(envs.reset(seed=7)[0][0], env.reset(seed=7)[0])
    for _ in range(100):
        action = rng.integers(2)
        got, wanted = envs.step(np.array([action])), env.step(action)
        assert (got[1][0], got[2][0], got[3][0]) == wanted[1:4]
        assert ("final_obs" in got[4]) == wanted[2]
        true_next = got[4]["final_obs"][0] if wanted[2] else got[0][0]
        np.testing.assert_array_equal(true_next, wanted[0])
        if wanted[2]:
            np.testing.assert_array_equal(got[0][0], env.reset()[0])


def test_native_and_sync_agree_to_the_last_info():
    native = gym.make_vec("bayesrl/DeepSea-v0", 3, size=4)
    sync = gym.make_vec("bayesrl/DeepSea-v0", 3, "sync", {"autoreset_mode": AutoresetMode.SAME_STEP}, size=4)
    native.action_space.seed(0)
    np.testing.assert_array_equal(native.reset(seed=0)[0], sync.reset(seed=0)[0])
    for _ in range(12):
        actions = native.action_space.sample()
        got, wanted = native.step(actions), sync.step(actions)
        for a, b in zip(got[:4], wanted[:4], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        assert ("final_obs" in got[4]) == ("final_obs" in wanted[4])
        if "final_obs" in got[4]:
            np.testing.assert_array_equal(got[4]["_final_obs"], wanted[4]["_final_obs"])
            np.testing.assert_array_equal(np.stack(got[4]["final_obs"]), np.stack(wanted[4]["final_obs"]))
            assert got[4]["final_obs"].dtype == wanted[4]["final_obs"].dtype == object
    assert native.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match=r"got size=0, wanted at least 1 row"):
        DeepSea(0)
    env = DeepSea(1)
    env.reset()
    with pytest.raises(ValueError, match=r"wanted 0 or 1"):
        env.step(2)
    env.step(0)
    with pytest.raises(ValueError, match=r"call reset\(\) after terminated"):
        env.step(0)
