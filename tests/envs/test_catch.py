"""Catch is bsuite's, pixel by pixel."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from bayesrl.envs import Catch, check, load_state, make, observation_layout, save_state, single

LEFT, STAY, RIGHT = range(3)


def play(env, policy, seed=None):
    """The return and the images of an episode; policy: image -> action."""
    image, total, over, seen = env.reset(seed=seed)[0], 0.0, False, []
    while not over:
        seen.append(image)
        image, reward, over, truncated, _ = env.step(policy(image))
        assert not truncated
        assert reward in ((-1, 1) if over else (0,))
        total += reward
    return total, [*seen, image]


def follow(image):
    """Towards the ball's column, read from the pixels."""
    board = image[:, :, 0]
    ball, paddle = board[:-1].any(0).argmax(), board[-1].argmax()
    return STAY + int(np.sign(int(ball) - int(paddle)))


def test_both_checkers_pass():
    check(single("bayesrl/Catch-v0"))
    check_env(single("bayesrl/Catch-v0").unwrapped)


def test_an_episode_by_hand():
    env = Catch(rows=3, columns=3)
    seed = next(seed for seed in range(50) if env.reset(seed=seed)[0][0, 0, 0])
    env.reset(seed=seed)
    first, *rest = env.step(LEFT)
    np.testing.assert_array_equal(first[:, :, 0], [[0, 0, 0], [255, 0, 0], [255, 0, 0]])
    assert rest == [0.0, False, False, {}]
    last, *rest = env.step(LEFT)  # the wall stops it
    np.testing.assert_array_equal(last[:, :, 0], [[0, 0, 0], [0, 0, 0], [255, 0, 0]])
    assert rest == [1.0, True, False, {}]
    env.reset(seed=seed)
    env.step(STAY)
    last, *rest = env.step(RIGHT)
    np.testing.assert_array_equal(last[:, :, 0], [[0, 0, 0], [0, 0, 0], [255, 0, 255]])
    assert rest == [-1.0, True, False, {}]


@pytest.mark.parametrize(("rows", "columns"), [(10, 5), (24, 24), (2, 3), (13, 24), (5, 1)])
def test_the_optimum_is_one(rows, columns):
    env = Catch(rows, columns)
    for seed in range(40):
        total, seen = play(env, follow, seed)
        assert total == 1
        assert len(seen) == rows
    assert all(image.dtype == np.uint8 and image in env.observation_space for image in seen)


def test_the_agent_sees_an_image():
    assert observation_layout(Catch(24, 24).observation_space)[:2] == ((24, 24, 1), "uint8")


def test_random_actions_catch_a_ball_in_five():
    """4,000 episodes: the mean return is 2 / 5 - 1 = -0.6, its sd 0.0126; 4 sd pass. Balls fall in every column."""
    env = Catch()
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    returns, columns = [], []
    for _ in range(4000):
        columns.append(env.reset()[0][0, :, 0].argmax())
        *_, (_, last, _, _, _) = (env.step(action) for action in rng.integers(3, size=9))
        returns.append(last)
    assert abs(np.mean(returns) + 0.6) < 0.05
    assert np.bincount(columns).min() > 0.2 * 4000 - 4 * np.sqrt(0.16 * 4000)


def test_a_fresh_environment_goes_on_bit_for_bit():
    envs, choice = make("bayesrl/Catch-v0", 3, vectorization="sync")
    envs.reset(seed=0)
    actions = np.random.default_rng(0).integers(3, size=(60, 3))
    for action in actions[:15]:
        envs.step(action)
    state = save_state(envs)
    assert state is not None
    fresh, _ = make("bayesrl/Catch-v0", 3, vectorization=choice)
    load_state(fresh, state)
    rewards = []
    for action in actions[15:]:
        got, wanted = fresh.step(action), envs.step(action)
        for a, b in zip(got[:4], wanted[:4], strict=True):
            assert a.tobytes() == b.tobytes()
        rewards.append(wanted[1])
    assert set(np.ravel(rewards)) >= {-1, 0}


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (10, 0), (3, 6)])
def test_a_board_that_cannot_be_played_is_refused(rows, columns):
    with pytest.raises(ValueError, match=r"wanted so many rows that the paddle can reach every column; take at least"):
        Catch(rows, columns)


def test_errors_name_the_remedy():
    env = Catch(2, 1)
    with pytest.raises(ValueError, match=r"call reset\(\) after terminated"):
        env.step(STAY)
    env.reset()
    with pytest.raises(ValueError, match=r"got action 3, wanted 0 \(left\), 1 or 2"):
        env.step(3)
    env.step(STAY)
    with pytest.raises(ValueError, match=r"call reset\(\) after terminated"):
        env.step(STAY)
