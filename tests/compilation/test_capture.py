"""Captured and eager functions agree, including fresh noise at each call; capturing changes nothing but speed."""

import copy
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.compilation import capture as module
from bayesrl.compilation.capture import CapturedGraph, capture, cuda_graph
from bayesrl.networks import mlp
from bayesrl.posteriors import (
    SGMCMC,
    ConcreteDropout,
    Dropout,
    Ensemble,
    FullRank,
    Hypermodel,
    LaplaceDiagonal,
    LastLayer,
    Learner,
    LowRank,
    MeanField,
    Point,
)
from bayesrl.rl.exploration import EpsilonGreedy, OptimisticIndexSampling
from bayesrl.rl.types import EnvSpec, Transition

POSTERIORS: dict[str, Callable[..., Learner]] = {
    "point": Point, "hypermodel": Hypermodel, "linear hypermodel": partial(Hypermodel, noise=0.0, temperature=0.0),
    "mean_field": MeanField, "low_rank": LowRank, "full_rank": partial(FullRank, cover="head"), "dropout": Dropout,
    "concrete_dropout": ConcreteDropout, "ensemble": partial(Ensemble, members=3), "last_layer": LastLayer,
    "laplace": LaplaceDiagonal, "sgmcmc": SGMCMC,
}  # fmt: skip


def filled(make: Callable[..., Learner], masked: bool = False, batch: int = 16, **parts: object) -> BayesDQN:
    """An agent of two environments with 60 random transitions in memory."""
    torch.manual_seed(0)
    spec = EnvSpec((3,), torch.float32, 2, 2, masked=masked)
    agent = BayesDQN(spec, make(mlp((3,), 2, hidden=[16])), capacity=100, batch_size=batch, learning_starts=1, **parts)  # type: ignore[arg-type]
    false = torch.zeros(2, dtype=torch.bool)
    for i in range(30):
        agent.observe(
            Transition(
                torch.randn(2, 3), torch.tensor([0, 1]), torch.randn(2), false, torch.tensor([i % 9 == 8, False]),
                torch.randn(2, 3), ~false, torch.ones(2, 2, dtype=torch.bool) if masked else None,
            )
        )  # fmt: skip
    return agent


def twins(agent: BayesDQN) -> tuple[BayesDQN, BayesDQN]:
    other = copy.deepcopy(agent)
    other.step, other.choose = other.update, other.decide
    return agent, other


