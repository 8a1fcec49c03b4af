"""Imagination: branches obey the world they are drawn from, batches hold the stated share, runs resume bit for bit."""

import contextlib
import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bayesrl.agents.bayes_ac import BayesAC
from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.compilation.capture import CapturedGraph
from bayesrl.experiment.config import ConfigError, load
from bayesrl.likelihoods import Heteroscedastic, WithFlag
from bayesrl.networks import mlp
from bayesrl.posteriors import Ensemble, Hypermodel, Learner
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.world_models.dynamics import Dynamics, Worlds, WorldStep, signature
from bayesrl.world_models.imagination import Imagination, Steps
from support.runs import TINY, checkpoint, metrics, resume, same, train

E, D = 2, 2
DISCRETE = EnvSpec((D,), torch.float32, 3, E)
CONTINUOUS = EnvSpec((D,), torch.float32, 1, E, bounds=((-1.0,), (1.0,)))


class Truth(Worlds):
    """One known world: x moves by the action's number / 10, y counts steps; an episode ends where y reaches 4."""

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> WorldStep:
        number = action.argmax(-1) if action.shape[-1] > 1 else action[..., 0]
        after = obs + torch.stack([number / 10, torch.ones_like(obs[..., 1])], -1)
        return WorldStep(after, after[..., 0], (after[..., 1] >= 4).float())


class Known(Dynamics):
    def worlds(self, z: Tensor) -> Worlds:
        return Truth(self, lambda x: x, len(z))


def made(spec: EnvSpec = DISCRETE, kind: type = Ensemble, n_step: int = 2, fill: int = 30, **options):
    """An agent with imagination and `fill` steps of the known world in memory."""
    torch.manual_seed(0)
    shape, outputs = signature(spec)
    likelihood = WithFlag(Heteroscedastic())
    world = Hypermodel(mlp(shape, outputs, size=2, hidden=[8], prior=[8]), draws=2, likelihood=likelihood)
    options = {"branches": 6, "horizon": 3, "every": 10, "updates": 2, "capacity": 60, "dynamics": Known} | options
    inputs, actions = (((D,), 3), BayesDQN) if spec.bounds is None else (((D + 1,), 1), BayesAC)
    posterior = kind(mlp(*inputs, hidden=[8], prior=[8]), **({"members": 3} if kind is Ensemble else {}))
    imagination = partial(Imagination, world=options.pop("world", world), **options)
    agent = actions(spec, posterior, imagination=imagination, n_step=n_step, batch_size=16, learning_starts=1)
    truth, obs = Truth(None, lambda x: x, 1), torch.zeros(E, D)  # type: ignore[arg-type]
    for _ in range(fill):
        action = torch.randint(3, (E,)) if spec.bounds is None else 2 * torch.rand(E, 1) - 1
        after, reward, end = truth.step(obs, agent.experience.dynamics.encode_action(action))
        no = torch.zeros(E, dtype=torch.bool)
        agent.observe(Transition(obs, action, reward, end > 0, no, after, ~no))
        obs = torch.where(end[:, None] > 0, torch.zeros(E, D), after)
    return agent


@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_what_a_known_world_imagines_is_the_truth(spec: EnvSpec) -> None:
    """Each stored step is the world's; a branch goes on where it was, and where it ended from a remembered state."""
    agent = made(spec)
    agent.experience.renew(agent.replay, agent.posterior, agent.branch_policy)
    memory = agent.experience.memory
    assert memory.rows == 3 and memory.E == 6
    seen = {name: column[:3] for name, column in memory.columns.items()}
    action = (
        agent.experience.dynamics.encode_action(seen["action"].flatten()) if spec.bounds is None else seen["action"]
    )
    after, reward, end = Truth(None, None, 6).step(seen["obs"], action.view(3, 6, -1))  # type: ignore[arg-type]
    torch.testing.assert_close(seen["next_obs"], after, rtol=0, atol=0)
    torch.testing.assert_close(seen["reward"], reward, rtol=0, atol=0)
    assert torch.equal(seen["terminated"], end) and 0 < end.sum() < 18 and seen["valid"].all()
    assert torch.equal(seen["done"].bool(), (end > 0) | (torch.arange(3) == 2)[:, None])
    goes_on = end[:2] == 0
    assert torch.equal(seen["obs"][1:][goes_on], after[:2][goes_on])
    real = agent.replay.columns["obs"][: agent.replay.rows].flatten(0, 1)
    begun = torch.cat([seen["obs"][0], seen["obs"][1:][~goes_on]])
    assert (begun[:, None] == real).all(-1).any(1).all()


