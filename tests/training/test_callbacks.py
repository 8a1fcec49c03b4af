"""Callbacks see what happens when it happens, may end a run, and lose nothing where they fail."""

import json
import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bayesrl
from bayesrl.train import main
from bayesrl.training.callbacks import EvaluationContext
from bayesrl.training.evaluation import Evaluation
from support.python_api import SETTINGS, WORDS
from support.runs import TINY, metrics

HOOKS = ("on_step", "on_episode", "on_evaluation", "on_checkpoint")


class Recorder(bayesrl.Callback):
    """Keeps every context; stops at, or fails at, the first of a hook's that comes at `at` steps or later."""

    def __init__(self, hook: str = "", at: int = 0, fails: bool = False) -> None:
        self.hook, self.at, self.fails, self.closed = hook, at, fails, 0
        self.seen = {name: [] for name in HOOKS}

    def _see(self, name: str, context) -> bool | None:
        self.seen[name].append(context)
        if name == self.hook and context.steps >= self.at:
            if self.fails:
                raise KeyError("lost")
            return False
        return None

    def on_step(self, context):
        return self._see("on_step", context)

    def on_episode(self, context):
        return self._see("on_episode", context)

    def on_evaluation(self, context):
        return self._see("on_evaluation", context)

    def on_checkpoint(self, context):
        return self._see("on_checkpoint", context)

    def close(self):
        self.closed += 1


def train(run_dir: Path, *callbacks: bayesrl.Callback, **named) -> bayesrl.Result:
    made = bayesrl.Trainer("CartPole-v1", settings=SETTINGS, run_dir=run_dir, callbacks=callbacks, **(WORDS | named))
    return made.train(progress=False)


def test_everything_is_seen_and_nothing_is_changed(tmp_path: Path) -> None:
    recorder = Recorder()
    result = train(tmp_path / "watched", recorder)
    train(tmp_path / "alone")
    assert metrics(tmp_path / "watched") == metrics(tmp_path / "alone")
    steps = {name: [context.steps for context in seen] for name, seen in recorder.seen.items()}
    assert sorted(set(steps["on_step"])) == [*range(1, 401)]
    assert steps["on_checkpoint"] == [200, 400] and steps["on_evaluation"] == [200, 400, 400]  # the last is final
    assert len(steps["on_episode"]) == result.summary["episodes"]
    returns = [context.episode.ret for context in recorder.seen["on_episode"]]
    assert sum(returns[-100:]) / len(returns[-100:]) == result.metrics["rollout/ep_rew_mean"].values[-1]
    first = recorder.seen["on_evaluation"][0]
    assert first.metrics["eval/mean_reward"] == first.evaluation.mean == result.metrics["eval/mean_reward"].values[0]
    assert recorder.seen["on_step"][0].metrics == {} and recorder.seen["on_checkpoint"][0].path.exists()
    assert first.agent is recorder.seen["on_step"][0].agent and recorder.closed == 1


@pytest.mark.parametrize(
    ("hook", "steps"), [("on_step", 150), ("on_episode", 150), ("on_evaluation", 200), ("on_checkpoint", 200)]
)
def test_any_of_them_ends_the_run(hook: str, steps: int, tmp_path: Path) -> None:
    recorder = Recorder(hook, at=150)
    result = train(tmp_path / "run", recorder)
    assert result.summary["stopped_by"] == "Recorder" and result.summary["eval_return_mean"] is not None
    assert recorder.seen[hook][-1 if hook != "on_evaluation" else 0].steps == result.summary["steps"] >= steps
    assert result.summary["steps"] < 400 and result.interrupted is None
    assert (
        bayesrl.Trainer.resume(tmp_path / "run", callbacks=[Recorder()]).train(progress=False).summary["steps"] == 400
    )


@pytest.mark.parametrize("hook", HOOKS)
def test_where_one_fails_the_run_is_saved_and_the_error_reaches_the_caller(hook: str, tmp_path: Path) -> None:
    recorder = Recorder(hook, at=150, fails=True)
    with pytest.raises(KeyError, match="lost") as caught:
        train(tmp_path / "run", recorder)
    steps = recorder.seen[hook][-1].steps
    assert f"saved at {steps:,} transitions" in caught.value.__notes__[0] and recorder.closed == 1
    assert (tmp_path / "run" / "checkpoints" / f"{steps:012d}.pt").exists()
    bayesrl.Trainer.resume(tmp_path / "run", callbacks=[Recorder()]).train(progress=False)
    train(tmp_path / "whole")
    assert metrics(tmp_path / "run")[-1] == metrics(tmp_path / "whole")[-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_where_one_wants_to_leave_the_run_is_saved(error: type[BaseException], tmp_path: Path) -> None:
    class Leave(bayesrl.Callback):
        def on_step(self, context):
            if context.steps == 150:
                raise error

    with pytest.raises(error):
        train(tmp_path / "run", Leave())
    assert (tmp_path / "run" / "checkpoints" / "000000000150.pt").exists()


class Stateful(bayesrl.Callback):
    """Its state is what it was given, and an exception is raised."""

    def __init__(self, state: object) -> None:
        self.state = state

    def state_dict(self):
        if isinstance(self.state, Exception):
            raise self.state
        return {"best": self.state}

    def load_state_dict(self, state):
        self.restored = state["best"]


@pytest.mark.parametrize(
    ("state", "said"), [(Path(), r"got Stateful.state_dict\(\)\['best'\] of type"), (LookupError("lost"), "lost")]
)
def test_a_state_that_cannot_be_stored_costs_only_itself(state: object, said: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, LookupError), match=said) as caught:
        train(tmp_path / "run", Stateful(state))
    assert "saved at 200 transitions" in caught.value.__notes__[0]
    resumed = bayesrl.Trainer.resume(tmp_path / "run", callbacks=[Recorder()]).train(progress=False)
    assert resumed.summary["steps"] == 400


