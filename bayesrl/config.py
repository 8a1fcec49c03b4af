"""Configuration of the commands: composed by Hydra, checked here as a whole before anything runs.

Every problem is collected and told at once, with the options that exist. Nothing below the commands sees a config.
"""

from __future__ import annotations

import collections.abc
import difflib
import functools
import inspect
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

OPEN = ("env.kwargs",)  # dictionaries that take any key
RESUMABLE = ("steps", "device", "threads", "stop.", "log.")

# What each plain setting must be: a type and the least value that makes sense.
SETTINGS: dict[str, tuple[Any, float | None]] = {
    "steps": (int, 1),
    "seed": (int, 0),
    "device": (str, None),
    "threads": (int, 1),
    "capture": (bool, None),
    "run_dir": (str | None, None),
    "resume": (str | None, None),
    "replay_ratio": (float, 0),
    "log.every": (int, 1),
    "checkpoint.every": (int, 1),
    "checkpoint.keep": (int, 1),
    "eval.every": (int, 0),
    "eval.episodes": (int, 1),
    "eval.final_episodes": (int, 1),
    "stop.seconds": (float | None, 0),
    "stop.return": (float | None, None),
    "solve": (dict | None, None),
    "env.id": (str, None),
    "env.num_envs": (int, 1),
    "env.kwargs": (dict, None),
    "env.imports": (list[str], None),
    "env.vectorization": (typing.Literal["auto", "native", "sync", "async"], None),
}


class ConfigError(ValueError):
    """All that is wrong with a configuration, one problem a line."""

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("\n".join(dict.fromkeys(problems)))


def load(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> DictConfig:
    """The composed, checked configuration.

    Arguments:
        overrides: such as `agent=bayes_dqn`, `steps=1000`, `env.kwargs.size=20`.
        config_dirs: directories searched beside the package's own configurations.

    Raises:
        ConfigError: every problem found, one a line.
    """
    search = [f"hydra.searchpath=[{','.join(Path(d).resolve().as_uri() for d in config_dirs)}]"] if config_dirs else []
    problems: list[str] = []
    with initialize_config_module("bayesrl.configs", version_base="1.3"):
        groups = _groups(search)
        choices, values = [], []
        for text in overrides:
            try:
                override = OverridesParser.create().parse_override(text)
            except HydraException:
                problems.append(f"got '{text}', wanted key=value, such as steps=1000 (a value with spaces or commas in quotes)")
                continue
            key = override.key_or_group
            if key not in groups:
                values.append((text, key))
            elif override.value() is None or override.value() in groups[key]:
                choices.append(text)
            else:
                problems.append(_unknown(f"{key}={override.value()}", f"a {key}", str(override.value()), groups[key]))
        base = compose("train", [*search, *choices])
        good = [text for text, key in values if _exists(base, key, text, groups, problems)]
        try:
            config = compose("train", [*search, *choices, *good])
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError([*problems, f"got a configuration Hydra refuses: {str(error).splitlines()[0]}"]) from error
    problems += check(config)
    if problems:
        raise ConfigError(problems)
    return config


def check(config: DictConfig) -> list[str]:
    """Everything wrong with the values of a composed configuration."""
    problems = []
    for key, (wanted, least) in SETTINGS.items():
        value = OmegaConf.select(config, key)
        plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if not fits(plain, wanted):
            problems.append(f"got {key}={plain!r}, wanted {spell(wanted)}")
        elif least is not None and isinstance(plain, int | float) and plain < least:
            problems.append(f"got {key}={plain}, wanted at least {least}")
    for name in ("agent", "posterior", "network", "exploration", "tracking"):
        problems += _check_node(OmegaConf.to_container(config[name], resolve=True), name)
    return problems


def fits(value: Any, wanted: Any) -> bool:
    """Whether a plain value is of the wanted type; an int is a float, a bool is neither."""
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted in (Any, inspect.Parameter.empty):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is typing.Literal:
        return value in args
    if wanted in (int, float):
        return isinstance(value, int if wanted is int else (int, float)) and not isinstance(value, bool)
    if origin in (list, tuple, collections.abc.Sequence):
        return isinstance(value, list | tuple) and all(fits(item, args[0]) for item in value if args)
    if isinstance(wanted, type) and wanted in (str, bool, dict, list, tuple, type(None)):
        return isinstance(value, wanted)
    return True


def spell(wanted: Any) -> str:
    """A type in a user's words."""
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(spell(arg) for arg in args)
    if origin is typing.Literal:
        return "one of " + ", ".join(args)
    if origin in (list, tuple, collections.abc.Sequence):
        return f"a list of {spell(args[0]).removeprefix('a ').removeprefix('an ')}s" if args else "a list"
    names = {int: "an integer", float: "a number", str: "a text", bool: "true or false", dict: "keys with values"}
    return names.get(wanted, "null" if wanted is type(None) else str(wanted))


def flat(config: DictConfig) -> dict[str, Any]:
    """Every leaf by its dotted name."""
    out: dict[str, Any] = {}

    def walk(node: Any, prefix: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{prefix}.{key}" if prefix else str(key))
        else:
            out[prefix] = node

    walk(OmegaConf.to_container(config, resolve=True), "")
    return out


def _groups(search: list[str]) -> dict[str, list[str]]:
    compose("train", search)  # for the search path
    loader = GlobalHydra.instance().config_loader()
    return {g: loader.get_group_options(g) for g in loader.list_groups("") if g not in ("hydra", "__pycache__")}


def _exists(base: DictConfig, key: str, text: str, groups: dict[str, list[str]], problems: list[str]) -> bool:
    """Whether a dotted key is one of the configuration's; else why not is added to `problems`."""
    if text.startswith(("+", "~")) or any(key.startswith(f"{name}.") for name in OPEN):
        return True
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(base, parent) if parent else base
    if OmegaConf.is_dict(node) and leaf in node:
        return True
    if node is None and parent in SETTINGS:
        return True
    options = [str(k) for k in node] if OmegaConf.is_dict(node) else [str(k) for k in [*base, *groups]]
    where = f"a key of {parent}" if OmegaConf.is_dict(node) and parent else "a setting"
    problems.append(_unknown(text, where, leaf if OmegaConf.is_dict(node) else key, options))
    return False


def _unknown(text: str, what: str, name: str, options: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, options, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    listed = ", ".join(sorted(dict.fromkeys(o for o in options if not o.startswith("_"))))
    return f"got {text}, wanted {what} that exists: {hint}there are {listed}"


def _check_node(node: Any, where: str) -> list[str]:
    """Names and types of a `_target_` and its arguments, against its signature."""
    if not isinstance(node, dict) or "_target_" not in node:
        return []
    try:
        target = get_object(node["_target_"])
    except Exception as error:
        return [f"got {where}._target_={node['_target_']}, wanted something that can be imported: {error}"]
    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(function)
    except NameError:
        hints = {}
    problems = []
    for key, value in node.items():
        if key.startswith("_"):
            continue
        if key not in parameters and not takes_any:
            problems.append(_unknown(f"{where}.{key}", f"an argument of {node['_target_']}", key, list(parameters)))
        elif isinstance(value, dict) and "_target_" in value:
            problems += _check_node(value, f"{where}.{key}")
        elif not fits(value, hints.get(key, Any)):
            problems.append(f"got {where}.{key}={value!r}, wanted {spell(hints[key])}")
    return problems


def only_accepted(target: str, parts: dict[str, Any]) -> dict[str, Any]:
    """Those of `parts` that the target's signature names."""
    parameters = inspect.signature(functools.partial(get_object(target))).parameters
    return {name: part for name, part in parts.items() if name in parameters}
