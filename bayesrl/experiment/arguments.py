"""The arguments of `Trainer`, translated to the words of the command and to objects that take the place of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
from omegaconf import DictConfig

from bayesrl.envs.errors import EnvError
from bayesrl.experiment import config as cfg
from bayesrl.experiment.config import ConfigError
from bayesrl.experiment.objects import (
    LATER,
    EnvInstance,
    Objects,
    describe,
    given_in_python,
    is_stand_in,
    node_of,
    option_of,
    path_of,
    spelled,
    stand_in,
)
from bayesrl.experiment.signatures import unknown
from bayesrl.training.callbacks import Callback, CallbackList

RUN = ("steps", "seed", "device", "threads", "capture", "run_dir", "replay_ratio", "prior_scale", "solve")
GROUPS = (*cfg.COMPONENTS, "experiment")


class Arguments(NamedTuple):
    """Arguments as `config.load` and `build` take them.

    Attributes:
        overrides: words of the command.
        nodes: values of the configuration by dotted name.
        objects: what takes the place of parts of the configuration.
    """

    overrides: list[str]
    nodes: dict[str, Any]
    objects: Objects


def translate(
    env: Any, words: Mapping[str, Any], settings: Mapping[str, Any], eval_env: Any, callbacks: Sequence[Callback]
) -> Arguments:
    """Translate the arguments of `Trainer`.

    Raises:
        ConfigError: every problem found, one a line.
        EnvError: an environment that is none.
    """
    problems = _unknown(words, settings)
    overrides: dict[str, str] = {}
    nodes: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    for name, value in words.items():
        if name in GROUPS:
            _group(name, value, overrides, nodes, objects)
        elif name in RUN:
            overrides[name] = _spelled(name, value, problems)
    if env is not None:
        _environment(env, overrides, nodes, objects)
    if eval_env is not None:
        objects["eval_env"] = _environment_object(eval_env)
    if callbacks := _callbacks(callbacks):
        objects["callbacks"] = callbacks
        nodes["callbacks"] = [_stored("callbacks", callback) for callback in callbacks]
    for name, value in settings.items():
        group = name.partition(".")[0]
        if group in objects and group != "env":
            problems.append(f"got {name}={value} beside an object for {group}, wanted it set in the object")
        overrides[name] = _spelled(name, value, problems)
    if isinstance(objects.get("env"), EnvInstance):
        problems += _instance_problems(settings)
    if problems:
        raise ConfigError(problems)
    return Arguments([f"{name}={value}" for name, value in overrides.items()], nodes, objects)


def resume_words(
    stored: DictConfig,
    env: Any,
    words: Mapping[str, Any],
    settings: Mapping[str, Any],
    eval_env: Any,
    callbacks: Sequence[Callback],
) -> Arguments:
    """Translate the arguments of `Trainer.resume`, beside the configuration of its run.

    Raises:
        ConfigError: every problem found, one a line, objects among them that the configuration lacks.
        EnvError: an environment that is none.
    """
    problems = _unknown(words, settings)
    objects: dict[str, Any] = {}
    overrides = {name: _spelled(name, value, problems) for name, value in settings.items()}
    for name, value in words.items():
        if name in cfg.COMPONENTS:
            if not is_stand_in(stored.get(name)):
                stays = "wanted none, since the run has stored its own: start a new run to change it"
                problems.append(f"got {name}={describe(value)} with resume, {stays}")
            objects[name] = value
        elif name in (*RUN, "experiment"):
            overrides[name] = _spelled(name, value, problems)
    for name in cfg.COMPONENTS:
        if is_stand_in(stored.get(name)) and name not in objects:
            problems += _missing(stored[name].what, name)
    if env is not None:
        objects["env"] = _environment_object(env)
    elif str(stored.env.id).startswith("<"):
        problems += _missing(stored.env.id.strip("<>"), "env")
    if eval_env is not None:
        objects["eval_env"] = _environment_object(eval_env)
    if callbacks := _callbacks(callbacks):
        objects["callbacks"] = callbacks
    else:
        for node in filter(is_stand_in, cfg.callbacks(stored)):
            problems += _missing(node["what"], "callbacks")
    if problems:
        raise ConfigError(problems)
    return Arguments([f"{name}={value}" for name, value in overrides.items()], {}, objects)


def _group(name: str, value: Any, overrides: dict, nodes: dict, objects: dict) -> None:
    """Let a group be one of its options, a node of its own, or an object."""
    if value is None or isinstance(value, str):
        overrides[name] = "null" if value is None else value
    elif isinstance(value, Mapping):
        nodes[name] = node_of(value)
    elif (option := option_of(name, value)) is not None:
        overrides[name], keywords = option
        try:
            overrides |= {f"{name}.{key}": spelled(node_of(each)) for key, each in keywords.items()}
        except TypeError:
            del overrides[name]
            nodes[name], objects[name] = stand_in(name, value), value
    else:
        try:
            nodes[name] = node_of(value, later=name in LATER)
        except TypeError:
            nodes[name], objects[name] = stand_in(name, value), value


def _environment(env: Any, overrides: dict, nodes: dict, objects: dict) -> None:
    if isinstance(env, str):
        option = "/" not in env and ":" not in env and env.replace("_", "").isalpha() and env == env.lower()
        overrides["env" if option else "env.id"] = env if option else spelled(env)
        return
    if path_of(env) is not None and "." not in env.__qualname__:
        overrides["env.id"] = spelled(f"{env.__module__}:{env.__qualname__}")
    else:
        objects["env"], nodes["env.id"] = _environment_object(env), f"<{describe(env)}>"


def _environment_object(env: Any) -> Any:
    """Return an environment as `single` takes it."""
    if isinstance(env, gym.vector.VectorEnv):
        raise EnvError(f"got {env!r}, which is {env.num_envs} environments, wanted one, or a class or an id of one")
    if isinstance(env, gym.Env):
        return EnvInstance(env)
    if not (isinstance(env, str) or callable(env)):
        raise EnvError(f"got {env!r}, wanted an id, a class or function that makes an environment, or a gymnasium.Env")
    return env


def _callbacks(callbacks: Any) -> list[Callback]:
    if not isinstance(callbacks, list | tuple):
        raise ConfigError([f"got callbacks={callbacks!r}, wanted a list of them: callbacks=[...]"])
    return CallbackList(list(callbacks)).callbacks


def _stored(name: str, value: Any) -> Any:
    """Return how a configuration names an object, or what stands for it."""
    try:
        return node_of(value, later=False)
    except TypeError:
        return stand_in(name, value)


def _instance_problems(settings: Mapping[str, Any]) -> list[str]:
    problems = []
    if (count := settings.get("env.num_envs", 1)) != 1:
        problems.append(
            f"got env.num_envs={count} with an instance as env, wanted 1, since an instance is never copied: give its "
            "class, or a function that makes one"
        )
    if (way := settings.get("env.vectorization", "sync")) not in ("auto", "sync"):
        problems.append(f"got env.vectorization={way} with an instance as env, wanted auto or sync")
    return problems


def _unknown(words: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the names of words and settings."""
    problems = []
    for name, value in words.items():
        inner = [key for key in cfg.SETTINGS if key.rpartition(".")[2] == name and "." in key]
        if name == "resume":
            problems.append("got resume as a keyword, wanted bayesrl.Trainer.resume(run_dir)")
        elif name not in (*RUN, *GROUPS) and inner:
            problems.append(f'got {name}={value}, wanted it among the settings: settings={{"{inner[0]}": {value!r}}}')
        elif name not in (*RUN, *GROUPS):
            problems.append(unknown(f"{name}={value}", "a keyword of Trainer", name, [*RUN, *GROUPS]))
    for name in settings:
        if not isinstance(name, str) or name in GROUPS:
            problems.append(f"got settings with {name!r}, wanted the dotted name of a setting; groups are keywords")
    return problems


def _spelled(name: str, value: Any, problems: list[str]) -> str:
    try:
        return spelled(node_of(value))
    except TypeError:
        problems.append(f"got {name}={value!r}, wanted plain values, or a class or function that can be imported")
        return "null"


def _missing(what: str, where: str) -> list[str]:
    try:
        given_in_python(what, where)
    except ConfigError as error:
        return [str(error)]
    return []
