"""Configuration of the commands: composed by Hydra, checked here as a whole before anything runs.

Every problem is collected, and all are reported together with the options that exist.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from hydra.utils import get_object
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bayesrl.experiment import signatures
from bayesrl.experiment.settings import SETTINGS, SOLVE, defaults
from bayesrl.experiment.signatures import check_target, describe_type, matches, out_of_bounds, unknown

# Groups that say what to build.
COMPONENTS = ("agent", "posterior", "network", "likelihood", "exploration", "target_update", "planner", "imagination")
WORLD = ("network", "likelihood", "posterior")  # what an imagination is made of, beside its own settings
SUPPLIED = ("spec", "categories", "size", *COMPONENTS)  # arguments of components that no configuration gives
OPEN = ("env.kwargs",)  # dictionaries that take any key
RESUMABLE = ("steps", "device", "threads", "stop.", "log.", "workers.timeout", "workers.restarts", "callbacks")

Check = Callable[[DictConfig], Iterable[str]]  # problems of a configuration


class ConfigError(ValueError):
    """A configuration that is wrong; the message has a line for each problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("\n".join(dict.fromkeys(problems)))


@contextlib.contextmanager
def hydra_session() -> Iterator[None]:
    """Let Hydra compose from the package's own files; an application's own session is set aside and put back."""
    instances: dict[type, Any] = Singleton._instances
    outer = {kind: instances.pop(kind, None) for kind in (GlobalHydra, VersionBase)}
    store = ConfigStore.instance()
    store.store("bayesrl_settings", defaults())  # which train.yaml names among its defaults
    try:
        with initialize_config_module("bayesrl.configs", version_base="1.3"):
            yield
    finally:
        store.repo.pop("bayesrl_settings.yaml", None)
        for kind, instance in outer.items():
            instances.pop(kind, None)
            if instance is not None:
                instances[kind] = instance


def load(
    overrides: Sequence[str],
    config_dirs: Sequence[str] = (),
    checks: Sequence[Check] = (),
    nodes: Mapping[str, Any] | None = None,
) -> DictConfig:
    """Return a configuration that is composed and checked.

    Arguments:
        overrides: such as `agent=bayes_dqn`, `steps=1000`, `env.kwargs.size=20`.
        config_dirs: directories searched beside the package's own configurations.
        checks: further ones, made where the settings are well-formed.
        nodes: values by dotted name that take the place of what the files say, such as a `_target_` that no option of
            its group names; overrides of settings inside them apply to them.

    Raises:
        ConfigError: every problem found, one a line.
    """
    problems: list[str] = []
    parsed = [parse(text, problems) for text in overrides]
    with hydra_session():
        search = search_path(config_dirs)
        options = groups(config_dirs)
        choices: list[str] = []
        values: list[Override] = []
        for override in filter(None, parsed):
            key, value = override.key_or_group, override.value()
            if key not in options:
                values.append(override)
            elif value in options[key] or (value is None and key == "experiment"):
                choices.append(str(override.input_line))
            else:
                problems.append(unknown(f"{key}={value}", f"an option of {key}", str(value), options[key]))
        try:
            base = complete(_replaced(compose("train", [*search, *choices]), nodes))
            inside = tuple(f"{key}." for key in nodes or ())
            later = [override for override in values if override.key_or_group.startswith(inside)]
            values = [override for override in values if override not in later]
            good = [word for override in values if (word := _spelled(override, base, options, problems))]
            config = _replaced(compose("train", [*search, *choices, *good]), nodes)
            for override in later:
                OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
            config = complete(config)
            problems += check(config, checks)
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(f"got a configuration that does not compose: {str(error).splitlines()[0]}")
    if problems:
        raise ConfigError(problems)
    return config


def _replaced(config: DictConfig, nodes: Mapping[str, Any] | None) -> DictConfig:
    for key, node in (nodes or {}).items():
        OmegaConf.update(config, key, node, merge=False, force_add=True)
    return config


def resumed(stored: DictConfig, overrides: Sequence[str], checks: Sequence[Check] = ()) -> DictConfig:
    """Return a stored configuration with the settings that may change when it is resumed, checked.

    Raises:
        ConfigError: every problem found, one a line.
    """
    problems: list[str] = []
    config = stored.copy()
    OmegaConf.set_struct(config, True)
    allowed = ", ".join(key + "*" * key.endswith(".") for key in RESUMABLE)
    families = tuple(key for key in RESUMABLE if key.endswith("."))
    for override in filter(None, [parse(text, problems) for text in overrides]):
        key = override.key_or_group
        if key not in (*RESUMABLE, "resume") and not key.startswith(families):
            problems.append(
                f"got {override.input_line} with resume, wanted only {allowed}: a resumed run keeps the rest, "
                "start a new run to change it"
            )
        elif key != "resume" and _spelled(override, config, {}, problems):
            OmegaConf.update(config, key, override.value())
    try:
        problems += check(config, checks)
    except OmegaConfBaseException as error:
        problems.append(f"got a stored configuration that does not resolve: {str(error).splitlines()[0]}")
    if problems:
        raise ConfigError(problems)
    return config


