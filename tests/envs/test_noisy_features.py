"""The environment is the same as without them, and the noise is noise."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from bayesrl.envs import NoisyFeatures, RiverSwim, check, load_state, make, save_state, single


def test_the_checker_passes():
    check(single("bayesrl/NoisyCartPole-v0"))
    assert single("bayesrl/NoisyCartPole-v0", {"noise_features": 3}).observation_space.shape == (7,)


def test_the_first_features_are_cartpole_s():
    """The start is drawn before any noise; from there CartPole is deterministic."""
    noisy, plain = single("bayesrl/NoisyCartPole-v0"), single("CartPole-v1")
    got, wanted = noisy.reset(seed=3)[0], plain.reset(seed=3)[0]
    for action in [0, 1, 1, 0, 1, 1, 1, 1, 1]:
        assert got.dtype == np.float32 and got.shape == (12,)
        np.testing.assert_array_equal(got[:4], wanted)
        (got, *result), (wanted, *same) = noisy.step(action), plain.step(action)
        assert result[:3] == same[:3]


def test_the_noise_is_standard_normal_and_never_the_same():
    """3,000 steps: means within 5 sd of 0.018, sds within 5 of 0.013, correlations between steps within 5 of 0.018."""
    env = NoisyFeatures(CartPoleEnv(), 2)
    seen = [env.reset(seed=0)[0][4:]]
    for _ in range(3000):
        obs, _, over, *_ = env.step(env.action_space.sample())
        seen.append((env.reset()[0] if over else obs)[4:])
    x = np.array(seen)
    np.testing.assert_allclose(x.mean(0), 0, atol=0.09)
    np.testing.assert_allclose(x.std(0), 1, atol=0.065)
    lagged = np.corrcoef(np.concatenate([x[:-1], x[1:]], 1).T)
    np.testing.assert_allclose(lagged, np.eye(4), atol=0.09)


def test_episodes_end_after_500_steps_at_the_latest():
    env = single("bayesrl/NoisyCartPole-v0")
    assert env.spec.max_episode_steps == 500


def test_a_fresh_environment_goes_on_bit_for_bit():
    envs, choice = make("bayesrl/NoisyCartPole-v0", 2, {"noise_features": 3}, vectorization="sync")
    envs.reset(seed=0)
    actions = np.random.default_rng(0).integers(2, size=(60, 2))
    for action in actions[:20]:
        envs.step(action)
    state = save_state(envs)
    assert state is not None
    fresh, _ = make("bayesrl/NoisyCartPole-v0", 2, {"noise_features": 3}, vectorization=choice)
    load_state(fresh, state)
    for action in actions[20:]:
        for a, b in zip(fresh.step(action)[:4], envs.step(action)[:4], strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: NoisyFeatures(CartPoleEnv(), -1), "got noise_features=-1, wanted 0 or more; 8 is usual"),
        (lambda: NoisyFeatures(RiverSwim()), "got observation space Discrete"),
        (lambda: NoisyFeatures(gym.make("bayesrl/Catch-v0")), "got observation space Box"),
    ],
)
def test_errors_name_the_remedy(build, words):
    with pytest.raises(ValueError, match=r"got .*, wanted .*; ") as caught:
        build()
    assert words in str(caught.value)
