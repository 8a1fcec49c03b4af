"""Agents emit numbers from 0 or in [-1, 1]; environments get their own, within bounds, in their dtype and shape."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from bayesrl.agents.uniform import Uniform
from bayesrl.envs import check, make
from bayesrl.envs.actions import actions
from bayesrl.training.vector_env import VectorEnvAdapter


def test_discrete_actions_are_counted_from_the_start():
    chosen = actions(Discrete(3, start=-1))
    assert (chosen.count, chosen.bounds) == (3, None)
    assert chosen(torch.tensor([0, 2])).tolist() == [-1, 1]


def test_a_box_is_scaled_from_minus_one_to_one_and_clipped_beyond():
    space = Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))
    chosen = actions(space)
    assert (chosen.count, chosen.bounds) == (2, ((-2, 0), (2, 10)))
    assert chosen(torch.tensor([[-1.0, 1.0], [0, 0], [0.5, -0.5], [9, -9]])).tolist() == [
        [-2, 10], [0, 5], [1, 2.5], [2, 0],
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_box_gets_its_shape_its_dtype_and_never_a_number_outside(dtype):
    """Bounds that floats do not hold exactly: 2,000 random actions and both ends."""
    low, high = np.full((2, 3), -0.1, dtype), np.linspace(0.3, 0.7, 6).reshape(2, 3).astype(dtype)
    space = Box(low, high, dtype=dtype)
    chosen = actions(space)
    ends = torch.tensor([[-1.0] * 6, [1.0] * 6])
    own = chosen(torch.cat([ends, 4 * torch.rand(2000, 6, generator=torch.Generator().manual_seed(0)) - 2])).numpy()
    assert own.shape == (2002, 2, 3) and own.dtype == dtype
    assert (own >= low).all() and (own <= high).all()
    assert (own[0] == low).all() and (own[1] == high).all()


def test_random_actions_are_of_the_space_and_of_the_mask():
    rng = np.random.default_rng(0)
    box, masked = Box(-3, 5, (2,)), {"action_mask": np.array([0, 1, 0], np.int8)}
    drawn = np.array([actions(box).sample(rng, {}) for _ in range(300)])
    assert all(a in box for a in drawn.astype(np.float32)) and drawn.min() < -2.5 and drawn.max() > 4.5
    assert {actions(Discrete(3, start=4)).sample(rng, masked) for _ in range(20)} == {5}


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Box(-np.inf, 1, (2,)), "wanted finite bounds with low < high"),
        (Box(1, 1, (2,)), "wanted finite bounds with low < high"),
        (Box(0, 9, (2,), np.int64), "wanted Discrete, MultiDiscrete or a Box of floats; number the combinations"),
        (MultiBinary(2), "wanted Discrete, MultiDiscrete or a Box of floats"),
        (Dict(a=Discrete(2)), "wanted Discrete, MultiDiscrete or a Box of floats"),
    ],
)
def test_what_nobody_can_act_in_is_refused(space, words):
    with pytest.raises(ValueError, match=words):
        actions(space)


def test_combinations_are_numbered_with_the_last_component_fastest():
    chosen = actions(MultiDiscrete([2, 3], start=[0, 5]))
    assert (chosen.count, chosen.bounds) == (6, None)
    assert chosen(torch.tensor([0, 1, 3, 5])).tolist() == [[0, 5], [0, 6], [1, 5], [1, 7]]
    square = actions(MultiDiscrete([[2, 2], [1, 3]]))
    assert square(torch.tensor([11])).tolist() == [[[1, 1], [0, 2]]]


def test_random_combinations_are_of_the_space_and_of_the_mask():
    space, rng = MultiDiscrete([2, 3], start=[0, 5]), np.random.default_rng(0)
    chosen = actions(space)
    assert all(chosen.sample(rng, {}) in space for _ in range(50))
    allowed = np.zeros((2, 3), bool)
    allowed[1, 2] = allowed[0, 1] = True
    drawn = {tuple(chosen.sample(rng, {"action_mask": allowed.ravel()}).tolist()) for _ in range(50)}
    assert drawn == {(1, 7), (0, 6)}


def test_too_many_combinations_are_refused():
    assert actions(MultiDiscrete([64, 64])).count == 4096
    with pytest.raises(ValueError, match="with 4,160 combinations, wanted at most 4,096, because each is an action"):
        actions(MultiDiscrete([64, 65]))


class Lock(gym.Env):
    """Three dials; the episode's only step pays 1 for the combination 2 0 1, where the first dial must not be 0."""

    observation_space, action_space = Box(0, 1, (1,)), MultiDiscrete([3, 2, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), self.told()

    def step(self, action):
        assert action in self.action_space and action[0] > 0
        return np.zeros(1, np.float32), float(action.tolist() == [2, 0, 1]), True, False, self.told()

    def told(self):
        allowed = np.ones((3, 2, 2), bool)
        allowed[0] = False
        return {"action_mask": allowed.ravel()}


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_combination_lock_is_opened(vectorization):
    """Of 12 combinations 4 are forbidden and 1 pays; uniform actions find it, and each is one of the allowed."""
    check(Lock())
    envs = VectorEnvAdapter(make(Lock, 4, vectorization=vectorization)[0])
    envs.reset(seed=0)
    assert envs.spec.actions == 12 and envs.spec.masked and envs.mask.sum(1).tolist() == [8] * 4
    agent, paid = Uniform(envs.spec), set()
    torch.manual_seed(0)
    for _ in range(40):
        transition = envs.step(agent.act(envs.obs, envs.start, envs.mask))
        paid |= set(transition.action[transition.reward == 1].tolist())
    assert paid == {2 * 4 + 0 * 2 + 1}
    envs.env.close()
