"""A trained agent taken away: raw observations in, the action of its evaluation and the spread of its Q out."""

import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete

import bayesrl
from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.agents.uniform import Uniform
from bayesrl.deployment.policy import Policy
from bayesrl.envs.actions import actions
from bayesrl.experiment.run_directory import described
from bayesrl.networks import mlp, recurrent
from bayesrl.posteriors import Ensemble
from bayesrl.rl.td import at
from bayesrl.rl.types import EnvSpec
from bayesrl.training.checkpoint import CheckpointError
from bayesrl.training.rollout import Rollout
from bayesrl.training.vector_env import VectorEnvAdapter
from support.runs import TINY, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    run = tmp_path_factory.mktemp("policy") / "run"
    train("steps=200", f"run_dir={run}", "agent.capacity=5000", *TINY)
    return run


class Keyed(gym.Env):
    """A Dict observation; actions are 5, 6 and 7, of which the mask allows one in turn."""

    observation_space = Dict({"a": Box(-1, 1, (2,), np.float32), "b": Discrete(3)})
    action_space = Discrete(3, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._out()

    def _out(self):
        self.mask = np.arange(3) == self.t % 3
        return {"a": np.full(2, self.t / 9, np.float32), "b": self.t % 3}, {"action_mask": self.mask}

    def step(self, action):
        assert self.mask[action - 5]
        self.t += 1
        return *(out := self._out())[:1], float(self.t), self.t == 7, False, out[1]


def trained(env: gym.Env, network, steps: int = 40) -> tuple[BayesDQN, Policy]:
    envs = VectorEnvAdapter(gym.vector.SyncVectorEnv([lambda: env], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP))
    envs.reset(seed=0)
    torch.manual_seed(0)
    agent = BayesDQN(envs.spec, Ensemble(network(envs.spec), members=4), learning_starts=10, batch_size=8)
    rollout = Rollout(agent, envs)
    for _ in range(steps):
        rollout.step()
    return agent, Policy(agent, envs.spec, env.observation_space, env.action_space)


def test_it_builds_no_environment_and_no_memory(run, monkeypatch: pytest.MonkeyPatch) -> None:
    for builder in ("environments", "evaluation_environments"):
        monkeypatch.setattr(f"bayesrl.experiment.build.{builder}", None)
    policy = bayesrl.load(run)
    assert policy.agent.replay.T < 10
    assert policy.observation_space == gym.make("CartPole-v1").observation_space


def test_one_and_many_by_hand(run) -> None:
    policy, env = bayesrl.load(run), gym.make("CartPole-v1")
    obs = np.stack([env.reset(seed=seed)[0] for seed in range(5)])
    action, uncertainty = policy(obs)
    agent, flat = policy.agent, torch.from_numpy(obs)
    assert torch.equal(torch.from_numpy(action), agent.greedy(flat))
    z = agent.posterior.index(100, torch.Generator().manual_seed(0))
    q = agent.posterior.expected(z, agent.normalizer.obs(flat)) * agent.normalizer.scale
    expected = at(q, torch.from_numpy(action).expand(100, -1)).std(0, correction=0)
    assert uncertainty == pytest.approx(expected.detach().numpy()) and (uncertainty > 0).all()
    policy.reset()
    for row in range(5):
        one, unsure = policy(obs[row])
        assert one == action[row] and unsure == pytest.approx(uncertainty[row], rel=1e-5)
        env.step(one)


def test_it_plays_as_evaluation_does(run) -> None:
    """The action is the evaluation's, step by step, in the environment itself."""
    policy, env = bayesrl.load(run), gym.make("CartPole-v1")
    obs, _ = env.reset(seed=3)
    done = False
    while not done:
        action, _ = policy(obs)
        assert action == int(policy.agent.greedy(torch.from_numpy(obs)[None]))
        obs, _, terminated, truncated, _ = env.step(action)
        done = terminated or truncated


def test_a_draw_is_one_function(run) -> None:
    policy, obs = bayesrl.load(run), np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    posterior, normalizer = policy.agent.posterior, policy.agent.normalizer
    acted = []
    for seed in range(6):
        drawn = policy.draw(seed)
        z = posterior.index(1, torch.Generator().manual_seed(seed))
        wanted = posterior.expected(z, normalizer.obs(torch.from_numpy(obs)))[0].argmax(-1)
        acted.append(drawn(obs)[0])
        assert torch.equal(torch.from_numpy(acted[-1]), wanted)
        assert (acted[-1] == policy.draw(seed)(obs)[0]).all()
    assert any((acted[0] != other).any() for other in acted[1:])


def test_dicts_and_masks() -> None:
    _, policy = trained(env := Keyed(), lambda spec: mlp(spec.shape, spec.actions))
    obs, info = env.reset()
    for t in range(7):
        action, _ = policy(obs, info["action_mask"])
        assert action == 5 + t % 3  # the only one allowed
        obs, *_, info = env.step(action)
    both = {"a": np.zeros((2, 2), np.float32), "b": np.array([0, 2])}
    policy.reset()
    assert policy(both, np.array([[False, True, False], [False, False, True]]))[0].tolist() == [6, 7]
    with pytest.raises(ValueError, match="action_mask"):
        policy(both)
    with pytest.raises(ValueError, match="keys"):
        policy({"a": both["a"]}, [True] * 3)
    with pytest.raises(ValueError, match=r"^got an observation of type str, wanted numbers of shape \[2\]$"):
        policy({"a": "x", "b": 0}, [True] * 3)


def test_a_recurrent_agent_carries_its_window() -> None:
    class Open(Keyed):
        def _out(self):
            return super()._out()[0], {}

        def step(self, action):
            self.mask = [True] * 3
            return super().step(action)

    agent, policy = trained(env := Open(), lambda spec: recurrent(spec.shape, spec.actions, history=3, units=4))
    obs, _ = env.reset()
    seen = None
    for t in range(6):
        row = torch.tensor([[*obs["a"], *np.eye(3)[obs["b"]]]], dtype=torch.float32)
        action, seen = agent.predict(row, seen, torch.tensor([t == 0]))
        assert policy(obs)[0] == 5 + int(action)
        assert torch.equal(policy._state.agent, seen)
        obs, *_ = env.step(5)
    policy(obs, episode_start=[True])
    alone = policy._state.agent
    policy.reset()
    policy(obs)
    assert torch.equal(alone, policy._state.agent) and not alone[:, :2].any()
    with pytest.raises(ValueError, match=r"got 2 observations after 1, .* call reset\(\) first"):
        policy({"a": np.stack([obs["a"]] * 2), "b": np.array([obs["b"]] * 2)}, [[True] * 3] * 2)


def test_an_agent_without_values_acts_and_says_that_it_does_not_know(run) -> None:
    spec, *spaces = described(run)
    policy = Policy(Uniform(spec), spec, *spaces)
    action, uncertainty = policy(np.zeros(4, np.float32))
    assert action in (0, 1) and math.isnan(uncertainty)
    with pytest.raises(ValueError, match="posterior over values"):
        policy.draw()


def test_continuous_actions_are_the_environments_own() -> None:
    space = Box(np.array([0.0, -4.0], np.float32), np.array([1.0, 4.0], np.float32))
    bounds = actions(space).bounds
    spec = EnvSpec((3,), torch.float32, 2, bounds=bounds)
    policy = Policy(Uniform(spec), spec, Box(-1, 1, (3,), np.float32), space)
    action, uncertainty = policy(np.full((500, 3), 0.3, np.float32))
    assert all(each in space for each in action) and np.isnan(uncertainty).all()
    assert np.abs(action[:, 1]).max() > 3.9 and action[:, 0].min() < 0.1


@pytest.mark.parametrize("obs", [np.zeros(3), np.zeros((2, 3)), np.full(4, np.nan), 1.0])
def test_wrong_observations(obs, run) -> None:
    with pytest.raises(ValueError, match=r"got .*, wanted"):
        bayesrl.load(run)(obs)


def test_without_memory_the_number_of_observations_may_change(run) -> None:
    policy, obs = bayesrl.load(run), np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    three = policy(obs)[0]
    assert policy(obs[0])[0] == three[0] and (policy(obs[:2])[0] == three[:2]).all()


def test_a_decision_says_how_likely_each_action_is_best(run) -> None:
    """By hand from the draws; the call is the same decision; a single observation has no batch dimension."""
    policy, obs = bayesrl.load(run), np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    decision = policy.decide(obs)
    assert decision.q.shape == (100, 6, 2) and decision.q_band.shape == (2, 6, 2)
    np.testing.assert_allclose(decision.q_mean, decision.q.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(decision.q_band, np.quantile(decision.q, [0.05, 0.95], 0), rtol=1e-4, atol=1e-5)
    share = (decision.q.argmax(-1)[..., None] == np.arange(2)).mean(0)
    np.testing.assert_allclose(decision.probability_best, share, rtol=1e-6)
    action, uncertainty = policy(obs)
    assert (action == decision.action).all() and (uncertainty == decision.uncertainty).all()
    policy.reset()
    one = policy.decide(obs[2])
    assert one.action == action[2] and one.q.shape == (100, 2) and one.probability_best.shape == (2,)
    np.testing.assert_allclose(one.q_band, decision.q_band[:, 2], rtol=1e-4, atol=1e-5)


def test_a_mask_rules_actions_out_of_the_best() -> None:
    _, policy = trained(env := Keyed(), lambda spec: mlp(spec.shape, spec.actions))
    obs, _ = env.reset()
    decision = policy.decide(obs, [True, False, True])
    assert decision.probability_best[1] == 0 and decision.probability_best.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="allows no action"):
        policy.decide(obs, [False] * 3)
    with pytest.raises(ValueError, match=r"got a mask of shape \[2\], wanted \[3\]"):
        policy.decide(obs, [True] * 2)


def test_predict_remembers_nothing_and_returns_its_state(run) -> None:
    policy, obs = bayesrl.load(run), np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    action, state = policy.predict(obs)
    assert (action == policy(obs)[0]).all()
    assert (policy.predict(obs, state, np.zeros(6, bool))[0] == action).all()
    assert policy.predict(obs[0])[0] == action[0]
    assert (policy.predict(obs[:3], state)[0] == action[:3]).all()
    with pytest.raises(ValueError, match="wanted what predict returned"):
        policy.predict(obs, 5)
    with pytest.raises(ValueError, match="wanted the same"):
        policy.predict(obs, state, deterministic=False)
    with pytest.raises(ValueError, match=r"got episode_start of shape \[2\], wanted \[6\]"):
        policy.predict(obs, state, [True, False])


def test_not_deterministic_is_one_draw_an_episode(run) -> None:
    policy, obs = bayesrl.load(run), np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    torch.manual_seed(0)
    action, state = policy.predict(obs, deterministic=False)
    no = np.zeros(200, bool)
    for _ in range(3):
        again, state = policy.predict(obs, state, no, deterministic=False)
        assert (again == action).all()
    z = state.agent.z.clone()
    _, state = policy.predict(obs, state, np.arange(200) == 7, deterministic=False)
    assert (state.agent.z != z).any(-1).nonzero()[:, 0].tolist() in ([7], [])


def test_stable_baselines3_evaluates_it(run) -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    policy = bayesrl.load(run)
    for deterministic in (True, False):
        env = vec_env.DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2)
        returns, lengths = evaluation.evaluate_policy(
            policy, env, 4, deterministic=deterministic, return_episode_rewards=True, warn=False
        )
        assert len(returns) == 4 and returns == pytest.approx(lengths)


def test_a_short_repr(run) -> None:
    policy = bayesrl.load(run)
    assert repr(policy).startswith("Policy(agent=BayesDQN, posterior=") and "\n" not in repr(policy)
    assert policy._repr_html_().count("<tr>") == 5 and "posterior draw" in policy.draw()._repr_html_()


@pytest.mark.parametrize("content", ["", "{}", '{"environment": {"shape": [4]}}', "[1]"])
def test_a_broken_description_is_told(content: str, run, tmp_path) -> None:
    for name in ("config.yaml", "run.json"):
        (tmp_path / name).write_text((run / name).read_text())
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"run\.json"):
        bayesrl.load(tmp_path)


def test_the_description_is_plain_json(run) -> None:
    """As other programs read it, without Infinity or NaN."""

    def refuse(constant: str):
        raise AssertionError(constant)

    json.loads((run / "run.json").read_text(), parse_constant=refuse)


def test_there_is_no_run(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.yaml"):
        bayesrl.load(tmp_path / "nowhere")