def check(config: DictConfig, checks: Sequence[Check] = ()) -> list[str]:
    """Return all problems of a composed configuration; `checks` run where there are no others."""
    problems = []
    solve = config.get("solve")
    if solve is not None and not OmegaConf.is_dict(solve):
        problems.append(f"got solve={solve}, wanted null or its settings, such as solve.threshold=475")
    solve = solve if OmegaConf.is_dict(solve) else {}
    wanted = SETTINGS | {key: rule for key, rule in SOLVE.items() if key.removeprefix("solve.") in solve}
    for key, setting in wanted.items():
        value = OmegaConf.select(config, key)
        plain: Any = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        if not matches(plain, setting.annotation):
            problems.append(f"got {key}={plain}, wanted {describe_type(setting.annotation)}")
        elif isinstance(plain, int | float) and not math.isfinite(plain):
            problems.append(f"got {key}={plain}, wanted a finite number")
        elif bound := out_of_bounds(plain, setting.annotation):
            problems.append(f"got {key}={plain}, wanted {bound}")
    known = ("solve", *wanted, *(f"{name}." for name in (*OPEN, *COMPONENTS)))
    for key, value in flat(config).items():
        if key not in known and not key.startswith(tuple(k for k in known if k.endswith("."))):
            problems.append(unknown(f"{key}={value}", "a setting", key, [*SETTINGS, *SOLVE]))
    nodes: dict[str, Any] = {name: config.get(name) for name in COMPONENTS if name != "imagination" or config.get(name)}
    whole: Any = nodes.get("imagination")
    if OmegaConf.is_dict(whole) and "_target_" in whole:
        nodes |= {"imagination": own(whole)} | {f"imagination.{name}": whole.get(name) for name in WORLD}
    for name, node in nodes.items():
        if OmegaConf.is_dict(node) and "_target_" in node:
            problems += check_target(OmegaConf.to_container(node, resolve=True), name)
            problems += [
                f"got {name}.{key}, wanted the {key} beside the {name}: say {key}=OPTION, or {key}.SETTING=VALUE"
                for key in COMPONENTS
                if key in node
            ]
        else:
            problems.append(f"got {name}={node}, wanted a configuration with a _target_: choose one of its group")
    problems += [
        problem for i, node in enumerate(wrappers(config)) for problem in _check_wrapper(node, f"env.wrappers[{i}]")
    ]
    problems += [
        problem for i, node in enumerate(callbacks(config)) for problem in _check_callback(node, f"callbacks[{i}]")
    ]
    return problems or [problem for further in checks for problem in further(config)]


def complete(config: DictConfig) -> DictConfig:
    """Return a configuration whose components say every setting: what it leaves out, their constructors declare."""
    OmegaConf.set_struct(config, False)
    for name in COMPONENTS:
        node = config.get(name)
        if OmegaConf.is_dict(node):
            for part in WORLD if name == "imagination" else ():
                if OmegaConf.is_dict(node.get(part)):
                    node[part] = completed(OmegaConf.to_container(node[part]))
            config[name] = completed(OmegaConf.to_container(node))
    OmegaConf.set_struct(config, True)
    return config


def completed(node: Any) -> Any:
    """Return a `_target_` with the defaults of its constructor under what it says, and so for those inside it."""
    if isinstance(node, list):
        return [completed(value) for value in node]
    if not isinstance(node, dict):
        return node
    try:
        target = get_object(node["_target_"]) if isinstance(node.get("_target_"), str) else None
        declared = {} if target is None or foreign(target) else signatures.defaults(target, SUPPLIED)
    except Exception:  # `check` says what is wrong with it
        declared = {}
    for key, value in node.items():
        default = declared.get(key)
        if isinstance(value, dict) and isinstance(default, dict) and "_target_" in default:
            inherited = {"_partial_": True} if "_target_" in value else default
            value = inherited | value
        declared[key] = value
    first = {key: declared[key] for key in ("_target_", "_partial_") if key in declared}
    return {key: completed(value) for key, value in (first | declared).items()}


def foreign(target: Any) -> bool:
    """Return whether a target is of torch or Gymnasium; their settings are listed only where they are set."""
    return str(getattr(target, "__module__", "")).partition(".")[0] in ("torch", "gymnasium")


def own(imagination: DictConfig) -> DictConfig:
    """Return the settings of an imagination without the components of its world posterior."""
    return OmegaConf.masked_copy(imagination, [str(key) for key in imagination if key not in WORLD])


def wrappers(config: DictConfig) -> list:
    """Return what `env.wrappers` lists, in plain values."""
    given = OmegaConf.select(config, "env.wrappers")
    return list(OmegaConf.to_container(given, resolve=True)) if OmegaConf.is_list(given) else []  # type: ignore[arg-type]


