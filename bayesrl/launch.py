"""What the commands do, and their words; errors of input told in one sentence."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from bayesrl import building, explanation
from bayesrl import config as cfg
from bayesrl import run_dir as places
from bayesrl.config import ConfigError
from bayesrl.evaluation import evaluate as play
from bayesrl.posteriors import Learner
from bayesrl.scaling import Scaling


def command(argv: list[str], function: Callable[[list[str]], int]) -> int:
    """Run a command; errors of input become one sentence and exit code 2, everything else a traceback."""
    try:
        return function(argv)
    except (*building.TOLD, OSError) as error:
        print("\n".join(f"error: {problem}" for problem in told(error)), file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 2


def told(error: Exception) -> list[str]:
    """An error of input in a user's words, a sentence for each problem."""
    if isinstance(error, OSError):
        where = error.filename or "a file"
        remedy = "free some space, or mend its permissions"
        return [f"got '{error.strerror or error}' at {where}, wanted to read and write there: {remedy}"]
    return str(error).splitlines() if isinstance(error, ConfigError) else [str(error) or type(error).__name__]


def train(argv: list[str]) -> int:
    """Train from command-line words; returns 0, or 128 + the signal that ended training early."""
    dirs, words, show = options(argv)
    resume = next((w.partition("=")[2].strip("'\"") for w in words if w.startswith("resume=")), "null")
    resuming = resume not in ("null", "")
    if resuming:
        run_dir = Path(resume)
        words = [w for w in words if not w.startswith("resume=")]
        config = cfg.resumed(places.stored(run_dir), words, building.CHECKS)
    else:
        config = cfg.load(words, dirs, building.CHECKS)
    if show:
        print(OmegaConf.to_yaml(config, resolve=True))
        return 0
    return train_in(run_dir if resuming else places.fresh(config.run_dir, config.env.id), config, resuming)


def train_in(run_dir: Path, config: DictConfig, resuming: bool = False) -> int:
    """Train by a checked configuration; returns 0, or 128 + the signal that ended training early."""
    with places.held(run_dir, new=not resuming):
        run = building.build(config, run_dir, resuming)
        print(f"run: {run_dir}", flush=True)
        with contextlib.closing(run):
            run.train(config.steps)
    return 0 if run.signal is None else 128 + run.signal


def evaluate(argv: list[str]) -> int:
    """Evaluate from command-line words."""
    words = words_of(argv, {"run": "", "episodes": "100", "seed": "0", "device": "auto"})
    episodes, seed = whole_numbers(words, episodes=1, seed=0)
    config, agent, envs, step = building.trained(words, min(episodes, 10))
    result = play(agent, envs, episodes, seed)
    envs.env.close()
    print(f"{config.env.id}: greedy return of {result.played} at {step:,} transitions: {result.told()}")
    return 0


def explain(argv: list[str]) -> int:
    """Explain from command-line words."""
    defaults = {"states": "512", "draws": "100", "seed": "0", "episodes": "0", "device": "auto", "names": "", "out": ""}
    words = words_of(argv, {"run": "", **defaults})
    states, draws, seed, episodes = whole_numbers(words, states=2, draws=2, seed=0, episodes=0)
    config, agent, envs, step = building.trained(words, max(1, min(episodes, 10)), memory=True)
    posterior, scaling, replay = (getattr(agent, name, None) for name in ("posterior", "scaling", "replay"))
    if not (isinstance(posterior, Learner) and isinstance(scaling, Scaling) and replay is not None):
        kind = config.agent["_target_"]
        raise ConfigError([f"got a run of {kind}, wanted an agent with a posterior, a replay and a scaling: bayes_dqn"])
    names = explanation.feature_names(envs.env.single_observation_space)
    if words["names"]:
        given = words["names"].strip("[]").split(",")
        if len(given) != len(names):
            raise ConfigError(
                [f"got {len(given)} names, wanted {len(names)}, one for each feature: {', '.join(names)}"]
            )
        names = given
    obs, mask = explanation.states(replay, states, torch.Generator().manual_seed(seed))
    x, unit = scaling.obs(obs), float(scaling.scale)
    out = explanation.explain(posterior, x, names, envs.spec.categories, draws, seed, unit, mask)
    if episodes:
        out = explanation.pruned_returns(out, agent, envs, episodes, seed)
    envs.env.close()
    about = {"run": words["run"], "transitions": step, "states": len(obs), "draws": draws, "seed": seed}
    place = Path(words["out"] or Path(words["run"]) / "explain")
    place.mkdir(parents=True, exist_ok=True)
    for name, text in {**out.figures(), "explain.json": out.json(**about)}.items():
        (place / name).write_text(text)
    print(
        f"{config.env.id} at {step:,} transitions: change of Q at the greedy action over {len(obs)} remembered states "
        f"and {draws} draws, in return units"
    )
    print("\n".join([out.table(), *out.left_out, f"written to {place}"]))
    return 0


# --- the command line ------------------------------------------------------------------------------------------


def options(argv: list[str]) -> tuple[list[str], list[str], bool]:
    """Directories, overrides, and whether only to show the configuration."""
    dirs, words, show = [], [], False
    rest = iter(argv)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in ("--cfg", "-c"):
            value = value if equals else next(rest, "")
            if value != "job":
                raise ConfigError([f"got {option} {value}, wanted --cfg job, which prints the configuration and stops"])
            show = True
        elif option in ("--config-dir", "-cd"):
            dirs.append(value if equals else next(rest, ""))
            if not Path(dirs[-1]).is_dir():
                raise ConfigError([f"got {option} {dirs[-1]}, wanted a directory of configuration groups"])
        elif word.startswith("-"):
            raise ConfigError([f"got the option {word}, wanted --help, --cfg job, --config-dir DIR or --multirun"])
        else:
            words.append(word)
    return dirs, words, show


def words_of(argv: list[str], options: dict[str, str]) -> dict[str, str]:
    """key=value words over their defaults."""
    given = {}
    for word in argv:
        key, equals, given[key] = word.partition("=")
        if not equals or key not in options:
            raise ConfigError([f"got {word}, wanted one of {', '.join(f'{k}=' for k in options)}"])
    return {**options, **given}


def whole_numbers(words: dict[str, str], **least: int) -> list[int]:
    """Whole numbers among the words, each with the least that makes sense."""
    for key, low in least.items():
        if not words[key].isdecimal() or not low <= int(words[key]) <= cfg.MOST["seed"]:
            raise ConfigError([f"got {key}={words[key]}, wanted an integer from {low} to {cfg.MOST['seed']}"])
    return [int(words[key]) for key in least]