def test_targets_of_several_steps_end_with_their_branch() -> None:
    """Of a branch of 3 steps and targets of 2: two rewards from its first steps, one from its last."""
    agent = made(n_step=2)
    for _ in range(2):
        agent.experience.fitted.zero_()
        agent.experience.renew(agent.replay, agent.posterior, agent.branch_policy)
    memory, gamma = agent.experience.memory, 0.99
    sample = memory.gather(torch.arange(18))
    reward, done, end = (memory.columns[name][:4] for name in ("reward", "done", "terminated"))
    two = reward[:3] + gamma * (1 - done[:3]) * reward[1:4]
    torch.testing.assert_close(sample.reward.view(3, 6), two)
    ended = torch.where(done[:3] > 0, end[:3], end[1:4])
    torch.testing.assert_close(sample.discount.view(3, 6), gamma ** (2 - done[:3]) * (1 - ended))
    assert done[2].all() and len(memory) == 5 * 6


@pytest.mark.parametrize(("share", "count"), [(0.25, 4), (0.5, 8), (0.9, 14)])
def test_a_batch_has_the_stated_share(share: float, count: int) -> None:
    """Real rows first, then imagined ones, with the tags of their own; its size is the replay's."""
    agent = made(share=share)
    agent.experience.renew(agent.replay, agent.posterior, agent.branch_policy)
    agent.experience.memory.columns["reward"].fill_(-7.0)
    sample = agent.experience.gather(agent.replay, agent.experience.index(agent.replay, 16))
    assert (sample.reward < -6).tolist() == [False] * (16 - count) + [True] * count
    assert float(sample.size) == 60 and sample.tags.dtype == torch.bool and sample.tags.shape == (16, 3)


def test_dynamics_learn_single_steps_with_tags_of_their_own() -> None:
    """Whatever the agent's targets are of, and beside what its posterior stores."""
    likelihood = WithFlag(Heteroscedastic())
    (shape, outputs) = signature(DISCRETE)
    world = Ensemble(mlp(shape, outputs, size=2, hidden=[8]), members=4, likelihood=likelihood)
    agent = made(n_step=3, world=world)
    steps = Steps(agent.replay, agent.experience.width, torch.bool)
    sample = steps.gather(torch.arange(60))
    columns = {name: column[:30].flatten(0, 1) for name, column in agent.replay.columns.items()}
    assert torch.equal(sample.reward, columns["reward"]) and torch.equal(sample.next_obs, columns["next_obs"])
    assert torch.equal(sample.discount, 1 - columns["terminated"])
    assert torch.equal(sample.tags.float(), columns["tags"][:, 3:]) and sample.tags.shape == (60, 4)
    assert agent.learn()["loss"].isfinite()


def test_what_is_not_finite_is_never_learned_from() -> None:
    class Broken(Known):
        def worlds(self, z: Tensor) -> Worlds:
            truth = super().worlds(z)
            step, bad = truth.step, torch.arange(len(z))[:, None] == 1

            def broken(*given: Tensor) -> WorldStep:
                made = step(*given)
                return made._replace(next_obs=torch.where(bad[..., None], torch.nan, made.next_obs))

            truth.step = broken  # type: ignore[method-assign]
            return truth

    agent = made(dynamics=Broken)
    agent.experience.renew(agent.replay, agent.posterior, agent.branch_policy)
    sample = agent.experience.memory.gather(torch.arange(12))
    assert sample.weight.view(2, 6).tolist() == [[1, 0, 1, 1, 1, 1]] * 2
    assert sample.obs.isfinite().all() and sample.next_obs.isfinite().all() and sample.reward.isfinite().all()


def test_it_is_renewed_every_so_many_steps_and_never_changes_the_real_memory() -> None:
    agent = made(fill=30, every=10)
    before = {name: column.clone() for name, column in agent.replay.columns.items()}
    rows = []
    for _ in range(3):
        agent.learn()
        rows.append(agent.experience.memory.rows)
    assert rows == [3, 3, 3] and all(torch.equal(before[k], v) for k, v in agent.replay.columns.items())
    no = torch.zeros(E, dtype=torch.bool)
    step = Transition(torch.ones(E, D), torch.zeros(E, dtype=torch.int64), torch.ones(E), no, no, torch.ones(E, D), ~no)
    for _ in range(9):
        agent.observe(step)
    agent.learn()
    assert agent.experience.memory.rows == 3
    agent.observe(step)
    assert "model/nll" in agent.learn() and agent.experience.memory.rows == 6


