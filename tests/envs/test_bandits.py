"""Contextual bandits pay by their model, count regret exactly, and their two forms are one."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from bayesrl.envs import (
    LinearBandit,
    LinearBanditVector,
    LogisticBandit,
    LogisticBanditVector,
    Wheel,
    WheelVector,
    check,
    load_state,
    make,
    save_state,
    single,
)

IDS = ["bayesrl/LinearBandit-v0", "bayesrl/LogisticBandit-v0", "bayesrl/Wheel-v0"]
PAIRS = [(LinearBandit, LinearBanditVector), (LogisticBandit, LogisticBanditVector), (Wheel, WheelVector)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def assert_equal(got, wanted):
    assert got.keys() == wanted.keys()
    for key in wanted:
        if isinstance(wanted[key], dict):
            assert_equal(got[key], wanted[key])
        elif wanted[key].dtype == object:
            assert got[key].dtype == object
            np.testing.assert_array_equal(np.stack(got[key]), np.stack(wanted[key]))
        else:
            assert got[key].dtype == wanted[key].dtype
            np.testing.assert_array_equal(got[key], wanted[key])


@pytest.mark.filterwarnings("ignore:.*Box observation space m..imum value is -?infinity")
@pytest.mark.parametrize("env_id", IDS)
def test_both_checkers_pass(env_id):
    check(single(env_id))
    check_env(single(env_id).unwrapped)


@pytest.mark.parametrize(("kind", "vector"), PAIRS)
def test_the_vector_of_one_is_the_single_environment(kind, vector):
    envs, env = vector(1), kind()
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(envs.reset(seed=7)[0][0], env.reset(seed=7)[0])
    for _ in range(100):
        action = rng.integers(env.action_space.n)
        got, wanted = envs.step(np.array([action])), env.step(action)
        assert (got[1][0], got[2][0], got[3][0]) == wanted[1:4]
        assert wanted[2:4] == (True, False)
        np.testing.assert_array_equal(got[4]["final_obs"][0], wanted[0])
        assert got[4]["final_info"]["regret"][0] == wanted[4]["regret"]
        assert got[4]["final_info"]["uniform_regret"][0] == wanted[4]["uniform_regret"]
        np.testing.assert_array_equal(got[0][0], env.reset()[0])


@pytest.mark.parametrize("env_id", IDS)
def test_native_and_sync_agree_to_the_last_info(env_id):
    native = gym.make_vec(env_id, 1)
    sync = gym.make_vec(env_id, 1, "sync", {"autoreset_mode": AutoresetMode.SAME_STEP})
    native.action_space.seed(0)
    np.testing.assert_array_equal(native.reset(seed=0)[0], sync.reset(seed=0)[0])
    for _ in range(20):
        actions = native.action_space.sample()
        got, wanted = native.step(actions), sync.step(actions)
        for a, b in zip(got[:4], wanted[:4], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        assert_equal(got[4], wanted[4])
    assert native.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("way", ["native", "sync"])
def test_a_fresh_environment_goes_on_bit_for_bit(env_id, way):
    envs, choice = make(env_id, 3, vectorization="auto" if way == "native" else way)
    assert choice == way
    envs.reset(seed=3)
    rng = np.random.default_rng(0)
    actions = rng.integers(5, size=(40, 3))
    for action in actions:
        envs.step(action)
    state = save_state(envs)
    assert state is not None
    wanted = [envs.step(action) for action in actions]
    for _ in range(2):  # twice, because restoring must not spend the state
        fresh, _ = make(env_id, 3, vectorization=way)
        load_state(fresh, state)
        for action, step in zip(actions, wanted, strict=True):
            got = fresh.step(action)
            for a, b in zip(got[:4], step[:4], strict=True):
                assert a.tobytes() == b.tobytes()
            assert_equal(got[4], step[4])
    if way == "native":
        assert fresh.relative_regret == envs.relative_regret


@pytest.mark.parametrize("vector", [vector for _, vector in PAIRS])
def test_a_written_observation_does_not_change_the_bandit(vector):
    envs, twin = vector(4), vector(4)
    obs = envs.reset(seed=0)[0]
    twin.reset(seed=0)
    obs[:] = 9
    for _ in range(3):
        got, wanted = envs.step(np.arange(4)), twin.step(np.arange(4))
        np.testing.assert_array_equal(got[1], wanted[1])
        got[0][:] = 9


# --- regret --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", [vector for _, vector in PAIRS])
def test_the_arms_regrets_average_to_the_uniform_policy_s(vector):
    """Each arm always, on the same contexts: the mean of their relative regrets is 100 % but for rounding."""
    relative = []
    for arm in range(vector().single_action_space.n):
        envs = vector(20)
        envs.reset(seed=0)
        for _ in range(200):
            envs.step(np.full(20, arm))
        relative.append(envs.relative_regret)
    assert np.mean(relative) == pytest.approx(100, rel=1e-12)
    assert np.ptp(relative) > 1


@pytest.mark.parametrize("vector", [vector for _, vector in PAIRS])
def test_the_best_arms_have_none_and_random_ones_have_all(vector):
    """100,000 random pulls. On the wheel about 9,750 are at the rim, where the sd of a pull's regret is 19.6: an sd of
    1,940 in a total of 396,000, 0.5 %; the others' is less. 5 sd pass."""
    envs = vector(1000)
    obs = envs.reset(seed=0)[0]
    for _ in range(100):
        obs = envs.step(envs.problem.means(obs).argmax(1))[0]
    assert (envs.regret == 0).all()
    assert (envs.uniform_regret > 0).all()
    assert envs.relative_regret == 0
    envs.reset(seed=0)
    assert np.isnan(envs.relative_regret)
    rng = np.random.default_rng(1)
    for _ in range(100):
        envs.step(rng.integers(envs.problem.arms, size=1000))
    assert abs(envs.relative_regret - 100) < 2.5


