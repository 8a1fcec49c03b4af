"""The agent protocol: what every agent answers, and state that is passed instead of kept."""

import ast
from pathlib import Path

import pytest
import torch

from bayesrl.agents.bayes_ac import BayesAC, critic
from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.agents.pets import PETS
from bayesrl.agents.psrl import PSRL
from bayesrl.agents.tabular_psrl import TabularPSRL
from bayesrl.agents.uniform import Uniform
from bayesrl.likelihoods import Heteroscedastic, WithFlag
from bayesrl.networks import mlp, recurrent
from bayesrl.posteriors import Ensemble
from bayesrl.rl.agent import Agent, starts
from bayesrl.rl.types import EnvSpec
from bayesrl.world_models.agent import ModelBasedAgent
from bayesrl.world_models.planners import ImprovedCEM

ROOT = Path(__file__).resolve().parents[2]
VECTOR = EnvSpec((3,), torch.float32, 2, num_envs=2)
CONTINUOUS = VECTOR._replace(bounds=((-1.0, -1.0), (1.0, 1.0)))


def planning(kind: type[PSRL]) -> PSRL:
    shape, outputs = kind.signature(CONTINUOUS)
    posterior = Ensemble(mlp(shape, outputs, size=2, hidden=[8]), members=3, likelihood=WithFlag(Heteroscedastic()))
    return kind(CONTINUOUS, posterior, ImprovedCEM(horizon=3, candidates=8, iterations=1, elites=4))


AGENTS = {
    "bayes_dqn": lambda: BayesDQN(VECTOR, Ensemble(mlp((3,), 2, hidden=[8]), members=3)),
    "bayes_dqn, recurrent": lambda: BayesDQN(
        VECTOR, Ensemble(recurrent((3,), 2, history=3, units=4, hidden=[8]), members=3)
    ),
    "bayes_ac": lambda: BayesAC(CONTINUOUS, Ensemble(mlp(*critic(CONTINUOUS), hidden=[8]), members=3)),
    "psrl": lambda: planning(PSRL),
    "pets": lambda: planning(PETS),
    "tabular_psrl": lambda: TabularPSRL(EnvSpec((1,), torch.int64, 2, num_envs=2, categories=5)),
    "uniform": lambda: Uniform(VECTOR),
}  # fmt: skip


@pytest.fixture(params=AGENTS, ids=str)
def agent(request: pytest.FixtureRequest) -> Agent:
    torch.manual_seed(0)
    return AGENTS[request.param]()


def observations(agent: Agent, E: int = 4) -> torch.Tensor:
    return torch.arange(E)[:, None] if isinstance(agent, TabularPSRL) else torch.randn(E, 3)


def test_predict_touches_no_random_state_and_keeps_nothing(agent: Agent) -> None:
    obs = observations(agent)
    before = torch.get_rng_state()
    action, state = agent.predict(obs)
    agent.predict(obs, state, torch.zeros(4, dtype=torch.bool))
    assert torch.equal(agent.predict(obs)[0], action)
    assert torch.equal(before, torch.get_rng_state())


def test_an_episode_that_starts_forgets_the_state(agent: Agent) -> None:
    obs = observations(agent)
    fresh, _ = agent.predict(obs)
    _, state = agent.predict(obs.flip(0))
    assert torch.equal(agent.predict(obs, state, torch.ones(4, dtype=torch.bool))[0], fresh)


def test_a_sample_keeps_its_draw_until_the_episode_ends(agent: Agent) -> None:
    """Asked again inside the episode, the same function answers the same; equal seeds draw the same."""
    obs, no = observations(agent), torch.zeros(4, dtype=torch.bool)
    one, state = agent.sample(obs, generator=torch.Generator().manual_seed(1))
    assert torch.equal(one, agent.sample(obs, generator=torch.Generator().manual_seed(1))[0])
    if not isinstance(agent, (ModelBasedAgent, Uniform)) and agent.history == 1:  # a search goes on, a window moves
        for _ in range(3):
            again, state = agent.sample(obs, state, no)
            assert torch.equal(again, one)


def test_what_an_agent_cannot_do_is_said(agent: Agent) -> None:
    obs = observations(agent)
    forecast = agent.forecast(agent.inputs(obs), torch.Generator().manual_seed(0))
    assert (forecast is None) == isinstance(agent, (ModelBasedAgent, Uniform))
    assert (agent.evaluate_actions(obs, torch.zeros(4, 2)) is None) == (not isinstance(agent, BayesAC))
    assert agent.can_capture == (not isinstance(agent, (TabularPSRL, Uniform)))
    if not agent.can_capture:
        assert agent.capture() == (False, False)


def test_an_agent_of_ones_own_needs_two_methods() -> None:
    class Zero(Agent):
        def act(self, obs, episode_start, mask=None):
            return torch.zeros(len(obs), dtype=torch.int64)

        def greedy(self, x, mask=None):
            return torch.zeros(len(x), dtype=torch.int64)

    agent, obs = Zero(), torch.randn(3, 2)
    assert agent.predict(obs)[0].tolist() == [0, 0, 0] and agent.predict(obs)[1] is None
    assert agent.replay is None and not agent.ready() and agent.learn() == {}
    with pytest.raises(ValueError, match=r"got deterministic=False of Zero, wanted"):
        agent.sample(obs)


def test_episodes_start_where_there_is_no_state() -> None:
    obs, given = torch.zeros(2, 1), torch.tensor([True, False])
    assert starts(obs, None, None).tolist() == [True, True]
    assert starts(obs, obs, None).tolist() == [False, False]
    assert starts(obs, None, given) is given


def test_no_agent_is_probed() -> None:
    """Nothing asks `hasattr` or `getattr` of an agent."""
    for folder in ("bayesrl", "agents"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    probing = node.func.id in ("hasattr", "getattr") and "agent" in ast.unparse(node.args[0])
                    assert not probing, f"{path}:{node.lineno}"