@pytest.mark.parametrize(
    ("spec", "kind"), [(DISCRETE, Hypermodel), (DISCRETE, Ensemble), (CONTINUOUS, Ensemble)], ids=str
)
def test_the_traced_update_is_the_eager_one(spec: EnvSpec, kind: type[Learner]) -> None:
    """Bit for bit, traced before anything is imagined, and while the imagined memory goes on changing."""
    eager = made(spec, kind, dynamics=Dynamics)
    eager.posterior.draws = 3
    traced = copy.deepcopy(eager)
    drawn = traced.posterior.index(3) if spec is DISCRETE else torch.zeros(3, 16, 1)
    traced.step = CapturedGraph(traced.update, traced, torch.zeros(16, dtype=torch.int64), drawn)
    losses: list[list[Tensor]] = [[], []]
    for agent, told in zip((eager, traced), losses, strict=True):
        torch.manual_seed(1)
        for _ in range(12):
            told.append(agent.learn()["loss"])
            agent.experience.fitted -= 1
    assert eager.experience.memory.rows > 3 and len(set(map(float, losses[0]))) == 12
    assert torch.equal(*map(torch.stack, losses))
    for (name, p), q in zip(eager.named_parameters(), traced.parameters(), strict=True):
        assert torch.equal(p, q), name


WORDS = {
    "bayes_dqn": ["env.id=CartPole-v1", "posterior.draws=3"],
    "ensembles": ["env=cartpole", "posterior=ensemble", "posterior@imagination.posterior=ensemble", "env.num_envs=2"],
    "bayes_ac": ["agent=bayes_ac", "env=pendulum", "posterior.members=3", "agent.actors.hidden=[8]"],
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "bayes_dqn")) for n in WORDS])
def test_twice_as_long_is_resumed_once(name: str, tmp_path: Path) -> None:
    """Resumed between two fits, with half of what is imagined still to be written over."""
    small = ["every=70", "updates=5", "branches=10", "horizon=3", "capacity=60", "network.hidden=[8]"]
    words = [*WORDS[name], "imagination=worlds", *(f"imagination.{word}" for word in small)]
    train(*words, "steps=600", f"run_dir={tmp_path / 'whole'}")
    train(*words, "steps=300", f"run_dir={tmp_path / 'halves'}")
    resume(tmp_path / "halves", "steps=600")
    same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "halves"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")
    assert any(key.startswith("model/") and text for key, text in metrics(tmp_path / "whole")[-1].items())


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        (DISCRETE._replace(masked=True), {}, "wanted ones that allow all"),
        (EnvSpec((8, 8, 1), torch.uint8, 3), {}, "wanted a vector of numbers"),
        (DISCRETE, {"share": 1.0}, "wanted a share between 0 and 1"),
        (DISCRETE, {"branches": 100, "horizon": 5, "capacity": 499}, "wanted at least 500"),
    ],
)
def test_what_cannot_be_imagined_is_told_with_the_remedy(spec: EnvSpec, options: dict, said: str) -> None:
    shape, outputs = signature(DISCRETE)
    world = Hypermodel(mlp(shape, outputs, size=2, hidden=[8]), likelihood=WithFlag(Heteroscedastic()))
    values = Hypermodel(mlp((D,), 3, hidden=[8]))
    with pytest.raises(ValueError, match=said):
        Imagination(spec, values, 2, 0.99, world, **options)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["imagination=worlds", "imagination.evry=3"], "did you mean every"),
        (["imagination.every=3"], "choose one of its group"),
        (["imagination=worlds", "imagination.posterior.draws=a"], "imagination.posterior.draws='a', wanted an integer"),
    ],
)
def test_settings_are_checked_as_those_of_other_parts(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["agent=psrl", "env=pendulum"], "agent=bayes_dqn or agent=bayes_ac"),
        (["network=gru"], "a history of"),
        (["env=catch"], "leave imagination out"),
    ],
)
def test_a_command_s_user_sees_one_sentence(words: list[str], said: str, tmp_path: Path, capsys) -> None:
    from bayesrl.train import main

    with contextlib.suppress(SystemExit):
        given = [word for word in TINY if not ("gru" in words[0] and word.startswith("network"))]
        code = main([*given[-6:], *words, "imagination=worlds", "steps=50", f"run_dir={tmp_path / 'run'}"])
        assert code == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told
