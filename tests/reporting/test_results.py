"""Runs are found, read, or named with the reason why not; and grouped by what differs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from benchmarks.report_scale import make

from bayesrl.experiment.run_directory import locked
from bayesrl.reporting.results import RunRecord, SkipError, by_difference, by_environment, distinct, find, read

TAG = "eval/mean_reward"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make(tmp_path / "run", "point", 3, 20)
    return tmp_path / "run"


def why(path: Path) -> str:
    with pytest.raises(SkipError) as caught:
        read(path, [TAG])
    return str(caught.value)


def test_a_run_is_read(run: Path) -> None:
    record = read(run, [TAG, "uncertainty/posterior_kl", "no/such_tag"])
    assert (record.config["seed"], record.config["env.id"]) == (3, "MountainCar-v0")
    assert record.words == {"posterior": "point", "seed": "3"}
    steps, values = record.curve(TAG)
    assert steps.tolist() == [100.0 * (i + 1) for i in range(20)] and len(values) == 20
    last = (run / "metrics.csv").read_text().splitlines()[-1].split(",")
    names = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert values[-1] == float(last[names.index(TAG)]) == record.result["eval_return_mean"]
    for tag in ("uncertainty/posterior_kl", "no/such_tag"):  # empty in every row, and no column
        assert [len(part) for part in record.curve(tag)] == [0, 0]


def test_runs_are_found_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a"):
        make(tmp_path / name, "point", 0, 2)
    (tmp_path / "never").mkdir()
    (tmp_path / "never" / "log.txt").write_text("error: got x\n")
    (tmp_path / "a" / "deeper").mkdir()
    (tmp_path / "a" / "deeper" / "config.yaml").write_text("")
    assert find([tmp_path]) == [tmp_path / name for name in ("a", "b/1", "b/2", "never")]
    assert find([tmp_path / "b", tmp_path / "b" / "1", tmp_path / "x"]) == [tmp_path / n for n in ("b/1", "b/2", "x")]


def test_a_running_run_is_named_until_it_ends(run: Path) -> None:
    with locked(run, new=False):
        assert why(run) == "it is still running"
    read(run, [TAG])


def rewrite(name: str, text: str | None):
    def change(run: Path) -> None:
        (run / name).unlink() if text is None else (run / name).write_text(text)

    return change


def cut(name: str, end: int):
    return lambda run: (run / name).write_text((run / name).read_text()[:end])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rewrite("config.yaml", None), "it holds no run, or one that never began"),
        (rewrite("config.yaml", ""), "its config.yaml is empty"),
        (rewrite("config.yaml", "a: ["), "its config.yaml is cut short"),
        (rewrite("config.yaml", "steps: 3\n"), "its config.yaml is cut short"),
        (rewrite("config.yaml", "steps"), "its config.yaml is cut short"),
        (rewrite("metrics.csv", None), "it has no metrics.csv"),
        (rewrite("metrics.csv", "\n"), "its metrics.csv is empty"),
        (rewrite("metrics.csv", f"step,{TAG}\n"), "its metrics.csv has no rows yet"),
        (rewrite("metrics.csv", f"step,{TAG}\n1,x\n"), "its metrics.csv holds what is no number"),
        (rewrite("metrics.csv", f"{TAG}\n1\n"), "its metrics.csv is cut short"),
        (cut("metrics.csv", -1), "its metrics.csv is cut short"),
        (cut("metrics.csv", -30), "its metrics.csv is cut short"),
        (rewrite("result.json", None), "it stopped at 2,000 of 2,000 transitions: go on with resume="),
        (rewrite("result.json", '{"eval_return_mean": null}'), "it stopped at 2,000 of 2,000 transitions: go on with"),
        (cut("result.json", 20), "its result.json is cut short"),
        (rewrite("result.json", "3"), "its result.json is cut short"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_named(change, reason: str, run: Path) -> None:
    change(run)
    assert why(run).startswith(reason)


def test_what_is_not_there_or_not_readable(tmp_path: Path) -> None:
    assert why(tmp_path / "nowhere") == "there is no such directory"
    os.mkdir(tmp_path / "config.yaml")
    assert why(tmp_path) == "config.yaml cannot be read: Is a directory"


def record(name: str, words: str = "", **config) -> RunRecord:
    base = {
        "seed": 0, "steps": 9, "env.id": "A", "env.kwargs.size": 5, "env.vectorization": "sync", "device": "cpu",
        "run_dir": name, "log.every": 1, "agent._target_": "x.BayesDQN", "posterior._target_": "x.Hypermodel",
        "posterior.noise": 0.05,
    }  # fmt: skip
    config = {key.replace("__", "."): value for key, value in config.items()}
    said = dict(word.split("=") for word in words.split())
    return RunRecord(Path(name), base | config, said, {}, {"step": np.empty(0)})


def grouped(*runs: RunRecord) -> dict[str, list[str]]:
    return {label: [str(run) for run in group] for label, group in by_difference(runs).items()}


def test_groups_are_named_by_the_first_differences_that_tell_them_apart() -> None:
    # By what the command chose, else by class; what does not change a result makes no group.
    assert grouped(
        record("a", "posterior=linear_hypermodel", posterior__noise=0),
        record("b", seed=1),
        record("c", "posterior=linear_hypermodel", posterior__noise=0, seed=2, capture=True, log__every=7),
        record("d", "posterior=ensemble", posterior___target_="x.Ensemble", posterior__members=3),
    ) == {"linear_hypermodel": ["a", "c"], "Hypermodel": ["b"], "ensemble": ["d"]}
    # By settings where options do not suffice, and by as few as possible.
    assert grouped(record("a"), record("b", posterior__noise=0.1, steps=10), record("c", seed=4)) == {
        "steps=9": ["a", "c"],
        "steps=10": ["b"],
    }
    assert list(grouped(
        record("a", posterior__noise=None), record("b", "posterior=e", posterior___target_="x.E"),
        record("c", posterior__noise=True),
    )) == ["Hypermodel, noise=null", "e, noise=0.05", "Hypermodel, noise=true"]  # fmt: skip
    assert grouped(record("a"), record("b", seed=1)) == {"Hypermodel": ["a", "b"]}


def test_environments_are_told_apart_by_id_and_arguments() -> None:
    runs = [record("a"), record("b", env__id="B"), record("c", env__kwargs__size=10), record("d", seed=1)]
    assert {label: [str(run) for run in group] for label, group in by_environment(runs).items()} == {
        "A, size=5": ["a", "d"], "B, size=5": ["b"], "A, size=10": ["c"],
    }  # fmt: skip
    assert list(by_environment(runs[:2])) == ["A", "B"]


def test_a_run_of_an_earlier_version_makes_no_group_of_its_own(run: Path) -> None:
    make(run.parent / "old", "point", 4, 20)
    text = (run.parent / "old" / "config.yaml").read_text()
    assert "\nreplay_ratio: 1.0\n" in text
    (run.parent / "old" / "config.yaml").write_text(text.replace("\nreplay_ratio: 1.0\n", "\n"))
    assert list(by_difference([read(run, []), read(run.parent / "old", [])])) == ["point"]


def test_a_repeated_run_counts_once() -> None:
    runs = [record("a"), record("b", seed=1), record("c", device="cuda", env__vectorization="async")]
    kept, again = distinct(runs)
    assert [str(run) for run in kept] == ["a", "b"]
    assert again == [(Path("c"), "it has the configuration and the seed of a")]


def test_configurations_round_trip(run: Path) -> None:
    assert (
        yaml.safe_load((run / "config.yaml").read_text())["agent"]["discount"] == read(run, []).config["agent.discount"]
    )
    assert json.loads((run / "result.json").read_text())["steps"] == 2000
