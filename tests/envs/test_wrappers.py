"""Wrappers of one environment, in every vectorization, with the checker and with saved states."""

import importlib.util

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit

from bayesrl.envs import EnvError, FrameStack, ScaleReward, Wrapped, check, load_state, make, save_state, single

ATARI = pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="without the extra atari")


class Count(gym.Env):
    """Observes how many steps it has taken, in every element."""

    def __init__(self, shape=(2,), dtype=np.float32, end=9):
        self.observation_space, self.action_space, self.end = Box(0, 9, shape, dtype), Discrete(2), end

    def see(self):
        return np.full(self.observation_space.shape, self.t, self.observation_space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.see(), {}

    def step(self, action):
        self.t += 1
        return self.see(), 2.0, self.t == self.end, False, {}


def stack(env):
    return FrameStack(env, 3)


def limit(env):
    return TimeLimit(env, 4)


@pytest.mark.parametrize(
    ("shape", "stacked", "third"),
    [
        ((1,), (3,), [0, 1, 2]),
        ((2,), (6,), [0, 0, 1, 1, 2, 2]),
        ((1, 1), (1, 1, 3), [[[0, 1, 2]]]),
        ((1, 1, 2), (1, 1, 6), [[[0, 0, 1, 1, 2, 2]]]),
    ],
)
def test_frames_lie_side_by_side_oldest_first(shape, stacked, third):
    env = FrameStack(Count(shape, np.uint8), 3)
    assert env.observation_space == Box(0, 9, stacked, np.uint8)
    first, _ = env.reset()
    assert not first.any()
    assert env.step(0)[0].max() == 1
    assert env.step(0)[0].tolist() == third
    assert not env.reset()[0].any()
    check(env)


def test_rewards_are_scaled():
    env = ScaleReward(Count(), -0.25)
    env.reset()
    assert env.step(0)[1] == -0.5


@pytest.mark.parametrize("vectorization", ["auto", "sync", "async"])
def test_in_every_vectorization(vectorization):
    envs, chosen = make(Wrapped(Count, [stack, limit]), 2, {"end": 6}, vectorization=vectorization)
    assert chosen == ("sync" if vectorization == "auto" else vectorization)
    envs.reset(seed=0)
    steps = [envs.step(np.zeros(2, int)) for _ in range(4)]
    assert steps[1][0].tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    assert steps[3][3].tolist() == [True, True]  # truncated
    assert np.stack(steps[3][4]["final_obs"]).tolist() == [[2, 2, 3, 3, 4, 4]] * 2
    assert not steps[3][0].any()
    envs.close()


def test_a_vector_version_is_passed_over_and_said_so():
    wrapped = Wrapped("CartPole-v1", [limit])
    envs, chosen = make(wrapped, 2)
    assert chosen == "sync" and envs.single_observation_space == single("CartPole-v1").observation_space
    assert wrapped.passes_over(2, {}) and Wrapped("bayesrl/SparsePendulum-v0", [limit]).passes_over(2, {})
    assert not Wrapped("MountainCar-v0", [limit]).passes_over(2, {})
    with pytest.raises(EnvError, match="got vectorization='native' for CartPole-v1"):
        make(wrapped, 2, vectorization="native")


def test_what_is_wrapped_is_saved_and_restored():
    first, _ = make(Wrapped("CartPole-v1", [stack, limit]), 2, vectorization="sync")
    first.reset(seed=0)
    first.step(np.zeros(2, int))
    state = save_state(first)
    assert state is not None
    other, _ = make(Wrapped("CartPole-v1", [stack, limit]), 2, vectorization="sync")
    other.reset(seed=5)
    load_state(other, state)
    for _ in range(9):
        (one, *rest), (two, *also) = (envs.step(np.ones(2, int)) for envs in (first, other))
        np.testing.assert_array_equal(one, two)
        assert [np.asarray(x).tolist() for x in rest[:3]] == [np.asarray(x).tolist() for x in also[:3]]


@pytest.mark.parametrize(
    ("wrapper", "words"),
    [
        (NormalizeObservation, "got the wrapper NormalizeObservation, wanted none with running statistics"),
        (NormalizeReward, "the agent standardizes observations and scales returns itself"),
        (lambda env: FrameStack(env, 0), "got frames=0, wanted at least 1"),
        (lambda env: ScaleReward(env, 0), "got factor=0, wanted a finite number"),
        (lambda env: 3, "wanted an instance of gymnasium.Env"),
        (lambda: 3, "got TypeError from the wrapper"),
    ],
)
def test_each_error_is_one_sentence(wrapper, words):
    with pytest.raises(EnvError) as caught:
        single(Wrapped(Count, [wrapper]))
    assert words in str(caught.value)


def test_frames_of_something_else_than_arrays_are_refused():
    with pytest.raises(EnvError, match="wanted a Box with an axis to stack along"):
        single(Wrapped("FrozenLake-v1", [stack]))


def test_a_vector_version_that_observes_otherwise_is_not_chosen():
    class Other(gym.vector.VectorEnv):
        metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012

        def __init__(self, num_envs):
            self.num_envs, self.single_observation_space = num_envs, Box(0, 1, (7,))

    gym.register("test/Other-v0", entry_point=Count, vector_entry_point=Other)
    try:
        assert make("test/Other-v0", 2)[1] == "sync"
        with pytest.raises(EnvError, match="and observes what one does"):
            make("test/Other-v0", 2, vectorization="native")
    finally:
        gym.registry.pop("test/Other-v0")


@ATARI
def test_atari_is_restored_bit_for_bit():
    envs, _ = make("bayesrl/Atari-v0", 1, {"game": "breakout"}, vectorization="sync")
    envs.reset(seed=0)
    for action in (1, 2, 3, 2):
        envs.step(np.array([action]))
    state = save_state(envs)
    seen = []
    for _ in range(2):
        seen.append([envs.step(np.array([a % 4]))[0].copy() for a in range(40)])
        load_state(envs, state)
    np.testing.assert_array_equal(*seen)
    assert len({frame.tobytes() for frame in seen[0]}) > 10
