"""RiverSwim's model is the paper's, and the river flows by it."""

import gymnasium as gym
import numpy as np
import pytest

from bayesrl.envs import RiverSwim

LEFT, RIGHT = 0, 1


def test_the_model_by_hand():
    env = RiverSwim(4)
    np.testing.assert_array_equal(env.P[:, LEFT], [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(
        env.P[:, RIGHT], [[0.4, 0.6, 0, 0], [0.05, 0.6, 0.35, 0], [0, 0.05, 0.6, 0.35], [0, 0, 0.4, 0.6]]
    )
    np.testing.assert_array_equal(env.R, [[0.005, 0], [0, 0], [0, 0], [0, 1]])


@pytest.mark.parametrize("size", [3, 6, 20])
def test_rows_sum_to_one(size):
    np.testing.assert_allclose(RiverSwim(size).P.sum(-1), 1, rtol=0, atol=1e-15)


def test_simulated_frequencies_are_the_model_s():
    """2,000 steps from each pair: an sd is at most 0.0112, so that 0.07 off is found; 4.5 sd pass."""
    env, n = RiverSwim(), 2000
    env.reset(seed=0)
    for s in range(6):
        for a in (LEFT, RIGHT):
            counts = np.zeros(6)
            for _ in range(n):
                env.state = s
                state, reward, terminated, truncated, _ = env.step(a)
                counts[state] += 1
                assert (reward, terminated, truncated) == (env.R[s, a], False, False)
            sd = np.sqrt(env.P[s, a] * (1 - env.P[s, a]) / n)
            assert (np.abs(counts / n - env.P[s, a]) <= 4.5 * sd).all()


def test_the_registered_one_truncates_at_120_and_never_terminates():
    env = gym.make("bayesrl/RiverSwim-v0")
    env.reset(seed=0)
    flags = [env.step(RIGHT)[2:4] for _ in range(120)]
    assert flags == [(False, False)] * 119 + [(False, True)]


def test_the_best_stationary_policy_always_swims():
    """Value iteration at discount 0.99 on P and R: what the attributes are for."""
    env, q = RiverSwim(), np.zeros((6, 2))
    for _ in range(3000):
        q = env.R + 0.99 * env.P @ q.max(-1)
    assert (q.argmax(-1) == RIGHT).all()
    assert q[0, RIGHT] > 10 * 0.005 / (1 - 0.99)


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match=r"got size=2, wanted at least 3 states"):
        RiverSwim(2)
    with pytest.raises(ValueError, match=r"got action 2, wanted 0 \(left\) or 1 \(right\)"):
        RiverSwim().step(2)
