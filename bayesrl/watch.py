"""Watch a run's agent: `python -m bayesrl.watch run=RUN_DIR [episodes=1] [mode=auto] [draw=mean] [seed=0]`.

Plays episodes and shows, beside the environment, Q of each action as a band over posterior draws, which action is
taken, and the standard deviation of Q over draws from step to step. Where actions are continuous and each draw has
a policy (bayes_ac), it shows what each draw would do, and Q of the action taken. Planners are shown with their actions
alone.

    mode=window     on the screen (pygame: pip install "bayesrl[classic]")
    mode=video      into out=RUN_DIR/watch.mp4 (PyAV: pip install "bayesrl[video]"), or out=FILE.gif (needs nothing)
    mode=terminal   as text, also over ssh; a line for each step where the output is a file or a pipe
    mode=auto       a film where out= is given, else a window where there is a display, else the terminal
    draw=mean       the posterior mean acts; draw=thompson: one draw an episode, its Q marked

    names=[left,right]   names the actions
    steps=1000           at most, in an episode
    fps=30               frames a second; the environment's own by default
    device=cpu           or cuda, cuda:1

Exit code 2, with one sentence, when the input is wrong.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

DEFAULTS = {
    "run": "", "episodes": "1", "mode": "auto", "draw": "mean", "seed": "0", "out": "", "names": "", "steps": "1000",
    "fps": "0", "device": "cpu",
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or any(arg in ("-h", "--help") for arg in argv):
        print(__doc__.strip())
        return 0 if argv else 2
    from bayesrl.experiment import cli

    return cli.command(argv, watch)


def watch(argv: list[str]) -> int:
    """Show episodes from command-line words.

    Raises:
        ConfigError, CheckpointError, EnvError, ViewerError: what is wrong, or missing here.
    """
    from bayesrl.deployment.episode import play
    from bayesrl.deployment.frames import Frames
    from bayesrl.deployment.viewers import Film, Terminal, Window, has_display
    from bayesrl.experiment import build, cli, environments
    from bayesrl.experiment.config import ConfigError
    from bayesrl.experiment.run_directory import stored

    words = cli.parse_words(argv, DEFAULTS)
    episodes, seed, steps, fps = cli.parse_integers(words, episodes=1, seed=0, steps=1, fps=0)
    for key, choices in (("mode", ("auto", "window", "video", "terminal")), ("draw", ("mean", "thompson"))):
        if words[key] not in choices:
            raise ConfigError([f"got {key}={words[key]}, wanted one of {', '.join(choices)}"])
    if not words["run"]:
        raise ConfigError(["got no run, wanted run=RUN_DIR, a directory that bayesrl.train made"])
    run_dir, mode = Path(words["run"]), words["mode"]
    if words["out"] and mode in ("window", "terminal"):
        raise ConfigError([f"got out={words['out']} with mode={mode}, wanted one of them: a film has mode=video"])
    if mode == "auto":
        mode = "video" if words["out"] else "window" if has_display() else "terminal"
    if mode == "video":
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # environments that draw by pygame look for no display
    policy, config = build.policy(run_dir, words["device"]), stored(run_dir)
    with contextlib.closing(environments.watched(config, pictures=mode != "terminal")) as env:
        names = words["names"].strip("[]").split(",") if words["names"] else meanings(env)
        if names and policy.spec.bounds is None and len(names) != policy.spec.actions:
            raise ConfigError([f"got {len(names)} names, wanted {policy.spec.actions}, one for each action"])
        rate = float(fps or min(env.metadata.get("render_fps") or 15, 50))
        screen: Film | Terminal | Window
        if mode == "video":
            screen = Film(Path(words["out"] or run_dir / "watch.mp4"), rate)
        else:
            screen = Window(rate) if mode == "window" else Terminal(rate)
        thompson = words["draw"] == "thompson"
        with contextlib.suppress(KeyboardInterrupt):  # ends the watching: a film is whole up to there
            for number in range(seed, seed + episodes):
                acting = policy.draw(number) if thompson else policy
                acts = f"posterior draw {number} (Thompson sampling)" if thompson else "the posterior mean"
                if not shown(screen, Frames(config.env.id, acts, names, thompson), play(acting, env, number, steps)):
                    break
        if told := screen.close():
            print(told)
    return 0


def shown(screen, frames, steps) -> bool:
    """Show the steps of an episode one by one; return whether to go on after it."""
    history: list = []
    for step in steps:
        history[-1:] = [past._replace(picture=None) for past in history[-1:]]  # of the past only numbers are drawn
        history.append(step)
        if not screen.show(frames, history):
            return False
    return True


def meanings(env) -> list[str]:
    """Return the names of the actions, where the environment has them as Atari's do."""
    said = getattr(env.unwrapped, "get_action_meanings", None)
    return [str(name).lower() for name in said()] if callable(said) else []


if __name__ == "__main__":
    sys.exit(main())
