"""A result of damaged files says which one."""

from pathlib import Path

import pytest

import bayesrl
from bayesrl.experiment.result import read_metrics
from bayesrl.training.checkpoint import CheckpointError


@pytest.mark.parametrize(("name", "text"), [("result.json", ""), ("metrics.csv", "step,a\n1,x\n")])
def test_a_damaged_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("agent: {}\nsolve: null\nenv: {id: CartPole-v1}\n")
    assert bayesrl.Result(tmp_path).metrics == {}
    (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match=rf"{name}, which is damaged .* restore it"):
        bayesrl.Result(tmp_path)


def test_a_tag_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,eval/mean_reward\n100,3.5\n")
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert metrics["eval/mean_reward"].values.tolist() == [3.5]
    with pytest.raises(KeyError, match="did you mean eval/mean_reward"):
        metrics["eval/mean_rewrd"]