@pytest.mark.parametrize(("kind", "link"), [(LinearBandit, lambda x: x), (LogisticBandit, sigmoid)])
def test_regret_by_hand(kind, link):
    env = kind(arms=3, dim=2)
    x, _ = env.reset(seed=0)
    means = [link(sum(float(a) * b for a, b in zip(x, w, strict=True))) for w in env.problem.weights]
    for arm in range(3):
        env.reset(seed=0)
        obs, _, terminated, truncated, info = env.step(arm)
        np.testing.assert_array_equal(obs, x)
        assert (terminated, truncated) == (True, False)
        assert info["regret"] == pytest.approx(max(means) - means[arm], abs=1e-12)
        assert info["uniform_regret"] == pytest.approx(max(means) - sum(means) / 3, abs=1e-12)


# --- the models ----------------------------------------------------------------------------------------------------


def test_weights_are_the_task_s_and_of_length_one():
    weights = LinearBandit(task_seed=3).problem.weights
    np.testing.assert_array_equal(weights, LinearBanditVector(2, task_seed=3).problem.weights)
    np.testing.assert_array_equal(weights, LogisticBanditVector(2, task_seed=3).problem.weights)
    assert weights.shape == (10, 10)
    assert (weights != LinearBandit(task_seed=4).problem.weights).all()
    np.testing.assert_allclose(np.square(weights).sum(1), 1, rtol=0, atol=1e-14)


def test_contexts_are_standard_normal():
    """40,000 contexts of 3 numbers: sd 0.005 of a mean, 0.0071 of a variance, 0.005 of a covariance; 5 sd pass."""
    x = LinearBanditVector(40_000, dim=3).reset(seed=0)[0].astype(float)
    np.testing.assert_allclose(x.mean(0), 0, rtol=0, atol=0.025)
    np.testing.assert_allclose(np.cov(x.T), np.eye(3), rtol=0, atol=0.036)


def test_linear_rewards_are_the_model_s():
    """40,000 rewards, noise 0.5: their residuals have mean 0 and variance 0.25, sd 0.0025 and 0.0018; least squares
    finds the arm's weights to sd 0.0025. 5 sd pass."""
    envs = LinearBanditVector(40_000, arms=4, dim=3, noise=0.5)
    x = envs.reset(seed=0)[0].astype(float)
    reward = envs.step(np.full(40_000, 2))[1]
    fitted = np.linalg.lstsq(x, reward, rcond=None)[0]
    np.testing.assert_allclose(fitted, envs.problem.weights[2], rtol=0, atol=0.0125)
    residual = reward - x @ envs.problem.weights[2]
    assert abs(residual.mean()) < 0.0125
    assert abs(residual.var() - 0.25) < 0.009


def test_logistic_rewards_are_the_model_s():
    """40,000 rewards in 4 bins of log odds: the sd of a bin's rate is at most 0.005; 5 sd pass."""
    envs = LogisticBanditVector(40_000, arms=4, dim=3)
    x = envs.reset(seed=0)[0].astype(float)
    reward = envs.step(np.full(40_000, 1))[1]
    assert set(reward) == {0.0, 1.0}
    odds = x @ envs.problem.weights[1]
    for part in np.array_split(np.argsort(odds), 4):
        assert abs(reward[part].mean() - sigmoid(odds[part]).mean()) < 0.025


@pytest.mark.parametrize("arguments", [{"arms": 1}, {"dim": 0}, {"noise": -1.0}])
def test_errors_name_the_remedy(arguments):
    with pytest.raises(ValueError, match=r"got arms=.*, wanted at least 2 arms, dim 1 and noise 0; 10 arms"):
        LinearBandit(**arguments)


@pytest.mark.parametrize(("kind", "vector"), PAIRS)
def test_wrong_steps_name_the_remedy(kind, vector):
    env, envs = kind(), vector(2)
    with pytest.raises(ValueError, match=r"call reset\(\) after every step"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"wanted 0 to \d from every environment; sample them"):
        env.step(-1)
    env.step(0)
    with pytest.raises(ValueError, match=r"call reset\(\) after every step"):
        env.step(0)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"got actions \[ 0 10\], wanted 0 to \d from every environment; sample them"):
        envs.step(np.array([0, 10]))
