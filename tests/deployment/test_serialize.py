"""An exported decision is the agent's: the same actions and values, of every posterior, on inputs of every kind."""

from pathlib import Path

import numpy as np
import pytest
import torch

import bayesrl
from bayesrl import export
from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.agents.uniform import Uniform
from bayesrl.deployment import serialize as graph
from bayesrl.deployment.serialize import ExportError, compared, decision, examples, write
from bayesrl.likelihoods import Categorical, Histogram
from bayesrl.networks import cnn, mlp, recurrent
from bayesrl.posteriors import (
    SGMCMC,
    ConcreteDropout,
    Dropout,
    Ensemble,
    FullRank,
    Hypermodel,
    Laplace,
    LaplaceDiagonal,
    LastLayer,
    LowRank,
    MeanField,
    Point,
)
from bayesrl.rl.types import EnvSpec
from support.runs import TINY, train

SPEC = EnvSpec((4,), torch.float32, 3)
POSTERIORS = [
    ConcreteDropout, Dropout, Ensemble, FullRank, Hypermodel, Laplace, LastLayer, LowRank, MeanField, Point,
    SGMCMC,
]  # fmt: skip
KINDS = {
    "masked": (EnvSpec((4,), torch.float32, 3, masked=True), lambda s, n: mlp(s, n, hidden=[8], prior=[4])),
    "indices": (
        EnvSpec((2,), torch.int64, 3, categories=6), lambda s, n: mlp(s, n, categories=6, hidden=[8], prior=[4]),
    ),
    "images": (EnvSpec((6, 6, 1), torch.uint8, 3), lambda s, n: cnn(s, n, hidden=[8], prior=[4])),
    "windows": (SPEC, lambda s, n: recurrent(s, n, history=4, units=6, hidden=[8], prior=[4])),
}  # fmt: skip


def agent_of(spec: EnvSpec, posterior) -> BayesDQN:
    torch.manual_seed(0)
    agent = BayesDQN(spec, posterior, capacity=100)
    agent.normalizer.scale.fill_(7.0)
    if spec.dtype == torch.float32:
        agent.normalizer.shift.copy_(torch.arange(4.0))
        agent.normalizer.gain.copy_(torch.tensor([0.1, 1.0, 3.0, 10.0]))
    return agent


