"""The report of a posterior whose weights are known, and the command from a run to its figures."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from bayesrl import explain
from bayesrl.envs import DeepSea, flatten
from bayesrl.metrics.attribution import Band, Histogram
from bayesrl.networks import cnn, mlp, recurrent
from bayesrl.plotting.canvas import Scale
from bayesrl.plotting.svg import Curve, bars, curves, heat, histograms
from bayesrl.posteriors import Ensemble, Hypermodel, MeanField, Point, Posterior
from bayesrl.priors import ARD
from bayesrl.reporting.explanation import explain as report
from bayesrl.reporting.explanation import feature_names, states
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.train import main
from support.runs import TINY

NAMES = ["seen", "ignored", "also"]


def mean_field(signs=(3.0, 0.0, -1.0), prior=ARD):
    """One hidden layer; the features' weights are `signs` times random ones, and of low noise where they are not 0."""
    torch.manual_seed(0)
    posterior = MeanField(mlp((3,), 2, hidden=[16]), prior=prior)
    with torch.no_grad():
        first = posterior.network.layout.feature
        posterior.mu[first >= 0] = (torch.randn(16, 3) * torch.tensor(signs)).flatten()
        posterior.log_sigma.fill_(math.log(1e-3))
    return posterior


def inputs(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parsed(svg: str) -> list[str]:
    """The texts of a figure, which must be XML with numbers that are finite."""
    assert "nan" not in svg and "inf" not in svg
    return [node.text for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


# --- the report ------------------------------------------------------------------------------------------------------


def test_a_report_ranks_and_tells_all_it_has():
    out = report(mean_field(), inputs(100, 3), NAMES, unit=10.0)
    assert [NAMES[i] for i in out.ranking()] == ["seen", "also", "ignored"]
    assert out.permutation.low[0] > out.permutation.high[2] > out.permutation.low[2] > out.permutation.high[1]
    assert out.gradient.low[2] > out.gradient.high[1]
    assert out.snr[0] > out.snr[2] > 5 * out.snr[1] and out.ard.tolist() == [1, 1, 1]
    assert out.left_out == [] and out.map is None
    same = report(mean_field(), inputs(100, 3), NAMES)
    assert torch.allclose(out.permutation.mean, 10 * same.permutation.mean)
    lines = out.table().splitlines()
    heads = ["feature", "permuted [5 %, 95 %]", "gradient [5 %, 95 %]", "ARD scale", "SNR"]
    places = [lines[0].index(head) for head in heads]
    assert places == sorted(places)
    assert [line.split()[0] for line in lines[1:]] == ["seen", "also", "ignored"]
    assert all(line[at - 1] == " " and line[at] != " " for line in lines for at in places[1:])


def test_the_json_holds_every_number_and_the_figures_are_xml():
    out = report(mean_field(), inputs(100, 3), NAMES)
    told = json.loads(out.json(seed=4), parse_constant=pytest.fail)
    assert told["seed"] == 4 and [part["name"] for part in told["features"]] == ["seen", "also", "ignored"]
    first = told["features"][0]
    assert first["permutation"] == {k: v[0].item() for k, v in out.permutation._asdict().items()}
    assert first["ard"] == 1 and first["snr"] == out.snr[0].item()
    assert told["pruning"]["share"][0] == 0 and told["pruning"]["error"] == out.pruning.error.tolist()
    assert sum(told["layers"]["mean"]["head"]["counts"]) == 2 * 17
    figures = out.figures()
    assert sorted(figures) == ["layers.svg", "pruning.svg", "relevance.svg"]
    texts = {name: parsed(svg) for name, svg in figures.items()}
    assert texts["relevance.svg"][-3:] == ["seen", "also", "ignored"]
    assert {"mean", "log10 sd", "log10 SNR", "head"} <= set(texts["layers.svg"])


def test_what_is_not_there_is_said():
    x = inputs(60, 3)
    plain = report(mean_field(prior=lambda network: ARD(network)), x, NAMES)
    assert plain.left_out == []
    torch.manual_seed(0)
    hypermodel = report(Hypermodel(mlp((3,), 2, hidden=[16])), x, NAMES)
    assert hypermodel.snr is None and hypermodel.pruning is not None and hypermodel.ard is None
    assert "ARD scales left out" in hypermodel.left_out[0] and "SNR of features left out" in hypermodel.left_out[1]
    point = report(Point(mlp((3,), 2, hidden=[16])), x, NAMES)
    assert torch.equal(point.permutation.low, point.permutation.high) and list(point.layers) == ["mean"]
    assert "no width" in point.left_out[0] and "the same in every draw" in point.left_out[2]
    ensemble = report(Ensemble(mlp((3,), 2, hidden=[16])), x, NAMES)
    assert "say little" in ensemble.left_out[1] and "draws are different networks" in ensemble.left_out[1]

    class Functions(Posterior):
        """A posterior of functions without weights."""

        def __init__(self):
            super().__init__()
            self.likelihood = hypermodel_.likelihood

        def index(self, n, generator=None):
            return torch.randn(n, 3, generator=generator)

        def forward(self, z, x):
            return torch.stack([z @ x.T, -z @ x.T], -1)

    hypermodel_ = Hypermodel(mlp((3,), 2, hidden=[16]))
    functions = report(Functions(), x, NAMES)
    assert "Functions has no `weights`" in functions.left_out[1] and functions.layers == {}
    assert sorted(functions.figures()) == ["relevance.svg"]


def test_images_have_channels_and_a_map():
    torch.manual_seed(0)
    posterior = Hypermodel(cnn((6, 5, 2), 3, hidden=[16], prior=[8]))
    out = report(posterior, inputs(20, 6, 5, 2), ["channel 0", "channel 1"], draws=5)
    assert out.permutation.mean.shape == out.gradient.mean.shape == (2,) and out.map.shape == (6, 5)
    assert (out.map > 0).all() and out.map.sum().item() == pytest.approx(30 * out.gradient.mean.sum().item(), rel=1e-4)
    assert len(parsed(out.figures()["map.svg"])) == 1 + 5  # the title, and the numbers of the scale


def test_windows_have_features_and_a_map_over_time():
    torch.manual_seed(0)
    posterior = Hypermodel(recurrent((3,), 2, history=4, units=8, hidden=[8], prior=[4]))
    x = torch.cat([torch.ones(20, 4, 1), inputs(20, 4, 3)], -1)
    out = report(posterior, x, NAMES, draws=5)
    assert out.permutation.mean.shape == out.gradient.mean.shape == (3,) and out.map.shape == (4, 3)
    with pytest.raises(ValueError, match="got windows of indices, wanted single observations"):
        report(posterior, x.long(), NAMES, categories=3)


def test_indices_have_categories():
    torch.manual_seed(0)
    posterior = Hypermodel(mlp((2,), 3, 6, hidden=[16]))
    x = torch.tensor([[0, 3], [1, 6], [0, 4], [1, 3]])
    out = report(posterior, x, list("abcdef"), categories=6, draws=5)
    assert sorted(out.ranking()) == [0, 1, 3, 4] and "gradient left out" in out.left_out[0]
    assert len(out.table().splitlines()) == 5 and len(json.loads(out.json())["features"]) == 4


def test_a_name_for_each_feature():
    with pytest.raises(ValueError, match="got 2 names, wanted 3: one for each feature"):
        report(Point(mlp((3,), 2, hidden=[8])), inputs(9, 3), NAMES[:2])


# --- names and states ------------------------------------------------------------------------------------------------

SPACES = [
    (Box(-1, 1, (2,)), ["0", "1"]),
    (Box(-1, 1, ()), ["0"]),
    (Box(-1, 1, (2, 2)), ["0,0", "0,1", "1,0", "1,1"]),
    (MultiBinary(2), ["0", "1"]),
    (Discrete(3, start=-1), ["-1", "0", "1"]),
    (MultiDiscrete([2, 3]), ["0=0", "0=1", "1=0", "1=1", "1=2"]),
    (DeepSea(2).observation_space, ["0,0", "0,1", "1,0", "1,1"]),
    (Dict(speed=Box(-1, 1, (2,)), fuel=Box(0, 1, (1,))), ["speed[0]", "speed[1]", "fuel"]),
    (Dict(at=Discrete(2), x=Box(0, 1, (1,))), ["at=0", "at=1", "x"]),
    (Tuple([Discrete(2), Dict(a=Discrete(2))]), ["0=0", "0=1", "1.a=0", "1.a=1"]),
]


@pytest.mark.parametrize(("space", "names"), SPACES)
def test_features_are_named_by_their_space(space: Space, names: list[str]):
    assert feature_names(space) == names


def test_images_are_named_by_channel():
    assert feature_names(Box(0, 255, (4, 5, 3), np.uint8)) == ["channel 0", "channel 1", "channel 2"]


def test_names_are_in_the_order_of_flatten():
    space = Dict(b=Box(-9, 9, (2,)), a=MultiDiscrete([2, 3]))
    batch = {"a": np.array([[1, 2]]), "b": np.array([[5.0, 6.0]], np.float32)}
    row = dict(zip(feature_names(space), flatten(space, batch)[0].tolist(), strict=True))
    assert row == {"a[0]=0": 0, "a[0]=1": 1, "a[1]=0": 0, "a[1]=1": 0, "a[1]=2": 1, "b[0]": 5, "b[1]": 6}


def remembering(masked: bool) -> ReplayBuffer:
    """Two environments whose observation is the step's number; odd ones of the second are no transitions."""
    replay = ReplayBuffer(EnvSpec((1,), torch.float32, 2, 2, masked=masked), torch.empty(1, 0), 40, 1, 0.9)
    for t in range(30):
        number, no = torch.full((2, 1), float(t)), torch.zeros(2, dtype=torch.bool)
        ended = torch.tensor([t % 5 == 4, False])
        mask = torch.tensor([[t % 2 == 0, True]] * 2) if masked else None
        valid = torch.tensor([True, t % 2 == 0])
        reward, action = torch.zeros(2), torch.zeros(2, dtype=torch.int64)
        replay.add(Transition(number, action, reward, ended, no, number + 1, valid, mask), torch.empty(2, 0))
    return replay


def test_states_are_remembered_ones_each_once():
    obs, mask = states(remembering(False), 1000, torch.Generator().manual_seed(0))
    assert mask is None and sorted(obs[:, 0].tolist()) == sorted([*range(10, 30), *range(10, 30, 2)])
    few, _ = states(remembering(False), 7, torch.Generator().manual_seed(0))
    assert len(few) == 7


def test_masked_states_come_with_their_masks():
    """Those that a transition leads to, unless it ends the episode."""
    obs, mask = states(remembering(True), 1000, torch.Generator().manual_seed(0))
    wanted = [t + 1 for t in range(10, 30) if t % 5 != 4] + [t + 1 for t in range(10, 30, 2)]
    assert sorted(obs[:, 0].tolist()) == sorted(wanted)
    assert torch.equal(mask[:, 0], obs[:, 0] % 2 == 1)


def test_an_empty_memory_has_no_states():
    replay = ReplayBuffer(EnvSpec((1,), torch.float32, 2), torch.empty(1, 0), 40, 1, 0.9)
    with pytest.raises(ValueError, match="got a replay of 0 states, wanted two or more: train longer"):
        states(replay, 5, torch.Generator())


# --- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 6.3, [0, 2, 4, 6, 8]), (-3, 40, [-10, 0, 10, 20, 30, 40]), (5, 5, None)],
)
def test_scales_have_round_ticks(low, high, ticks):
    scale = Scale(low, high, 100, 0)
    assert ticks is None or scale.ticks() == pytest.approx(ticks)
    assert scale(scale.ticks()[0]) == 100 and scale(scale.ticks()[-1]) == pytest.approx(0)


def test_figures_escape_names_and_leave_out_what_is_not_finite():
    ones = torch.ones(1)
    assert parsed(bars(["<a & b>"], {"t": Band(ones, ones, ones)}))[-1] == "<a & b>"
    line = torch.tensor([1.0, math.nan, math.inf])
    assert parsed(curves(torch.arange(3.0), "x", [Curve("y", {"line": line})]))[-1] == "x"
    empty = Histogram(torch.linspace(0, 1, 3), torch.zeros(2, dtype=torch.int64))
    assert "the same in every draw" in parsed(histograms({"sd": {"head": empty}}))
    assert parsed(heat("map", torch.zeros(2, 3))) == ["map", "0", "0.25", "0.5", "0.75", "1"]


def test_bars_are_as_long_as_their_means():
    svg = bars(["a", "b"], {"t": Band(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.5]), torch.tensor([4.0, 1.5]))})
    boxes = [node.get("width") for node in ElementTree.fromstring(svg) if node.get("fill") == "#4477aa"]
    assert [float(width) for width in boxes] == [160, 80]  # of 320 for 4


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain") / "run"
    words = ["env=noisy_cartpole", "env.kwargs.noise_features=2", "steps=600", f"run_dir={path}"]
    assert main([*TINY, *words]) == 0
    return path


