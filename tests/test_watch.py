"""Watching an episode: what is shown is what was decided, in a window, a film or text, and what is missing is told."""

import sys
from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

import bayesrl
from bayesrl import watch
from bayesrl.agents.uniform import Uniform
from bayesrl.deployment.episode import EpisodeStep, picture, play
from bayesrl.deployment.frames import SHOWN, SIZE, Frames, extent, shown
from bayesrl.deployment.policy import Policy
from bayesrl.deployment.viewers import Film, Terminal, ViewerError, Window
from bayesrl.plotting.canvas import RED
from support.runs import TINY, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("watch") / "run"
    train("steps=100", f"run_dir={run}", *TINY, "env=deep_sea", "env.kwargs.size=5")
    return run


def moment(actions: int = 2, **changes) -> EpisodeStep:
    """Action k has bands k, k + 1, ..., k + 4; the last one is taken, and the draw's Q is k + 2.5."""
    bands = np.arange(5.0)[:, None] + np.arange(actions)
    return EpisodeStep(3, 1.5, None, actions - 1, bands, np.arange(actions) + 2.5, 0.7)._replace(**changes)


def test_an_episode_by_hand(run: Path) -> None:
    policy, env = bayesrl.load(run), gym.make("bayesrl/DeepSea-v0", size=5)
    seen = list(play(policy, env, seed=0, limit=100))
    assert [m.step for m in seen] == list(range(6)) and [m.ended for m in seen] == [""] * 5 + ["terminated"]
    obs, ret = env.reset(seed=0)[0], 0.0
    for m in seen[:-1]:
        action, uncertainty = policy(obs)
        q = policy.agent.forecast(torch.tensor([[int(obs.argmax())]]), torch.Generator().manual_seed(0)).q[:, 0]
        assert (m.action, m.ret) == (action, ret) and m.uncertainty == pytest.approx(uncertainty)
        np.testing.assert_allclose(m.bands, np.quantile(q.detach(), [0.05, 0.25, 0.5, 0.75, 0.95], 0), rtol=1e-4)
        assert m.picture is not None and m.picture.size == (5, 5)
        assert np.asarray(m.picture).argmin() == obs.argmax()  # the diver is dark
        obs, reward, *_ = env.step(action)
        ret += reward
    assert seen[-1].ret == ret
    short = list(play(policy, env, seed=0, limit=2))
    assert [m.step for m in short] == [0, 1, 2] and short[-1].ended == "cut after 2 steps"


def test_a_draw_marks_its_own_values(run: Path) -> None:
    policy, env = bayesrl.load(run).draw(3), gym.make("bayesrl/DeepSea-v0", size=5)
    for m in list(play(policy, env, seed=0, limit=9))[:-1]:
        assert m.acting is not None and m.acting.argmax() == m.action


def test_pictures_of_observations() -> None:
    env = gym.make("bayesrl/DeepSea-v0", size=3)
    assert picture(env, np.zeros(4, np.float32)) is None and picture(env, {"a": np.zeros((4, 4))}) is None
    gray = picture(env, np.full((4, 6, 1), 200, np.uint8))
    assert gray is not None and gray.size == (6, 4) and gray.getpixel((0, 0)) == 200


def test_what_is_shown_of_many_actions() -> None:
    assert shown(moment(3)) == [0, 1, 2]
    assert shown(moment(20)) == list(range(12, 20))
    assert shown(moment(20, action=1)) == [1, *range(13, 20)] and len(shown(moment(20))) == SHOWN
    assert extent([moment(2), moment(2, acting=np.array([-9.0, 20.0]))]) == (-9, 20)


