"""What `make` makes, which way it chooses, and what it says where it cannot."""

import importlib.util

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from bayesrl.envs import DeepSea, DeepSeaVector, EnvError, make, single


@pytest.mark.parametrize(
    ("env_id", "kwargs", "choice", "kind"),
    [
        ("bayesrl/DeepSea-v0", {"size": 4}, "native", DeepSeaVector),
        ("CartPole-v1", {}, "native", gym.vector.VectorEnv),
        ("CartPole-v1", {"sutton_barto_reward": True}, "native", gym.vector.VectorEnv),
        ("bayesrl/RiverSwim-v0", {}, "sync", SyncVectorEnv),
        (DeepSea, {"size": 4}, "sync", SyncVectorEnv),
        ("clocks:Clock", {"horizon": 5}, "sync", SyncVectorEnv),
        ("clocks:test/Clock-v0", {"horizon": 5}, "sync", SyncVectorEnv),
    ],
)
def test_auto_prefers_native_then_the_fastest(clocks, env_id, kwargs, choice, kind):
    envs, chosen = make(env_id, 2, kwargs)
    assert (chosen, envs.num_envs) == (choice, 2)
    assert isinstance(envs, kind)
    again, same = make(env_id, 2, kwargs, vectorization=chosen)
    assert (same, type(again)) == (chosen, type(envs))
    np.testing.assert_array_equal(envs.reset(seed=0)[0], again.reset(seed=0)[0])


def test_native_gives_way_where_it_does_not_take_the_kwargs(clocks):
    """A vector version without `pause` is passed over for an environment that has it."""
    gym.register("test/Half-v0", entry_point="clocks:Clock", vector_entry_point=lambda num_envs, horizon=3: None)
    try:
        assert make("test/Half-v0", 2, {"pause": 0.0})[1] == "sync"
        with pytest.raises(
            EnvError, match=r"'native' for test/Half-v0, wanted .* takes 'pause' and .*; choose auto, sync or"
        ):
            make("test/Half-v0", 2, {"pause": 0.0}, vectorization="native")
    finally:
        gym.registry.pop("test/Half-v0")


def test_same_step_autoreset_by_hand(clocks):
    envs, _ = make("clocks:Clock", 2, {"horizon": 2})
    envs.reset(seed=0)
    steps = [envs.step(np.zeros(2, int)) for _ in range(3)]
    assert [step[0].tolist() for step in steps] == [[1, 1], [0, 0], [1, 1]]
    assert [step[2].tolist() for step in steps] == [[False] * 2, [True] * 2, [False] * 2]
    assert steps[1][4]["final_obs"].tolist() == [2, 2]
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_imports_register_and_the_time_limit_stays(clocks):
    with pytest.raises(EnvError, match="name the module that registers it in `imports`"):
        single("test/Clock-v0")
    env = single("test/Clock-v0", {"horizon": 9}, ["clocks"])
    env.reset()
    assert [env.step(0)[2:4] for _ in range(2)] == [(False, False), (False, True)]
    assert single("test/Clock-v0", imports="clocks").unwrapped.horizon == 3


@pytest.mark.parametrize(
    ("step", "num_envs", "cores", "worth"),
    [
        (1e-2, 8, 4, True),  # 0.080 against 0.020 + 0.0016
        (1e-2, 8, 1, False),  # one core: 0.080 against 0.080 + 0.0016
        (1e-5, 8, 8, False),  # 0.00008 against 0.00001 + 0.0016
        (3e-4, 4, 4, True),  # 0.0012 against 0.0003 + 0.0008
        (2e-4, 4, 4, False),  # 0.0008 against 0.0002 + 0.0008
        (3e-3, 1, 1, True),  # ten messages
        (1e-3, 1, 8, False),
    ],
)
def test_the_rule_of_workers(step, num_envs, cores, worth):
    assert importlib.import_module("bayesrl.envs.vector.make").worth_workers(step, num_envs, cores) is worth


@pytest.mark.parametrize(("pause", "cores", "choice"), [(0.004, 4, "async"), (0.004, 1, "sync"), (0.0, 4, "sync")])
def test_auto_measures_and_chooses(clocks, monkeypatch, pause, cores, choice):
    monkeypatch.setattr(importlib.import_module("bayesrl.envs.vector.make"), "cores", lambda: cores)
    envs, chosen = make("clocks:Clock", 2, {"pause": pause})
    envs.close()
    assert chosen == choice


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_envs": 0}, "got num_envs=0, wanted an integer of at least 1"),
        ({"num_envs": 1.5}, "got num_envs=1.5, wanted an integer"),
        ({"vectorization": "fast"}, "got vectorization='fast', wanted one of auto, native, sync, async"),
        ({"env_id": "CartPoel-v1"}, "wanted a registered id or 'module:Name'; did you mean CartPole-v1"),
        ({"env_id": "bayesrl/DeepSee-v0"}, "did you mean bayesrl/DeepSea-v0"),
        ({"env_id": "clocks:Clok"}, "got env_id='clocks:Clok', wanted a registered id or 'module:Name'; did you mean"),
        ({"env_id": "qqqqqqqq"}, "name the module that registers it in `imports`"),
        ({"env_id": 3}, "got env_id=3, wanted an id or a class"),
        ({"imports": ["no_such_clocks"]}, "got ModuleNotFoundError on importing 'no_such_clocks' (No module named"),
        ({"env_id": "broken_clocks:Clock"}, "got ZeroDivisionError on importing 'broken_clocks' (division by zero)"),
        ({"kwargs": {"horizn": 3}}, "got 'horizn' for clocks:Clock, wanted only 'horizon', 'pause', 'fail_at'; rename"),
        ({"env_id": "clocks:test/Clock-v0", "kwargs": {"x": 1}}, "got 'x' for clocks:test/Clock-v0, wanted only 'hor"),
        ({"env_id": "CartPole-v1", "kwargs": {"size": 3}}, "got 'size' for CartPole-v1, wanted only"),
        ({"env_id": "clocks:picky"}, "got TypeError from clocks:picky (picky() missing 1 required"),
        ({"env_id": "clocks:picky", "kwargs": {"level": 9}}, "got ValueError from clocks:picky (no level 9)"),
        ({"env_id": "clocks:no_env"}, "wanted an instance of gymnasium.Env"),
        ({"env_id": "clocks:needs_swig"}, "without a package that it needs (Box2D is missing"),
        ({"env_id": "clocks:needs_swig"}, 'wanted it; pip install "bayesrl[box2d]"'),
        ({"env_id": "clocks:needs_other"}, '; pip install "gymnasium[jax]"'),
        ({"env_id": "clocks:needs_rom"}, "; install the package it names"),
        ({"vectorization": "native"}, "got vectorization='native' for clocks:Clock, wanted an environment with a"),
    ],
)
def test_each_error_is_one_sentence(clocks, arguments, words):
    arguments = {"env_id": "clocks:Clock", "num_envs": 1, "vectorization": "sync"} | arguments
    with pytest.raises(EnvError) as caught:
        make(**arguments)
    assert words in str(caught.value)
    assert str(caught.value).startswith("got ")


@pytest.mark.skipif(importlib.util.find_spec("Box2D") is not None, reason="box2d is installed")
def test_a_missing_box2d_names_our_extra():
    with pytest.raises(EnvError, match=r'got LunarLander-v3 without .*; pip install "bayesrl\[box2d\]"'):
        single("LunarLander-v3")
