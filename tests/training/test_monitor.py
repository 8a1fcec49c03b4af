"""What a run says of itself, by hand, and without moving training's random state."""

import math

import torch
from gymnasium.vector import AutoresetMode

from bayesrl.rl.types import Forecast
from bayesrl.training.monitor import Monitor, q_statistics
from bayesrl.training.rollout import Rollout
from support.agents import Idle
from support.environments import Counting, started


class Certain(Idle):
    """Two draws: values 1 and 3 everywhere."""

    def forecast(self, obs, generator):
        torch.rand(1, generator=generator)
        q = torch.tensor([1.0, 3.0])[:, None, None] * torch.tensor([1.0, 0.5])
        return Forecast(q.expand(2, len(obs), 2), torch.tensor(math.nan))


def test_spread_by_hand():
    q = torch.tensor([[[1.0, 0.0]], [[3.0, 4.0]]])  # the mean's best action is 0 or 1: means 2 and 2, the first wins
    numbers = q_statistics(Forecast(q, torch.tensor(5.0)))
    assert numbers == {"q_epistemic_std": 1, "action_disagreement": 0.5, "collapsed": 0, "posterior_kl": 5}


def test_equal_draws_have_collapsed_unless_there_is_only_one_function():
    q = torch.ones(3, 2, 2)
    assert q_statistics(Forecast(q, torch.zeros(())))["collapsed"] == 1
    assert q_statistics(Forecast(q, torch.zeros(()), degenerate=True))["collapsed"] == 0


def run(steps, monitor=None):
    rollout = Rollout(Certain(), started(AutoresetMode.SAME_STEP, Counting(2)))
    monitor = monitor or Monitor(1, seed=0)
    for _ in range(steps):
        monitor.before(rollout.agent, rollout.envs)
        rollout.step()
        monitor.after(rollout.envs)
    return monitor, monitor.metrics(rollout.agent, rollout)


def test_metrics_by_hand():
    before = torch.get_rng_state()
    _, out = run(4)
    assert torch.equal(before, torch.get_rng_state())
    # Episodes of rewards 1 and 2; discounted by 1/2 they are 2, the mean of the values 1 and 3. One is predicted.
    assert (out["rollout/ep_rew_mean"], out["rollout/ep_len_mean"], out["rollout/episodes"]) == (3, 2, 2)
    assert (out["uncertainty/start_value"], out["uncertainty/q_epistemic_std"]) == (2, 1)
    assert (out["calibration/return_coverage_90"], out["calibration/episodes_scored"]) == (1, 1)
    assert out["time/total_timesteps"] == out["train/n_updates"] == 4


def test_the_state_goes_round():
    monitor, _ = run(3)
    other = Monitor(1, seed=5)
    other.restore(monitor.state())
    assert torch.equal(monitor.generator.get_state(), other.generator.get_state())
    for name in ("returns", "lengths", "steps", "asked", "predicted"):
        assert getattr(other, name) == getattr(monitor, name)
    assert torch.equal(other.opening, monitor.opening)
    assert torch.equal(torch.stack([*other.recent]), torch.stack([*monitor.recent]))


def test_a_state_of_an_earlier_version_goes_round():
    state = run(3)[0].state()
    state["calibration"] = {name: value for name, value in state["calibration"].items() if name != "squares"}
    del state["opening"]
    other = Monitor(1, seed=5)
    other.restore(state)
    assert other.calibration.counts.tolist() == [1, 0] and math.isnan(other.calibration.error[0])


def test_few_episodes_are_predicted_and_only_those_are_scored():
    """200 steps of 40 environments with episodes of 2: two predictions, 100 steps apart, in each of the first 16."""
    rollout = Rollout(Certain(), started(AutoresetMode.SAME_STEP, *(Counting(2) for _ in range(40))))
    monitor, asked = Monitor(40, seed=0), []
    predict = monitor.calibration.predict
    monitor.calibration.predict = lambda env, draws: (asked.append(env.tolist()), predict(env, draws))
    for _ in range(200):
        monitor.before(rollout.agent, rollout.envs)
        rollout.step()
        monitor.after(rollout.envs)
    assert asked == [list(range(16))] * 2
    assert monitor.calibration.counts.tolist() == [32, 0] and len(monitor.returns) == 100


def test_what_was_predicted_of_an_episode_that_broke_off_is_scored_against_no_other():
    """One environment, replaced in its first step: the episode that ends afterwards was never predicted."""
    rollout = Rollout(Certain(), started(AutoresetMode.SAME_STEP, Counting(2)))
    monitor, step, breaks = Monitor(1, seed=0), rollout.envs.env.step, iter([{"broken": {0: "it was killed"}}])

    def replaced(action):
        *result, infos = step(action)
        return *result, infos | next(breaks, {})

    rollout.envs.env.step = replaced
    for _ in range(4):
        monitor.before(rollout.agent, rollout.envs)
        rollout.step()
        monitor.after(rollout.envs)
    assert len(monitor.returns) == 2 and not monitor.predicted
    assert monitor.calibration.counts.tolist() == [0, 0]