@pytest.mark.parametrize("make", [Hypermodel, Ensemble, LastLayer, Dropout, MeanField, LaplaceDiagonal])
def test_the_mean_acts_as_in_evaluation(make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    agent, path = agent_of(SPEC, make(mlp((4,), 3, hidden=[8], prior=[4]))), tmp_path / "policy.pt2"
    assert write(agent, SPEC, path, "torch").error < 1e-3
    obs = torch.randn(5, 4) * 3
    action, _ = torch.export.load(path).module()(obs)
    assert torch.equal(action, agent.greedy(obs))


@pytest.mark.parametrize("make", POSTERIORS, ids=lambda make: make.__name__)
def test_draws_are_the_functions_of_their_indices(make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    agent, path = agent_of(SPEC, make(mlp((4,), 3, hidden=[8], prior=[4]))), tmp_path / "policy.pt2"
    obs = torch.randn(5, 4) * 3
    assert write(agent, SPEC, path, "torch", draws=3, seed=1).observations == 256
    action, q = torch.export.load(path).module()(obs)
    z = agent.posterior.index(3, torch.Generator().manual_seed(1))
    wanted = agent.posterior.expected(z, agent.normalizer.obs(obs)) * 7
    torch.testing.assert_close(q, wanted, rtol=1e-4, atol=1e-4)
    assert action.shape == (3, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec, network = KINDS[kind]
    agent = agent_of(spec, Hypermodel(network(spec.shape, 3), draws=3))
    assert write(agent, spec, tmp_path / "policy.pt2", "torch").error < 1e-2
    obs = examples(spec, agent.normalizer, agent.history, 9)
    mask = torch.rand(9, 3) < 0.5
    mask[:, 0] |= ~mask.any(1)
    given = (obs, mask) if spec.masked else (obs,)
    action, _ = torch.export.load(tmp_path / "policy.pt2").module()(*given)
    assert torch.equal(action, agent.greedy(*given))


@pytest.mark.parametrize("draws", [0, 2])
def test_onnx(draws: int, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    spec, network = KINDS["masked"]
    agent = agent_of(spec, Hypermodel(network(spec.shape, 3), draws=3))
    write(agent, spec, tmp_path / "policy.onnx", "onnx", draws)
    session = onnxruntime.InferenceSession(str(tmp_path / "policy.onnx"))
    assert [value.name for value in session.get_inputs()] == ["obs", "mask"]
    obs, mask = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32), np.eye(3, dtype=bool)[np.arange(7) % 3]
    action, q = session.run(None, {"obs": obs, "mask": mask})
    assert (action == np.arange(7) % 3).all() and q.shape == ((2, 7, 3) if draws else (7, 3))


def test_a_distributional_likelihood(tmp_path: Path) -> None:
    """Its expected value is not linear in the output: the mean is that of draws."""
    torch.manual_seed(0)
    likelihood = Histogram(bins=11)
    agent = agent_of(SPEC, Hypermodel(mlp((4,), 3, size=likelihood.size, hidden=[8]), draws=3, likelihood=likelihood))
    assert write(agent, SPEC, tmp_path / "policy.pt2", "torch").error < 1e-2
    assert not Categorical(3).linear


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    class Odd(torch.nn.Linear):
        features = 4

        def forward(self, x):
            return super().forward(x) * float(x.sum())  # looks at the data

    torch.manual_seed(0)
    agent = agent_of(SPEC, Point(bayesrl.networks.network.Network(Odd(4, 4), 3)))
    with pytest.raises(ExportError, match=r"got the network, which cannot be written as torch \(.+\), wanted"):
        write(agent, SPEC, tmp_path / "policy.pt2", "torch")
    linear = agent_of(SPEC, LaplaceDiagonal(mlp((4,), 3, hidden=[8], prior=[4])))  # draws by reverse mode
    with pytest.raises(ExportError, match="got the posterior LaplaceDiagonal"):
        write(linear, SPEC, tmp_path / "policy.pt2", "torch", draws=2)
    with pytest.raises(ExportError, match="got Uniform"):
        write(Uniform(SPEC), SPEC, tmp_path / "policy.pt2", "torch")
    assert not [*tmp_path.iterdir()]


def test_a_file_that_acts_otherwise_is_refused() -> None:
    torch.manual_seed(0)
    agent = agent_of(SPEC, Point(mlp((4,), 3, hidden=[8])))
    model = decision(agent, SPEC)
    obs = examples(SPEC, agent.normalizer, 1, 64)
    action, q = model(obs)
    assert compared(model, model, (obs,)).error == 0
    with pytest.raises(ExportError, match="acts otherwise at"):
        compared(model, lambda obs: ((action + 1)[: len(obs)] % 3, q[: len(obs)]), (obs,))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    train("steps=100", f"run_dir={run}", *TINY)
    assert export.main([f"run={run}", "format=torch"]) == 0
    told = capsys.readouterr().out
    assert "policy.pt2" in told and "the same actions at 256 observations" in told
    obs = torch.randn(20, 4)
    assert torch.export.load(run / "policy.pt2").module()(obs)[0].tolist() == bayesrl.load(run)(obs)[0].tolist()
    assert export.main([f"run={run}", "format=torch", "draws=1", "seed=5", f"out={tmp_path / 'a' / 'one.pt2'}"]) == 0
    action, _ = torch.export.load(tmp_path / "a" / "one.pt2").module()(obs)
    assert action[0].tolist() == bayesrl.load(run).draw(5)(obs)[0].tolist()


@pytest.mark.parametrize("words", [[], ["format=torch"], ["run=nowhere", "format=torch"], ["format=h5"], ["draws=-1"]])
def test_bad_words(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert export.main(words) == 2
    assert not words or capsys.readouterr().err.startswith("error: got")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    assert export.main(["run=nowhere"]) == 2
    assert "bayesrl[onnx]" in capsys.readouterr().err
    assert set(graph.FORMS) == {"onnx", "torch"}