def callbacks(config: DictConfig) -> list:
    """Return what `callbacks` lists, in plain values."""
    listed = config.get("callbacks")
    return list(OmegaConf.to_container(listed, resolve=True)) if OmegaConf.is_list(listed) else []  # type: ignore[arg-type]


def parse(text: str, problems: list[str]) -> Override | None:
    """Parse an override such as `key=value`; where it is none, return None and add the reason to `problems`."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        problems.append(f"got {text}, wanted key=value, such as steps=1000: quote special characters")
        return None
    if override.is_sweep_override():
        problems.append(
            f"got {text}, wanted one value: add --multirun for a run of each, or put a text with commas in quotes"
        )
        return None
    return override


def groups(config_dirs: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the options of each group; call it inside `hydra_session`."""
    loader = GlobalHydra.instance().config_loader()
    out = {g: loader.get_group_options(g) for g in loader.list_groups("") if g not in ("hydra", "__pycache__")}
    for place in [*map(Path, config_dirs), *packaged()]:
        for path in place.glob("*/*.yaml"):
            out[path.parent.name] = sorted({*out.get(path.parent.name, []), path.stem})
    return out


def plain(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as nested dictionaries."""
    return dict(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


def flat(config: DictConfig) -> dict[str, Any]:
    """Return every leaf by its dotted name."""
    return leaves(plain(config))


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return every leaf of nested dictionaries by its dotted name; an empty dictionary is a leaf."""
    if not (isinstance(tree, dict) and tree):
        return {prefix: tree}
    return {
        k: v for key, node in tree.items() for k, v in leaves(node, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def packaged() -> list[Path]:
    """Return the folders `configs/` of installed packages that declare an entry point in the group `bayesrl.envs`."""
    tops = sorted({point.module.partition(".")[0] for point in entry_points(group="bayesrl.envs")})
    found = [spec for top in tops if (spec := importlib.util.find_spec(top))]
    places = [Path(place) / "configs" for spec in found for place in spec.submodule_search_locations or ()]
    return [place for place in places if place.is_dir()]


def settings(config: DictConfig) -> dict[str, bool | float | str]:
    """Return the settings by which runs are compared, the most important first: components by class, and all values."""
    first = ("env.id", "agent", "posterior", "exploration", "seed")
    out: dict[str, bool | float | str] = {}
    for key, value in flat(config).items():
        name, _, last = key.rpartition(".")
        if name in COMPONENTS and last == "_target_":
            out[name] = value.rpartition(".")[2]
        elif last[:1] != "_" and key not in ("run_dir", "resume") and value is not None:
            out[key] = value if isinstance(value, bool | float | int | str) else str(value)
    return {key: out[key] for key in dict.fromkeys([*first, *out])}


def search_path(config_dirs: Sequence[str]) -> list[str]:
    """Return the override by which Hydra also looks into these directories and those of installed packages."""
    places = ",".join(f"'file://{place.resolve()}'" for place in [*map(Path, config_dirs), *packaged()])
    return [f"hydra.searchpath=[{places}]"] if places else []


def _spelled(override: Override, base: DictConfig, options: dict[str, list[str]], problems: list[str]) -> str | None:
    """Return an override in Hydra's spelling; where `base` has no such key, None, with the reason in `problems`."""
    text, key = str(override.input_line), override.key_or_group
    plain = text.lstrip("+")
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(base, parent) if parent else base
    if override.is_delete() or key in OPEN or any(key.startswith(f"{name}.") for name in OPEN):
        return text if override.is_delete() else f"++{plain}"
    if key in SOLVE or key.split(".")[0] in COMPONENTS:
        return text if override.is_delete() else f"++{plain}"  # `check` compares it with what can be built
    if OmegaConf.is_dict(node) and leaf in node:
        return plain
    inside = parent and OmegaConf.is_dict(node)
    names = [str(k) for k in node] if inside else [*SETTINGS, *options]  # type: ignore[union-attr]
    problems.append(unknown(text, f"a key of {parent}" if inside else "a setting", leaf if inside else key, names))
    return None


def _check_wrapper(node: Any, where: str) -> list[str]:
    if isinstance(node, dict) and "_target_" in node:
        return check_target(node, where)
    wanted = "{_target_: gymnasium.wrappers.TimeLimit, max_episode_steps: 200}"
    return [f"got {where}={node}, wanted a _target_ with its arguments, such as {wanted}"]


def _check_callback(node: Any, where: str) -> list[str]:
    if isinstance(node, dict) and "_target_" in node:
        return check_target(node, where)
    wanted = "{_target_: bayesrl.training.callbacks.EarlyStopping, patience: 5}"
    return [f"got {where}={node}, wanted a _target_ with its arguments, such as {wanted}"]
