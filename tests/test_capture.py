"""Captured and eager updates agree, including fresh noise at each call."""

import copy

import pytest
import torch

from bayesrl.agent import EnvSpec, Transition
from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.network import mlp
from bayesrl.posteriors import Hypermodel, Learner, Point


def filled(posterior: Learner) -> BayesDQN:
    """An agent with 60 random transitions in memory."""
    agent = BayesDQN(EnvSpec((3,), torch.float32, 2), posterior, capacity=100, batch_size=16, learning_starts=1)
    false = torch.zeros(1, dtype=torch.bool)
    for i in range(60):
        agent.observe(
            Transition(
                torch.randn(1, 3), torch.tensor([i % 2]), torch.randn(1), false, torch.tensor([i % 9 == 8]),
                torch.randn(1, 3), ~false,
            )
        )  # fmt: skip
    return agent


@pytest.mark.parametrize("make", [Point, Hypermodel], ids=["point", "hypermodel"])
def test_captured_update_agrees_with_eager(make: type[Learner]) -> None:
    """Ten updates, each with its own batch and index: every parameter within 1e-6."""
    torch.manual_seed(0)
    eager = filled(make(mlp((3,), 2, hidden=[16])))  # type: ignore[call-arg]
    captured = copy.deepcopy(eager)
    captured.step = captured.update
    captured.capture()
    eager.step = eager.update
    state = torch.get_rng_state()
    losses = [eager.learn()["loss"] for _ in range(10)]
    torch.set_rng_state(state)
    again = [captured.learn()["loss"] for _ in range(10)]
    assert captured.step.compiled is not captured.update, "capture fell back to eager"  # type: ignore[union-attr]
    assert torch.allclose(torch.stack(losses), torch.stack(again), rtol=1e-4)
    assert len({float(loss) for loss in again}) == 10
    for (name, p), q in zip(eager.named_parameters(), captured.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6), name