def run(agent: BayesDQN, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Ten steps, each with draws of its own: losses, and the actions between them."""
    torch.manual_seed(seed)
    losses, actions = [], []
    for i in range(10):
        actions.append(agent.act(torch.randn(2, 3), torch.tensor([i % 3 == 0, i % 4 == 0])))
        losses.append(agent.learn()["loss"])
    return torch.stack(losses), torch.stack(actions)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_traced_update_is_the_eager_one(posterior: str) -> None:
    """Bit for bit, of posteriors that draw noise of their own too; tracing leaves the agent as it was."""
    eager, traced = twins(filled(POSTERIORS[posterior]))
    before = copy.deepcopy(traced.posterior.state_dict())
    index, z = traced.replay.index(16), traced.posterior.index(traced.posterior.draws)
    traced.step = CapturedGraph(traced.update, traced, index, z)
    assert all(torch.equal(before[name], p) for name, p in traced.posterior.named_parameters())
    (losses, _), (again, _) = run(eager), run(traced)
    assert torch.equal(losses, again) and len(set(losses.tolist())) == 10
    for (name, p), q in zip(eager.named_parameters(), traced.named_parameters(), strict=True):
        assert torch.equal(p, q[1]), name


def test_the_compiled_agent_agrees_with_eager() -> None:
    """Every parameter within 1e-6 after ten updates; the same from a state put back in place, bit for bit."""
    eager, compiled = twins(filled(Hypermodel))
    said: list[str] = []
    assert compiled.capture(say=said.append) == (True, True)
    assert [line.split(",")[0] for line in said] == ["compiling the update", "compiling acting"]
    begin = copy.deepcopy(compiled.state_dict())
    (losses, actions), (again, same) = run(eager), run(compiled)
    torch.testing.assert_close(losses, again, rtol=1e-4, atol=0)
    assert torch.equal(actions, same) and len(set(again.tolist())) == 10
    for (name, p), q in zip(eager.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=0, msg=name)
    compiled.load_state_dict(begin)
    assert torch.equal(run(compiled)[0], again)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("exploration", [EpsilonGreedy, OptimisticIndexSampling])
def test_traced_acting_is_eager_acting(exploration: Callable, masked: bool) -> None:
    agent = filled(Hypermodel, masked, exploration=exploration())
    obs, mask = torch.randn(2, 3), torch.tensor([[True, False], [True, True]])
    noise = agent.exploration.noise(agent.posterior, torch.ones(2, dtype=torch.bool))
    given = (*noise, mask) if masked else noise
    traced = CapturedGraph(agent.decide, agent, obs, *given)
    assert torch.equal(traced(obs, *given), agent.decide(obs, *given))


class Counter(nn.Module):
    """A state that calls change, and which two reads of equal look surround."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        before = self.count * 2
        self.count.add_(x)
        return torch.cat([before, self.count * 2])


def test_what_looks_equal_before_and_after_a_write_is_not_merged() -> None:
    counter = Counter()
    call = CapturedGraph(counter.forward, counter, torch.ones(1))
    assert [call(torch.ones(1)).tolist() for _ in range(2)] == [[0, 2], [2, 4]]
    assert counter.count == 2


def test_what_cannot_be_traced_stays_eager_and_as_it_was() -> None:
    counter, said = Counter(), list[str]()

    def branching(x: Tensor) -> Tensor:
        return counter(x) if counter(x).sum() > 0 else x

    assert capture(branching, counter, torch.ones(1), name="branching", say=said.append) is branching
    assert counter.count == 0 and said[0].startswith("going on without capture of branching")


def test_draws_that_look_equal_are_not_merged() -> None:
    call = CapturedGraph(lambda x: torch.randn_like(x) - torch.randn_like(x), nn.Module(), torch.ones(3))
    assert call(torch.ones(3)).all()


def test_equal_parts_of_learner_and_target_are_computed_once() -> None:
    """Prior functions and heads that are asked twice: of the update's 20 products, 4 go."""
    agent = filled(Hypermodel)
    index, z = agent.replay.index(16), agent.posterior.index(20)
    graphs = []
    for shared in (True, False):
        if not shared:
            agent.target.prior_theta = agent.target.prior_theta.clone()
        nodes = CapturedGraph(agent.update, agent, index, z).graph.graph.nodes
        graphs.append(sum("mm" in str(node.target) for node in nodes))
    assert graphs[1] - graphs[0] == 4


def test_few_calls_stay_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled if all calls take less time than compiling, or save less than it takes."""
    agent, said = filled(Point), list[str]()
    assert agent.capture(updates=10, say=said.append) == (False, False)
    assert agent.step == agent.update
    monkeypatch.setattr(module, "MIN_COMPILE_SECONDS", 0.0)
    monkeypatch.setattr(CapturedGraph, "cost", lambda self: 1e9)
    assert agent.capture(updates=10, say=said.append) == (False, False)
    assert agent.step == agent.update and not said


def test_without_a_compiler_it_goes_on_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, said = filled(Point), list[str]()
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/c++"), "fx_graph_cache": False}):
        assert agent.capture(say=said.append) == (False, False)
    assert [line.split(":")[0] for line in said if "without" in line] == ["going on without capture of the update"]
    agent.learn()


def test_an_optimizer_that_makes_its_state_anew_is_not_captured() -> None:
    """Its graph would write where nobody reads after a resumption."""
    posterior = partial(Point, optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    agent, said = filled(posterior), list[str]()
    assert agent.capture(say=said.append) == (False, False)
    assert "wanted it written in place" in said[0]


class Tape:
    """A stand-in for torch.cuda on a CPU: a graph that runs the calls made while it was recorded."""

    current_stream = Stream = staticmethod(lambda: Tape())
    CUDAGraph = staticmethod(lambda: Tape())

    def wait_stream(self, stream: object) -> None:
        pass

    @staticmethod
    @contextmanager
    def stream(stream: object):
        yield

    graph = stream


def test_a_cuda_graph_is_given_new_arguments_and_keeps_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("current_stream", "Stream", "CUDAGraph", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(Tape, name))
    state, out = torch.zeros(1), torch.zeros(1)

    def function(x: Tensor, total: Tensor) -> Tensor:
        Tape.replay = lambda self: out.copy_(total.add_(x))  # type: ignore[attr-defined]
        return out

    call = cuda_graph(function, [torch.ones(1), state], 1)
    assert [float(call(torch.tensor([x]), state)) for x in (1.0, 2.0)] == [1.0, 3.0]