def test_a_frame_marks_the_draw_and_the_action_taken() -> None:
    """The dot is where Q = 2.5 lies between 0 and 5 on the axis from 590 to 940; without a draw there is none."""
    red = Image.new("RGB", (1, 1), RED).getpixel((0, 0))
    history = [moment(2)]
    drawn, plain = (Frames("It", "it", draws=draws).frame(history) for draws in (True, False))
    middle = (590 + 350 // 2, 98 + 17)
    assert drawn.size == SIZE and drawn.getpixel(middle) == red and plain.getpixel(middle) != red


def test_a_continuous_action_is_shown_among_what_the_draws_would_do() -> None:
    """The dot is where 0.5 lies between -1 and 1 on the axis from 590 to 940, the draws' bands between -1 and 0."""
    proposed = np.linspace(-1, 0, 5)[:, None]
    now = moment(1, action=[0.5], acting=np.array([2.0]), proposed=proposed)
    red, frame = Image.new("RGB", (1, 1), RED).getpixel((0, 0)), Frames("It", "it").frame([now])
    assert frame.getpixel((round(590 + 350 * 0.75), 98 + 17)) == red
    assert frame.getpixel((590 + 30, 98 + 17)) != frame.getpixel((590 + 200, 98 + 17))
    text = Frames("It", "it").text([now])
    assert "> 0.50" in text and "2 [0, 4]" in text and "-0.50 [-1.00, 0.00]" in text
    assert Frames("It", "it").line(now).endswith("0.50   Q 2 [0, 4]   sd 0.7")


@pytest.mark.parametrize("width", [60, 100])
def test_text_fits_and_says_the_numbers(width: int) -> None:
    frames = Frames("It", "it", ["left", "right"], draws=True)
    lines = frames.text([moment(2)], width).splitlines()
    left, right = lines[3], lines[4]
    assert left.startswith("  left") and right.startswith("> right") and max(map(len, lines)) <= width
    assert left.endswith("2 [0, 4]") and right.endswith("3 [1, 5]")
    bar = right.split("|")[1]
    assert bar.strip()[0] == "░" and bar.strip()[-1] == "░" and "█" in bar and "o" in bar
    assert bar.index("░") / len(bar) == pytest.approx(0.2, abs=0.05)  # 1 on the axis from 0 to 5
    assert frames.line(moment(2)) == "step    3   return      1.5   right   Q 3 [1, 5]   sd 0.7"


def test_an_agent_without_values_is_shown_without_them(run: Path) -> None:
    trained = bayesrl.load(run)
    policy = Policy(Uniform(trained.spec), trained.spec, trained.observation_space, trained.action_space)
    *_, last = seen = list(play(policy, gym.make("bayesrl/DeepSea-v0", size=5), seed=0, limit=9))
    assert last.bands is None and "sd" not in Frames("It", "it").line(seen[0])
    assert Frames("It", "it").frame(seen).size == SIZE
    assert "no bands" in Frames("It", "it").text(seen)
    continuous = last._replace(action=[0.5, -1.0])
    assert "0.50, -1.00" in Frames("It", "it").text([continuous])


def test_films(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Five steps and the end, which stays for a second, in each of two episodes."""
    words = [f"run={run}", "episodes=2", "fps=5", "draw=thompson"]
    assert watch.main([*words, f"out={tmp_path / 'new' / 'it.gif'}"]) == 0
    assert "it.gif" in capsys.readouterr().out
    with Image.open(tmp_path / "new" / "it.gif") as film:
        times = []
        for i in range(film.n_frames):
            film.seek(i)
            times.append(film.info["duration"])
        assert film.size == SIZE and sum(times) == 2 * (5 + 5) * 200
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["it.gif"]
    av = pytest.importorskip("av")
    assert watch.main([*words, f"out={tmp_path / 'it.mp4'}"]) == 0
    with av.open(str(tmp_path / "it.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 20


class NoRender(gym.Env):
    """Its metadata names a render mode for which it has no method."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), 1.0, self.t == 4, False, {}


def test_an_environment_without_the_render_method_that_it_names(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "no_render", sys.modules[__name__])
    train("steps=70", f"run_dir={tmp_path / 'run'}", *TINY, "env.id=no_render:NoRender", "capture=false")
    capsys.readouterr()
    assert watch.main([f"run={tmp_path / 'run'}", f"out={tmp_path / 'it.gif'}"]) == 0
    told = capsys.readouterr()
    assert "names rgb_array and no render method, wanted both" in told.err and "it.gif" in told.out


def test_text_in_a_pipe(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert watch.main([f"run={run}", "mode=terminal", "names=[down,up]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "terminated" in lines[-1] and "\x1b" not in "".join(lines)
    assert all("down" in line or "up" in line for line in lines[:-1])


def test_a_terminal_is_drawn_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    screen = Terminal(fps=1000)
    screen.live = True
    assert screen.show(Frames("It", "it"), [moment()])
    assert capsys.readouterr().out.startswith("\x1b[H\x1b[JIt   step 3")


def test_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    screen, frames, history = Window(fps=1000, linger=0.0), Frames("It", "it"), [moment()]
    assert screen.show(frames, history)
    shown = pygame.image.tobytes(screen.surface, "RGB")
    assert shown == frames.frame(history).tobytes()
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert not screen.show(frames, history)
    screen.close()


def test_no_display_is_told(monkeypatch: pytest.MonkeyPatch, run: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert watch.main([f"run={run}", "mode=window"]) == 2
    assert "mode=video" in capsys.readouterr().err
    assert watch.main([f"run={run}"]) == 0  # auto: the terminal
    assert "terminated" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ViewerError, match="classic"):
        Window(fps=1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ViewerError, match=r"gif"):
        Film(run / "it.mp4", 1)


@pytest.mark.parametrize(
    "words",
    [[], ["run=nowhere"], ["mode=print"], ["draw=best"], ["fps=x"], ["steps=0"], ["names=[a]"], ["out=it.avi"]],
)
def test_bad_words(words: list[str], run: Path, capsys: pytest.CaptureFixture) -> None:
    given = [] if not words or words[0].startswith("run") else [f"run={run}"]
    assert watch.main([*given, *words]) == 2
    assert not words or capsys.readouterr().err.startswith("error: got")