def test_from_a_run_to_its_figures(run: Path, capsys: pytest.CaptureFixture) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    words = [f"run={run}", "states=50", "draws=10", "names=[x,v,angle,spin,n0,n1]"]
    assert explain.main([*words, "episodes=1"]) == 0
    told = capsys.readouterr().out
    assert "bayesrl/NoisyCartPole-v0 at 600 transitions: change of Q" in told
    assert sorted(line.split()[0] for line in told.splitlines()[2:8]) == ["angle", "n0", "n1", "spin", "v", "x"]
    assert f"written to {run / 'explain'}" in told
    made = {path.name: path.read_text() for path in (run / "explain").iterdir()}
    assert sorted(made) == ["explain.json", "layers.svg", "pruning.svg", "relevance.svg"]
    numbers = json.loads(made["explain.json"])
    assert (numbers["transitions"], numbers["states"], len(numbers["features"])) == (600, 50, 6)
    assert len(numbers["pruning"]["return"]) == len(numbers["pruning"]["share"])
    assert {path: path.read_bytes() for path in before} == before
    assert explain.main([*words, f"out={run.parent / 'again'}"]) == 0
    again = json.loads((run.parent / "again" / "explain.json").read_text())
    assert again["features"] == numbers["features"]


def test_a_run_on_indices(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    words = ["env=deep_sea", "env.kwargs.size=4", "steps=100", "posterior=point", f"run_dir={run}"]
    assert main([*TINY, *words]) == 0
    assert explain.main([f"run={run}", "states=50", "draws=2"]) == 0
    told = capsys.readouterr().out
    assert "0,0 " in told and "intervals have no width" in told and "SNR and pruning left out" in told


def test_an_agent_without_posterior(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    assert main(["agent=uniform", "steps=60", "eval.final_episodes=1", f"run_dir={run}"]) == 0
    capsys.readouterr()
    assert explain.main([f"run={run}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: got a run of") and "wanted an agent with a posterior" in error


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["run=nowhere"], "got nowhere, which has no config.yaml"),
        (["states=5"], "got no run, wanted run=RUN_DIR"),
        (["run=.", "steps=3"], "got steps=3, wanted one of run=, states="),
        (["run"], "got run, wanted one of"),
        (["run=.", "states=1"], "got states=1, wanted an integer from 2"),
        (["run=.", "draws=many"], "got draws=many, wanted an integer from 2"),
        (["run=.", f"seed={2**64}"], f"got seed={2**64}, wanted an integer from 0 to"),
        (["run={run}", "names=[x,v]"], "got 2 names, wanted 6, one for each feature: 0, 1, 2, 3, 4, 5"),
        (["run={run}", "device=abacus"], "got device=abacus, wanted auto or one of"),
        (["run={run}", "out={run}/config.yaml"], "wanted to read and write there"),
    ],
)
def test_bad_words(run: Path, words: list[str], error: str, capsys: pytest.CaptureFixture) -> None:
    assert explain.main([word.format(run=run) for word in words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: got") and error in told and len(told.splitlines()) == 1


def test_a_run_without_checkpoint(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    assert explain.main([f"run={tmp_path}"]) == 2
    assert "which has no checkpoint" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture) -> None:
    assert explain.main(["--help"]) == 0
    assert "run=RUN_DIR" in capsys.readouterr().out
    assert explain.main([]) == 2
