"""Many seeds at once are the seeds one by one; what ends one leaves the others alone."""

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from test_capture import POSTERIORS, filled
from test_resume import TINY, checkpoint, newest
from torch import Tensor, nn

from bayesrl.capture import Captured
from bayesrl.evaluate import main as evaluate
from bayesrl.runs import find
from bayesrl.stacking import Stacked, held
from bayesrl.train import main

SMALL = [*TINY, "steps=300", "log.draw=0", "posterior.draws=3"]


def close(a: object, b: object, where: str = "") -> None:
    """Equal, numbers within a hundred-thousandth."""
    if isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), where
        for key in a:
            close(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert isinstance(b, list | tuple) and len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            close(x, y, f"{where}[{i}]")
    elif isinstance(a, float | np.ndarray | Tensor):
        torch.testing.assert_close(
            torch.as_tensor(a), torch.as_tensor(b), rtol=1e-5, atol=1e-5, equal_nan=True, msg=lambda m: f"{where}: {m}"
        )
    else:
        assert a == b, where


def metrics(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{tag: float(x or "nan") for tag, x in row.items() if not tag.startswith("time/")} for row in rows]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are run as they were traced, which takes no compiling."""
    monkeypatch.setattr(Captured, "compile", lambda self: None)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("seeds") / "many"
    assert main([*SMALL, "seed=3", "seeds=2", f"run_dir={root}"]) == 0
    return root


@pytest.mark.parametrize("seed", [3, 4])
def test_at_once_is_one_by_one(many: Path, seed: int, tmp_path: Path) -> None:
    """Every number of the curves and of the last checkpoint within 1e-5, every choice equal: 59 updates."""
    assert main([*SMALL, f"seed={seed}", "capture=false", f"run_dir={tmp_path / 'one'}"]) == 0
    run, one = many / f"seed={seed}", tmp_path / "one"
    close(metrics(run), metrics(one))
    close(checkpoint(run), checkpoint(one))
    settings = [yaml.safe_load((place / "config.yaml").read_text()) for place in (run, one)]
    for each in settings:
        del each["run_dir"], each["capture"]
    assert settings[0] == settings[1]
    results = [json.loads((place / "result.json").read_text()) | {"seconds": 0} for place in (run, one)]
    assert results[0] == results[1]
    files = [[*sorted(p.stat().st_size for p in place.rglob("*.pt"))] for place in (run, one)]
    assert files[0] == pytest.approx(files[1], rel=0.05)  # a part of the stacked memory is saved, not all of it


def test_each_is_a_run_like_any_other(many: Path, traced: None, capsys: pytest.CaptureFixture) -> None:
    assert find([many]) == [many / "seed=3", many / "seed=4"]
    assert main([f"resume={many / 'seed=4'}", "steps=350"]) == 0
    assert newest(many / "seed=4") == 350 and newest(many / "seed=3") == 300
    assert evaluate([f"run={many / 'seed=3'}", "episodes=1"]) == 0
    capsys.readouterr()
    words = ["--multirun", *SMALL, "seed=range(3,5)", f"run_dir={many}"]
    assert main(words) == 0 and "2 finished before" in capsys.readouterr().out


class Seeded(gym.Env):
    """Nine steps that pay 1 each; seeded with 1, two steps that pay 9."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    seed, steps = None, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.seed = 0, self.seed if seed is None else seed
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        odd = self.seed == 1
        self.happens()
        return np.zeros(2, np.float32), 9.0 if odd else 1.0, self.t == (2 if odd else 9), False, {}

    def happens(self):
        pass


class FailingEnv(Seeded):
    def happens(self):
        if self.seed == 2 and self.steps > 150:
            raise RuntimeError("the third one broke")


class InterruptedEnv(Seeded):
    def happens(self):
        if self.seed == 1 and self.steps == 150:
            os.kill(os.getpid(), signal.SIGINT)


def test_one_that_stops_and_one_that_fails_stop_no_other(
    traced: None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Seed 1 reaches its return after 100 episodes of two steps, seed 2 breaks at 150; seed 0 ends as alone."""
    words = [*SMALL, f"env.id={__name__}:FailingEnv", "env.vectorization=sync", "stop.return=17"]
    assert main([*words, "seeds=3", f"run_dir={tmp_path / 'many'}"]) == 1
    told = capsys.readouterr().out
    assert "failed: seed=2: " in told and "the third one broke" in told and "2 of 3 runs finished" in told
    steps = [json.loads((tmp_path / "many" / f"seed={s}" / "result.json").read_text())["steps"] for s in (0, 1)]
    assert steps == [300, 200] and newest(tmp_path / "many" / "seed=2") == 150
    assert main([*words, "capture=false", f"run_dir={tmp_path / 'one'}"]) == 0
    close(checkpoint(tmp_path / "many" / "seed=0"), checkpoint(tmp_path / "one"))


def test_a_signal_saves_all(traced: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [*SMALL, f"env.id={__name__}:InterruptedEnv", "env.vectorization=sync"]
    assert main([*words, "seeds=2", f"run_dir={tmp_path / 'many'}"]) == 130
    assert "--multirun 'seed=range(0,2)'" in capsys.readouterr().out
    for seed in (0, 1):
        run = tmp_path / "many" / f"seed={seed}"
        assert 145 <= newest(run) <= 155
        assert json.loads((run / "result.json").read_text())["eval_return_mean"] is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seeds=1"], "got seeds=1, wanted at least 2"),
        (["seeds=0"], "got seeds=0, wanted at least 2"),
        (["seeds=2", "seed=4294967295"], "wanted seeds up to 4294967295"),
        (["seeds=2", "capture=false"], "--multirun 'seed=range(0,2)'"),
        (["seeds=2", "agent=uniform"], "--multirun 'seed=range(0,2)'"),
        (["seeds=2", "posterior=sgld"], "--multirun 'seed=range(0,2)'"),
        (["seeds=2", "resume=here"], "got seeds=2 with resume"),
        (["seeds=2", "--multirun"], "got seeds= with --multirun"),
    ],
)
def test_what_cannot_be_at_once_is_told_and_leaves_nothing(
    words: list[str],
    told: str,
    many: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    if words[-1] == "resume=here":
        words = [words[0], f"resume={many / 'seed=3'}"]
    else:
        words = [*words, "network.hidden=[8]", "run_dir=many"]
    assert main(words) == 2
    error = capsys.readouterr().err.partition("error: ")[2]
    assert told in error and "Traceback" not in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_directory_in_use_and_a_missing_compiler_are_told(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert main([*SMALL, "seed=2", "seeds=2", f"run_dir={many}"]) == 2
    assert f"{many / 'seed=3'}, which holds a run" in capsys.readouterr().err and not (many / "seed=2").exists()

    def compile(self: Stacked) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(Stacked, "compile", compile)
    assert main([*SMALL, "seeds=2", f"run_dir={tmp_path / 'many'}"]) == 2
    assert (
        "no compiler), wanted updates captured as one: or a process for each, --multirun 'seed=range(0,2)'"
        in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


# --- stacking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", ["hypermodel", "ensemble", "laplace"])
def test_stacked_updates_are_the_single_ones(posterior: str) -> None:
    """Of two agents, three updates each, with draws of their own: every parameter within 1e-6."""
    agents, twins = ([filled(POSTERIORS[posterior]) for _ in range(2)] for _ in range(2))
    for k, pair in enumerate(zip(agents, twins, strict=True)):
        for agent in pair:
            torch.manual_seed(k)
            agent.learn()
    draw = lambda agent: (agent.replay.index(16), agent.posterior.index(agent.posterior.draws))  # noqa: E731
    stacked = Stacked([agent.update for agent in agents], agents, [draw(agent) for agent in agents])
    for _ in range(3):
        drawn = [draw(agent) for agent in agents]
        infos = stacked.parts(*map(torch.stack, zip(*drawn, strict=True)))
        for twin, given, info in zip(twins, drawn, infos, strict=True):
            torch.testing.assert_close(info, twin.update(*given), rtol=1e-5, atol=1e-6)
    for agent, twin in zip(agents, twins, strict=True):
        for (name, p), q in zip(agent.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p, q, atol=1e-6, rtol=0, msg=name)
    assert not torch.equal(*(next(agent.parameters()) for agent in agents))


class Sum(nn.Module):
    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(size))
        self.views = {"first": self.total[:1]}

    def forward(self, x: Tensor) -> Tensor:
        return self.total.add_(x).sum()


def test_views_of_a_state_follow_it() -> None:
    sums = [Sum(), Sum()]
    call = Stacked(sums, sums, [(torch.ones(()),)] * 2)
    assert call.parts(torch.tensor([1.0, 2.0])) == [2.0, 4.0]
    assert [float(one.views["first"]) for one in sums] == [1.0, 2.0] and len(held(sums[0])) == 2
    sums[0].views["first"].fill_(5.0)
    assert call.parts(torch.tensor([0.0, 0.0])) == [6.0, 4.0]


def test_what_cannot_be_stacked_is_refused_and_left_as_it_was() -> None:
    free = torch.zeros(2)
    shared = Sum()
    cases: list[tuple[list[nn.Module], list[Callable], str]] = [
        ([Sum(2), Sum(3)], [], "differ"),
        ([Sum(), Sum()], [lambda x: globals()["FREE"].add_(x)] * 2, "no module's own"),
        ([shared, shared], [], "no module's own"),
        ([Sum(), Sum()], [lambda x: torch.rand_like(x) + x] * 2, "draws random numbers"),
        ([Sum(), Sum()], [lambda x: x + 1, lambda x: x + 2], "functions that differ"),
    ]
    globals()["FREE"] = free
    for modules, functions, told in cases:
        with pytest.raises(ValueError, match=told):
            Stacked(functions or modules, modules, [(torch.ones(()),)] * 2)
        assert all(not module.total.any() for module in modules)
