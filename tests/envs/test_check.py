"""Every law of the checker has a broken environment here, and the words it must say."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from bayesrl.envs import EnvError, check, make, single

FLOAT = Box(-1, 1, (2,), np.float32)
GOOD = np.zeros(2, np.float32)


class Toy(gym.Env):
    """Returns what it is told to; a good environment by default."""

    def __init__(self, obs=GOOD, space=FLOAT, actions=None, info=None, step=(0.0, False, False), later=None):
        self.observation_space, self.action_space = space, actions or Discrete(2)
        self.obs, self.info, self.result, self.later = obs, {} if info is None else info, step, later

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.obs, self.info

    def step(self, action):
        assert action in self.action_space
        self.steps += 1
        return self.obs if self.later is None else self.later, *self.result, self.info


class Seedless(Toy):
    def reset(self):
        return self.obs, {}


class ResetsTo(Toy):
    def reset(self, *, seed=None, options=None):
        return self.info["reset"]


class StepsTo(Toy):
    def step(self, action):
        return self.info["step"]


class Raises(Toy):
    def reset(self, *, seed=None, options=None):
        if "reset" in self.info:
            raise KeyError("no level 3")
        return super().reset(seed=seed)

    def step(self, action):
        return 1 / 0


class Spaceless(gym.Env):
    observation_space = FLOAT


PARTS = Dict(a=FLOAT, b=Tuple([Discrete(3)]))
BROKEN = [
    (object(), "wanted an instance of gymnasium.Env; derive it"),
    (Spaceless(), "action_space: got None, wanted a gymnasium.Space; set self.action_space"),
    (Toy(space=None), "observation_space: got None, wanted a gymnasium.Space; set self.observation_space"),
    (Toy(actions=Box(-np.inf, 1, (2,))), "action_space: got Box(-inf, 1.0, (2,), float32), wanted finite bounds"),
    (Toy(actions=MultiBinary(2)), "wanted Discrete, MultiDiscrete or a Box of floats; number the combinations"),
    (Toy(space=Text(3)), "observation_space: got observation space Text"),
    (Seedless(), "reset: got a signature that takes no seed or options"),
    (ResetsTo(info={"reset": GOOD}), "wanted the two values obs, info; end reset with `return obs, {}`"),
    (ResetsTo(info={"reset": (GOOD, None)}), "reset(seed=0) info: got None of type NoneType, wanted a dict"),
    (StepsTo(info={"step": (GOOD, 0.0, False, {})}), "wanted the five values obs, reward, terminated, truncated, info"),
    (Raises(info={"reset": 1}), "reset(seed=0): got KeyError: 'no level 3', wanted no exception"),
    (Raises(), "got ZeroDivisionError: division by zero, wanted no exception"),
    (Toy(step=("1", False, False)), "reward: got '1' of type str, wanted one finite number"),
    (Toy(step=(float("nan"), False, False)), "reward: got nan of type float, wanted one finite number"),
    (Toy(step=(np.zeros(1), False, False)), "reward: got array([0.]) of type ndarray, wanted one finite number"),
    (Toy(step=(None, False, False)), "reward: got None"),
    (Toy(step=(0.0, 0, False)), "terminated: got 0 of type int, wanted True or False"),
    (Toy(step=(0.0, False, None)), "truncated: got None of type NoneType, wanted True or False"),
    (StepsTo(info={"step": (GOOD, 0.0, False, False, [])}), "info: got [] of type list, wanted a dict"),
    (Toy(obs=[0.0, 0.0]), "observation: got [0.0, 0.0] of type list, wanted a numpy array; return np.array"),
    (Toy(obs=np.zeros(3, np.float32)), "reset(seed=0) observation: got shape (3,), wanted (2,)"),
    (Toy(later=np.zeros((1, 2), np.float32)), "observation: got shape (1, 2), wanted (2,)"),
    (Toy(obs=np.zeros(2, np.int64)), "got dtype int64, wanted float32; return obs.astype(np.float32)"),
    (Toy(obs=np.array([0, np.nan], np.float32)), "got nan at index (1,), wanted finite values"),
    (Toy(obs=np.array([1e300, 0]), space=Box(-np.inf, np.inf, (2,), np.float32)), "at index (0,), wanted finite"),
    (Toy(obs=np.array([0, 2], np.float32)), "got 2.0 at index (1,), wanted at most high=1.0; clip it or widen"),
    (Toy(obs=np.array([-3, 0], np.float32)), "got -3.0 at index (0,), wanted at least low=-1.0"),
    (Toy(obs=np.array([[0, 300]]), space=Box(0, 255, (1, 2), np.uint8)), "got 300 at index (0, 1), wanted at most"),
    (Toy(obs=3, space=Discrete(3)), "observation: got 3, wanted 0 to 2; correct the state or Discrete's n and start"),
    (Toy(obs=0, space=Discrete(3, start=1)), "observation: got 0, wanted 1 to 3"),
    (Toy(obs=1.0, space=Discrete(3)), "observation: got 1.0 of type float, wanted one integer"),
    (Toy(obs=np.zeros(()), space=Discrete(3)), "observation: got dtype float64, wanted an integer"),
    (Toy(obs=np.array([1, 3]), space=MultiDiscrete([2, 3])), "got 3 at index (1,), wanted at most high=2"),
    (Toy(obs=np.array([1, 2]), space=MultiBinary(2)), "got 2 at index (1,), wanted at most high=1"),
    (Toy(obs=GOOD, space=PARTS), "wanted a dict of ['a', 'b']; return exactly the keys"),
    (Toy(obs={"a": GOOD}, space=PARTS), "got a dict of ['a'], wanted a dict of ['a', 'b']"),
    (Toy(obs={"a": GOOD, "b": [1]}, space=PARTS), "observation['b']: got [1] of type list, wanted a tuple of 1"),
    (Toy(obs={"a": GOOD, "b": (7,)}, space=PARTS), "observation['b'][0]: got 7, wanted 0 to 2"),
    (Toy(info={"action_mask": [1, 1]}), "info['action_mask']: got [1, 1] of type list, wanted an array of shape (2,)"),
    (Toy(info={"action_mask": np.ones(3, np.int8)}), "wanted an array of shape (2,) of bool or int8; give one entry"),
    (Toy(actions=MultiDiscrete([2, 2]), info={"action_mask": np.ones((2, 2), bool)}), "wanted an array of shape (4,)"),
    (Toy(info={"action_mask": np.ones(2)}), "wanted an array of shape (2,) of bool or int8"),
    (Toy(info={"action_mask": np.array([0, 2])}), "of 0 and 1; give 1 for each action that is allowed"),
    (Toy(info={"action_mask": np.zeros(2, bool)}), "with no action allowed, wanted at least one"),
]


@pytest.mark.parametrize(("env", "words"), BROKEN, ids=[words[:60] for _, words in BROKEN])
def test_the_first_broken_law_is_named_with_its_remedy(env, words):
    with pytest.raises(EnvError) as caught:
        check(env)
    message = str(caught.value)
    assert words in message
    assert "got " in message
    assert "wanted " in message
    assert "; " in message


GOOD_ONES = [
    Toy(),
    Toy(obs=np.zeros(2)),  # float64 for float32: Gymnasium casts it
    Toy(obs=np.array([3, 200]), space=Box(0, 255, (2,), np.uint8)),
    Toy(obs=np.float32(0.5), space=Box(0, 1, (), np.float32)),
    Toy(obs=np.array([True, False]), space=MultiBinary(2)),
    Toy(actions=FLOAT),
    Toy(obs=np.int64(3), space=Discrete(3, start=1), actions=Discrete(2, start=-1)),
    Toy(obs={"b": (np.array(2),), "a": GOOD}, space=PARTS),
    Toy(step=(np.float32(1), np.bool_(False), np.True_)),
    Toy(step=(1, True, False)),
]


@pytest.mark.parametrize("env", GOOD_ONES, ids=range(len(GOOD_ONES)))
def test_what_gymnasium_casts_safely_is_kept(env):
    check(env)
    assert env.steps == 0


def test_only_allowed_actions_are_taken():
    class Masked(Toy):
        def step(self, action):
            assert action == 2
            return super().step(action)

    check(Masked(info={"action_mask": np.array([False, False, True])}, actions=Discrete(3)))


TAXI = max(name for name in gym.registry if name.startswith("Taxi-v"))  # gives an action mask
OURS = ["bayesrl/DeepSea-v0", "bayesrl/RiverSwim-v0"]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "FrozenLake-v1", "Blackjack-v1", TAXI, *OURS])
def test_gymnasium_s_own_and_ours_pass(env_id):
    env = single(env_id)
    check(env)
    env.step(env.action_space.sample())


def test_a_vector_environment_is_not_a_single_one():
    with pytest.raises(EnvError, match=r"wanted an instance of gymnasium\.Env"):
        check(make("CartPole-v1", 2)[0])
