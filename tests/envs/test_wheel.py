"""The wheel is the paper's, arm by arm."""

import numpy as np
import pytest

from bayesrl.envs import Wheel, WheelVector
from bayesrl.envs.tasks.wheel import WheelProblem

BY_HAND = [  # delta 0.5: inside, in each quadrant of the rim, and on the borders
    ((0.1, 0.2), [1, 1, 1, 1, 1.2]),
    ((0.6, 0.3), [50, 1, 1, 1, 1.2]),
    ((0.6, -0.3), [1, 50, 1, 1, 1.2]),
    ((-0.6, 0.3), [1, 1, 50, 1, 1.2]),
    ((-0.6, -0.3), [1, 1, 1, 50, 1.2]),
    ((0.5, 0.0), [1, 50, 1, 1, 1.2]),
    ((0.0, 0.5), [1, 1, 50, 1, 1.2]),
    ((0.0, -0.499), [1, 1, 1, 1, 1.2]),
]


def placed(contexts, delta=0.5):
    """Wheels whose contexts are these."""
    envs = WheelVector(len(contexts), delta)
    envs.reset(seed=0)
    envs.context = np.array(contexts, np.float32)
    return envs


def test_means_by_hand():
    contexts = np.array([context for context, _ in BY_HAND], np.float32)
    np.testing.assert_array_equal(WheelProblem(0.5).means(contexts), [means for _, means in BY_HAND])


@pytest.mark.parametrize("arm", range(5))
def test_rewards_and_regrets_by_hand(arm):
    """The noise's sd is 0.01: rewards within 6 sd of their means. At the rim the uniform policy's regret is
    50 - (50 + 3 + 1.2) / 5 = 39.16, inside it is 1.2 - (4 + 1.2) / 5 = 0.16."""
    envs = placed([context for context, _ in BY_HAND])
    means = np.array([means for _, means in BY_HAND])
    _, reward, terminated, truncated, infos = envs.step(np.full(len(BY_HAND), arm))
    np.testing.assert_allclose(reward, means[:, arm], rtol=0, atol=0.06)
    assert terminated.all() and not truncated.any()
    regret, uniform = infos["final_info"]["regret"], infos["final_info"]["uniform_regret"]
    np.testing.assert_allclose(regret, means.max(1) - means[:, arm], rtol=0, atol=1e-12)
    np.testing.assert_allclose(uniform, [0.16, *[39.16] * 6, 0.16], rtol=0, atol=1e-12)
    assert envs.relative_regret == pytest.approx(100 * regret.sum() / (6 * 39.16 + 0.32), rel=1e-12)


def test_noise_is_a_hundredth_everywhere():
    """10,000 rewards at the rim and inside: sd 7.1e-5 of their sd, 1e-4 of their mean; 5 sd pass."""
    for context, arm, mean in [((0.6, 0.3), 0, 50), ((0.6, 0.3), 4, 1.2), ((0.1, 0.1), 0, 1), ((0.1, 0.1), 4, 1.2)]:
        reward = placed([context] * 10_000).step(np.full(10_000, arm))[1]
        assert abs(reward.mean() - mean) < 5e-4
        assert abs(reward.std() - 0.01) < 3.6e-4


@pytest.mark.parametrize("delta", [0.5, 0.9, 0.95, 0.99])
def test_the_rim_is_its_share_of_the_disc(delta):
    """100,000 contexts: the share beyond delta is 1 - delta^2, each quadrant's a quarter of it; 5 sd pass."""
    n = 100_000
    x = WheelVector(n, delta).reset(seed=0)[0].astype(float)
    assert (np.square(x).sum(1) <= 1 + 1e-6).all()
    share = 1 - delta**2
    beyond = np.hypot(*x.T) >= delta
    assert abs(beyond.mean() - share) < 5 * np.sqrt(share * (1 - share) / n)
    means = WheelProblem(delta).means(x.astype(np.float32))
    np.testing.assert_array_equal(means.max(1) == 50, beyond)
    for arm in range(4):
        assert abs((means[:, arm] == 50).mean() - share / 4) < 5 * np.sqrt(share / 4 * (1 - share / 4) / n)


def test_contexts_fill_the_disc_evenly():
    """100,000 contexts: a uniform disc has means 0 (sd 0.0016), variances 1/4 (sd 0.0008: the fourth moment is 1/8) and
    covariance 0 (sd 0.0006); 5 sd pass."""
    x = WheelVector(100_000).reset(seed=1)[0].astype(float)
    np.testing.assert_allclose(x.mean(0), 0, rtol=0, atol=0.008)
    np.testing.assert_allclose(np.cov(x.T), np.eye(2) / 4, rtol=0, atol=0.004)


def test_a_single_wheel_is_the_same_under_a_seed():
    first, second = Wheel(0.5), Wheel(0.5)
    for seed in (0, None, None):
        np.testing.assert_array_equal(first.reset(seed=seed)[0], second.reset(seed=seed)[0])
        assert first.step(1)[1] == second.step(1)[1]
    assert (Wheel().reset(seed=0)[0] != Wheel().reset(seed=1)[0]).all()


@pytest.mark.parametrize("delta", [-0.1, 1.1])
def test_errors_name_the_remedy(delta):
    with pytest.raises(ValueError, match=r"got delta=.*, wanted a radius from 0 to 1; 0.5, 0.7"):
        Wheel(delta)
