"""A run directory of version 0.1.0 opens for every command that reads runs, and is refused where training would go on.

The three runs in tests/data were written by version 0.1.0 and are never written anew. Whoever renames a class or a
function that a `_target_` may name, a key of the configuration, or an attribute whose name is in an agent's
`state_dict()` or in the replay adds a line to the tables of `bayesrl/experiment/legacy.py`, so that these tests pass.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import bayesrl
from bayesrl import evaluate, explain, export, report, train, watch
from bayesrl.experiment import legacy

AGENTS = ("bayes_dqn", "bayes_ac", "psrl")
WARNING = "written by version 0.1.0"


def decode(node):
    """Rebuild what a file of a run held from its JSON: tensors, dictionaries with keys of any type, tuples, lists."""
    if isinstance(node, list):
        return [decode(value) for value in node]
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        values = torch.tensor(node["values"], dtype=getattr(torch, node["tensor"]))
        count = int(np.prod(node["shape"]))
        return (values.expand(count) if len(values) == 1 != count else values).reshape(node["shape"]).clone()
    if "tuple" in node:
        return tuple(decode(value) for value in node["tuple"])
    return {decode(key): decode(value) for key, value in node["dict"]}


@pytest.fixture
def old_run(tmp_path: Path):
    def build(agent: str) -> Path:
        files = json.loads((Path(__file__).parent.parent / "data" / f"run_0.1.0_{agent}.json").read_text())
        for name, content in files.items():
            path = tmp_path / agent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".pt":
                torch.save(decode(content), path)
            else:
                path.write_text(content)
        return tmp_path / agent

    return build


@pytest.mark.parametrize("agent", AGENTS)
def test_evaluate(agent: str, old_run, capsys) -> None:
    assert evaluate.main([f"run={old_run(agent)}", "episodes=2", "device=cpu"]) == 0
    out = capsys.readouterr()
    assert "greedy return of 2 episodes" in out.out and out.err.count(WARNING) == 1


def test_evaluation_finds_what_the_old_version_found(old_run, capsys) -> None:
    """The mean of the same two episodes, of the seed that training evaluates with, is 9.0 in its `result.json`."""
    assert evaluate.main([f"run={old_run('bayes_dqn')}", "episodes=2", "seed=10", "device=cpu"]) == 0
    assert "150 transitions: 9 (95 % interval 9 to 9)" in capsys.readouterr().out


@pytest.mark.parametrize("agent", AGENTS)
def test_watch(agent: str, old_run, capsys) -> None:
    words = [f"run={old_run(agent)}", "mode=terminal", "steps=3", "device=cpu"]
    assert watch.main(words) == 0
    assert capsys.readouterr().err.count(WARNING) == 1


@pytest.mark.parametrize("agent", AGENTS)
def test_load(agent: str, old_run, capsys) -> None:
    policy = bayesrl.load(old_run(agent))
    obs = np.zeros(policy.spec.shape, np.float32)
    action, uncertainty = policy(obs)
    assert np.isfinite(np.asarray(action)).all()
    assert np.isfinite(uncertainty) == (agent != "psrl")  # planners have none
    assert capsys.readouterr().err.count(WARNING) == 1


@pytest.mark.parametrize("agent", AGENTS)
def test_explain(agent: str, old_run, capsys) -> None:
    """Only Q of discrete actions is explained."""
    run = old_run(agent)
    code = explain.main([f"run={run}", "states=8", "draws=4", "device=cpu"])
    out = capsys.readouterr()
    assert out.err.count(WARNING) == 1
    if agent != "bayes_dqn":
        assert code == 2 and out.err.count("error: ") == 1
    else:
        assert code == 0 and (run / "explain" / "relevance.svg").is_file()


@pytest.mark.parametrize("form", ["torch", "onnx"])
@pytest.mark.parametrize("agent", AGENTS)
def test_export(agent: str, form: str, old_run, capsys) -> None:
    """Only agents that compare discrete actions are exported, as in version 0.1.0."""
    if form == "onnx" and not importlib.util.find_spec("onnxscript"):
        pytest.skip("onnx is not installed")
    code = export.main([f"run={old_run(agent)}", f"format={form}"])
    out = capsys.readouterr()
    assert code == (0 if agent == "bayes_dqn" else 2) and out.err.count(WARNING) == 1


def test_report(old_run, capsys) -> None:
    runs = [str(old_run(agent)) for agent in ("bayes_dqn", "bayes_ac", "psrl")]
    assert report.main([*runs, f"out={Path(runs[0]).parent / 'report'}"]) == 0
    out = capsys.readouterr()
    assert "left out" not in out.out and out.err.count(WARNING) == 3


@pytest.mark.parametrize("agent", AGENTS)
def test_resume_is_refused_in_one_sentence(agent: str, old_run, capsys) -> None:
    run = old_run(agent)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert train.main([f"resume={run}", "steps=1000"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "version 0.1.0 wrote" in lines[0] and "start a new run" in lines[0]
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_without_run_json_the_names_tell_the_version(old_run) -> None:
    run = old_run("bayes_dqn")
    (run / "run.json").unlink()
    assert legacy.is_legacy(run)
    translated = legacy.translate_config({"network": {"_target_": "bayesrl.network.mlp"}, "seeds": None})
    assert translated == {"network": {"_target_": "bayesrl.networks.builders.mlp"}}
    assert legacy.translate_target("bayesrl.networks.builders.mlp") == "bayesrl.networks.builders.mlp"


def test_tables_move_settings_with_their_groups_and_whole_names_only(monkeypatch) -> None:
    monkeypatch.setattr(
        legacy, "KEYS", {"tracking": "target_update", "tracking.tau": "target_update.rate", "a.b": None}
    )
    monkeypatch.setattr(legacy, "STATE", {"scaling": "normalizer", "mpc.kept": "mpc.elites"})
    config = {"tracking": {"tau": 0.1, "other": 1}, "a": {"b": 2, "c": 3}}
    assert legacy.translate_config(config) == {"target_update": {"rate": 0.1, "other": 1}, "a": {"c": 3}}
    state = {"agent": {"scaling.mean": 1, "rescaling": 2, "mpc.kept": 3, "kept": 4, "net.scaling": 5}}
    assert legacy.translate_state(state) == {
        "agent": {"normalizer.mean": 1, "rescaling": 2, "mpc.elites": 3, "kept": 4, "net.scaling": 5}
    }