def test_a_state_of_numpy_numbers_is_restored(tmp_path: Path) -> None:
    train(tmp_path / "run", Stateful((np.float64(0.5), np.int64(2))))
    second = Stateful(None)
    bayesrl.Trainer.resume(tmp_path / "run", callbacks=[second], steps=401).train(progress=False)
    assert second.restored == (0.5, 2)


def evaluated(*means: float) -> list[EvaluationContext]:
    class Given(Evaluation):
        mean = 0.0

    contexts = []
    for mean in means:
        given = Given(returns=[mean], lengths=[1])
        given.mean = mean
        contexts.append(EvaluationContext(Path(), 0, 0, 0, None, {}, evaluation=given))
    return contexts


@pytest.mark.parametrize(
    ("patience", "min_delta", "means", "goes_on"),
    [
        (1, 0.0, (1, 2, 2), (True, True, False)),
        (2, 0.0, (1, 0, 2, 1, 2), (True, True, True, True, False)),
        (2, 1.0, (1, 1.5, 2.5, 3.5, 3), (True, True, True, True, False)),
        (1, 0.0, (-math.inf,), (False,)),
    ],
)
def test_early_stopping_counts_evaluations_without_improvement(patience, min_delta, means, goes_on) -> None:
    stopping = bayesrl.EarlyStopping(patience, min_delta)
    assert tuple(stopping.on_evaluation(context) for context in evaluated(*means)) == goes_on


def test_early_stopping_goes_on_where_it_was(tmp_path: Path) -> None:
    first, second = bayesrl.EarlyStopping(3), bayesrl.EarlyStopping(3)
    for context in evaluated(5, 4):
        first.on_evaluation(context)
    second.load_state_dict(first.state_dict())
    assert (second.best, second.waited) == (5, 1)


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"min_delta": -1.0}])
def test_early_stopping_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"got {next(iter(wrong))}="):
        bayesrl.EarlyStopping(**wrong)


def test_the_command_uses_them_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    stopping = "{_target_: bayesrl.training.callbacks.EarlyStopping, patience: 1, min_delta: 1e9}"
    words = [*TINY, "capture=false", "seed=5", "steps=1000", f"run_dir={tmp_path / 'run'}"]
    assert main([*words, f"callbacks=[{stopping}]"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["steps"], result["stopped_by"]) == (400, "EarlyStopping")
    # What Python is given is stored likewise, since it is named by its class and settings alone.
    train(tmp_path / "python", bayesrl.EarlyStopping(patience=1, min_delta=1e9), steps=1000)
    assert metrics(tmp_path / "python") == metrics(tmp_path / "run")
    stored = [bayesrl.Result(tmp_path / name).config["callbacks"] for name in ("python", "run")]
    assert stored[0] == stored[1]
    capsys.readouterr()
    assert main([*words, "callbacks=[{_target_: bayesrl.training.callbacks.EarlyStopping, patients: 3}]"]) == 2
    assert "did you mean patience" in capsys.readouterr().err
    assert main([*words, "callbacks=[3]"]) == 2
    assert "got callbacks[0]=3, wanted a _target_" in capsys.readouterr().err


def test_rows_reach_weights_and_biases_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    from bayesrl.training.wandb import WandbLogger

    result = train(tmp_path / "run", WandbLogger(project="tests", mode="offline", config={"posterior": "hypermodel"}))
    (file,) = (tmp_path / "run").rglob("*.wandb")
    rows = []
    for data in wandb_records(file.read_bytes()):
        items = Record.FromString(data).history.item
        rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    assert [row["transitions"] for row in rows if row] == [100, 200, 300, 400]
    returns = [row["eval/mean_reward"] for row in rows if "eval/mean_reward" in row]
    assert returns == result.metrics["eval/mean_reward"].values.tolist()


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a file that Weights & Biases writes: seven bytes, then LevelDB's log format."""
    at, parts, size = 7, b"", 2**15
    while at + 7 <= len(content):
        if size - at % size < 7:
            at += size - at % size  # no record begins so near the end of a block
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_weights_and_biases_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bayesrl.training.wandb import WandbLogger

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r'pip install "bayesrl\[wandb\]"'):
        WandbLogger()
