"""`bayesrl.check` tells what it found, and the first problem; environments of installed packages are found by id."""

import sys
from pathlib import Path

import gymnasium as gym
import pytest

from bayesrl.check import main
from bayesrl.envs import EnvError, make, single
from bayesrl.experiment import config
from bayesrl.experiment.help import help_text

MODULE = """
import random
import gymnasium as gym
from gymnasium.spaces import Discrete

class Walk(gym.Env):
    observation_space, action_space = Discrete(5), Discrete(2)
    def __init__(self, pay=1.0, luck=False):
        self.pay, self.luck, self.x = pay, luck, 0
        self.hidden = object() if luck else None
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0
        return self.x, {}
    def step(self, action):
        self.x = min(self.x + action, 4)
        return self.x, self.pay + self.luck * random.random(), self.x == 4, False, {}

gym.register("walks/Walk-v0", entry_point=Walk, max_episode_steps=9)
"""
CONFIG = "id: walks/Walk-v0\nnum_envs: 2\nkwargs: {pay: 3.0}\nimports: []\nvectorization: auto\n"


@pytest.fixture
def walks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package as pip installs it, which declares an entry point and ships a configuration."""
    info = tmp_path / "walks-1.0.dist-info"
    (tmp_path / "walks" / "configs" / "env").mkdir(parents=True)
    info.mkdir()
    (tmp_path / "walks" / "__init__.py").write_text(MODULE)
    (tmp_path / "walks" / "configs" / "env" / "stroll.yaml").write_text(CONFIG)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: walks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bayesrl.envs]\nwalks = walks\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    gym.registry.pop("walks/Walk-v0", None)
    sys.modules.pop("walks", None)


@pytest.mark.usefixtures("walks")
@pytest.mark.parametrize("words", [["walks:walks/Walk-v0"], ["walks/Walk-v0"], ["env=stroll"]])
def test_all_is_well(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main([*words, "env.num_envs=2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for line in (
        "observations  Discrete(5)",
        "agents see    [1] int64, each the index of a one among 5",
        "action masks  none",
        "seeding       the same seed gives the same episode",
        "vectorized    sync, num_envs=2: in this process",
        "autoreset     SAME_STEP",
        "resuming      bit for bit",
        "all is well",
    ):
        assert line in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["CartPole-v1", "env.num_envs=3"], "native, num_envs=3: the environment brings a vector version of its own"),
        (["bayesrl/RiverSwim-v0", "env.vectorization=device"], "device, num_envs=1: as asked"),
        (
            ["CartPole-v1", "env.wrappers=[{_target_: gymnasium.wrappers.TimeLimit, max_episode_steps: 9}]"],
            "sync, num_envs=1: its own vector version is passed over, because a wrapper is of one environment",
        ),
        (["env=pendulum"], "actions       Box(-2.0, 2.0, (1,), float32)"),
        (["CartPole-v1", "env.vectorization=async"], "async, num_envs=1: as asked"),
    ],
)
def test_what_is_found(words: list[str], told: str, capsys: pytest.CaptureFixture) -> None:
    assert main(words) == 0
    assert told in capsys.readouterr().out


@pytest.mark.usefixtures("walks")
def test_what_a_seed_does_not_repeat_and_a_checkpoint_cannot_hold_is_told(capsys: pytest.CaptureFixture) -> None:
    assert main(["walks:Walk", "env.kwargs.luck=true"]) == 0
    out = capsys.readouterr().out
    assert "different episodes: draw every random number from self.np_random" in out
    assert "resuming      begins new episodes, as its state cannot be read" in out


@pytest.mark.usefixtures("walks")
@pytest.mark.parametrize(
    ("words", "found", "told"),
    [
        (["walks:Walk", "env.kwargs.pay=nan"], "actions       Discrete(2)", "reward: got nan"),
        (["walks:Walk", "env.kwargs.speed=3"], "", "got 'speed' for walks:Walk, wanted only 'pay', 'luck'"),
        (["walks/Wlk-v0"], "", "did you mean walks/Walk-v0"),
        (["nowhere:X"], "", "got ModuleNotFoundError on importing 'nowhere'"),
        (["CartPole-v1", "Acrobot-v1"], "", "got CartPole-v1 Acrobot-v1, wanted one environment"),
        (["CartPole-v1", "env.wrappers=[3]"], "", "got env.wrappers[0]=3, wanted a _target_ with its arguments"),
        (["CartPole-v1", "env.wrappers=3"], "", "got env.wrappers=3, wanted a list"),
        (
            ["CartPole-v1", "env.wrappers=[{_target_: gymnasium.wrappers.TimeLimit, limit: 9}]"],
            "",
            "got env.wrappers[0].limit, wanted an argument of gymnasium.wrappers.TimeLimit that exists",
        ),
        (
            [
                "CartPole-v1",
                "env.wrappers=[{_target_: bayesrl.envs.ScaleReward, factor: 2}]",
                "env.vectorization=native",
            ],
            "",
            "got env.vectorization=native with env.wrappers, wanted auto, sync or async",
        ),
        (["--sideways"], "", "got the option --sideways"),
        (["env=strol"], "", "did you mean stroll?"),
        (["walks:Walk", "env.vectorization=native"], "a step", "wanted an environment with a vector_entry_point"),
    ],
)
def test_a_problem_is_one_sentence(words, found, told, capsys: pytest.CaptureFixture) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert found in out and "all is well" not in out
    assert told in err and len(err.splitlines()) == 1


def test_an_installed_package_is_trained_in_by_id_and_by_option(walks: Path) -> None:
    envs, _ = make("walks/Walk-v0", 1)
    envs.close()
    assert config.load(["env=stroll"]).env.kwargs == {"pay": 3.0}
    assert "stroll" in help_text()


def test_a_package_that_cannot_be_imported_harms_only_its_own(walks: Path) -> None:
    (walks / "walks" / "__init__.py").write_text("1 / 0")
    single("CartPole-v1").close()
    with pytest.raises(EnvError, match=r"the package walks could not be imported \(ZeroDivisionError: division by"):
        single("walks/Walk-v0")
