"""MyEnv keeps the laws that training relies on, and its own."""

import numpy as np
import pytest
from bayesrl.envs import check, single

from my_env import MyEnv


def test_the_laws_of_environments():
    check(single("my_env:MyEnv-v0"))


def test_the_right_end_pays_and_ends_the_episode():
    env = MyEnv(size=3)
    env.reset(seed=0)
    env.x = 0
    seen, rewards, terminated, truncated, _ = zip(*(env.step(action) for action in (0, 1, 1, 1)), strict=True)
    assert np.concatenate(seen).tolist() == [0, 1, 2, 3]
    assert rewards == (-0.1, -0.1, -0.1, 1.0)
    assert terminated == (False, False, False, True)
    assert not any(truncated)


def test_the_same_seed_begins_in_the_same_place():
    env = MyEnv(size=1000)
    first, again, other = (env.reset(seed=seed)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_the_time_limit_cuts():
    env = single("my_env:MyEnv-v0")
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(50)] == [False] * 49 + [True]


def test_a_line_without_length_is_refused():
    with pytest.raises(ValueError, match="wanted at least 1"):
        MyEnv(size=0)
