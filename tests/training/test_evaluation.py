"""Exactly the asked number of episodes, and not the short ones first."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from bayesrl.training.evaluation import Evaluation, evaluate
from bayesrl.training.vector_env import VectorEnvAdapter
from support.agents import Idle
from support.environments import Counting


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(("episodes", "lengths"), [(2, [1, 7]), (4, [1, 1, 7, 7]), (5, [1, 1, 1, 7, 7]), (1, [1])])
def test_every_environment_plays_its_share(mode, episodes, lengths):
    vector = SyncVectorEnv([lambda: Counting(1), lambda: Counting(7)], autoreset_mode=mode)
    result = evaluate(Idle(), VectorEnvAdapter(vector), episodes, seed=0)
    assert sorted(result.lengths) == lengths
    assert sorted(result.returns) == [n * (n + 1) / 2 for n in lengths]


def test_the_interval_is_the_normal_one_for_many_returns():
    returns = np.random.default_rng(1).normal(5, 2, 1000)
    low, high = Evaluation(returns, np.ones(1000)).interval()
    half = 1.96 * returns.std() / 1000**0.5
    np.testing.assert_allclose((low, high), (returns.mean() - half, returns.mean() + half), atol=0.1 * half)


def test_playing_touches_no_random_state_of_training():
    before = torch.get_rng_state()
    evaluate(Idle(), VectorEnvAdapter(SyncVectorEnv([Counting], autoreset_mode=AutoresetMode.SAME_STEP)), 3, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_no_episodes_are_refused():
    with pytest.raises(ValueError, match="got episodes=0, wanted at least 1"):
        evaluate(Idle(), None, 0, 0)


def test_an_episode_without_end_counts_as_it_stands():
    """Environment 1 would play 7 steps an episode: cut at 4 it has 1 + 2 + 3 + 4, and plays no second one."""
    vector = SyncVectorEnv([lambda: Counting(1), lambda: Counting(7)], autoreset_mode=AutoresetMode.SAME_STEP)
    result = evaluate(Idle(), VectorEnvAdapter(vector), 4, seed=0, limit=4)
    assert sorted(result.returns) == [1, 1, 10]
    assert sorted(result.lengths) == [1, 1, 4]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_first_episode_is_kept(mode, monkeypatch):
    """Of environment 0, whichever ends first; cut where it is too long, and then its return is not known."""
    vector = SyncVectorEnv([lambda: Counting(3), lambda: Counting(1)], autoreset_mode=mode)
    first = evaluate(Idle(), VectorEnvAdapter(vector), 4, seed=0).first
    assert first.inputs.tolist() == [[0], [1], [2]] and first.reward.tolist() == [1, 2, 3]
    assert first.action.shape == (3,) and first.terminated
    monkeypatch.setattr("bayesrl.training.evaluation.LONGEST", 2)
    first = evaluate(Idle(), VectorEnvAdapter(vector), 4, seed=0).first
    assert first.reward.tolist() == [1, 2] and not first.terminated
