"""Construction of one environment from an id, a name or a class, with errors of one sentence."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import entry_points

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.error import DependencyNotInstalled

from bayesrl.envs.errors import EnvError, require_env
from bayesrl.envs.vector.adapters import Single
from bayesrl.envs.vector.tensor_env import TensorEnv

EXTRAS = {
    "atari": "atari",
    "box2d": "box2d",
    "mujoco": "mujoco",
    "classic_control": "classic",
    "classic-control": "classic",
}  # Gymnasium's name -> ours

EnvId = str | Callable[..., gym.Env]


def single(env_id: EnvId, kwargs: dict | None = None, imports: Sequence[str] = ()) -> gym.Env:
    """Return one environment, with its time limit.

    Arguments:
        env_id: a registered id, "module:Id-v0" (the module registers it), "module:Name" (a class or function in it), or
            a class or function. One environment of a class that derives from TensorEnv is a `Single`. Ids of installed
            packages are found too, where they declare a module in the entry-point group `bayesrl.envs`.
        kwargs: of the environment.
        imports: modules to import first, such as those that register environments.
    """
    kwargs = dict(kwargs or {})
    spec, creator = find(env_id, imports)
    build: Callable
    tensors = tensor_version(spec, creator) if spec is None or spec.entry_point is None else None
    if tensors is not None:
        creator, build = tensors, lambda: Single(tensors(**configured(spec, kwargs)))
    elif spec is not None:
        # `check` does once what Gymnasium's passive checker would do at every step.
        build = partial(gym.make, spec, disable_env_checker=True, **kwargs)
    else:
        assert creator is not None  # `find` gives one or the other
        build = partial(creator, **kwargs)
    env = guarded(build, env_id, creator, kwargs)
    require_env(env)
    return env


def find(env_id: EnvId, imports: Sequence[str] = ()) -> tuple[EnvSpec | None, Callable | None]:
    """Return the registered spec, or None, and the class or function that builds one environment, or None.

    A spec that has only a vector version has no such class or function.
    """
    for wanted in (imports,) if isinstance(imports, str) else imports:
        _import(wanted)
    if not isinstance(env_id, str):
        if not callable(env_id):
            raise EnvError(f"got env_id={env_id!r}, wanted an id or a class; try 'CartPole-v1' or 'my_module:Env'")
        return None, env_id
    module_name, _, name = env_id.rpartition(":")
    module = _import(module_name) if module_name else None
    if name not in gym.registry and callable(found := getattr(module, name, None)):
        return None, found
    faults = [] if name in gym.registry else import_packages()
    try:
        spec = gym.spec(name)
    except gym.error.Error as error:
        known = [*gym.registry, *(f"{module_name}:{key}" for key in (vars(module) if module else ()) if key[0] != "_")]
        near = difflib.get_close_matches(env_id, known, 3, 0.5)
        guess = f"did you mean {' or '.join(near)}? else " if near else ""
        raise EnvError(
            f"got env_id={env_id!r}, wanted a registered id or 'module:Name'; {guess}name the module that registers it "
            f"in `imports`{''.join(f'; {fault}' for fault in faults)}"
        ) from error
    point = spec.entry_point
    return spec, None if point is None else guarded(partial(entry, point), env_id, None, {})


def import_packages() -> list[str]:
    """Import the modules that installed packages declare in the group `bayesrl.envs`; return the failures."""
    faults = []
    for point in entry_points(group="bayesrl.envs"):
        try:
            importlib.import_module(point.module)
        except Exception as error:
            package = point.dist.name if point.dist else point.name
            faults.append(f"the package {package} could not be imported ({type(error).__name__}: {error})")
    return faults


def tensor_version(spec: EnvSpec | None, creator: Callable | None) -> type[TensorEnv] | None:
    """Return the TensorEnv that an environment is, or has as its vector version, or None."""
    try:
        found = creator if spec is None else spec.vector_entry_point and entry(spec.vector_entry_point)
    except (ImportError, DependencyNotInstalled):
        return None
    return found if isinstance(found, type) and issubclass(found, TensorEnv) else None


def configured(spec: EnvSpec | None, kwargs: dict) -> dict:
    """Return the arguments of a vector version: the registered ones, with the time limit, updated by `kwargs`."""
    if spec is None:
        return kwargs
    limit = {} if spec.max_episode_steps is None else {"max_episode_steps": spec.max_episode_steps}
    return limit | spec.kwargs | kwargs


def entry(entry_point: str | Callable) -> Callable:
    """Return the class or function of a registered entry point."""
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def guarded(build: Callable, env_id: EnvId, creator: Callable | None, kwargs: dict):
    """Return build(); raise EnvError with the reason where it fails."""
    name = name_of(env_id)
    try:
        return build()
    except EnvError:
        raise
    except DependencyNotInstalled as error:
        raise EnvError(f"got {name} without a package that it needs ({error}), wanted it; {_remedy(error)}") from error
    except TypeError as error:
        accepted = _parameters(creator)
        if accepted is not None and (unknown := [key for key in kwargs if key not in accepted]):
            raise EnvError(
                f"got {listed(unknown)} for {name}, wanted only {listed(accepted)}; rename or remove it"
            ) from error
        raise EnvError(
            f"got TypeError from {name} ({error}), wanted it built with {listed(kwargs)}; "
            f"it takes {listed(accepted or [])}"
        ) from error
    except Exception as error:
        raise EnvError(
            f"got {type(error).__name__} from {name} ({error}), wanted it built with {kwargs}; correct the "
            "kwargs or the environment"
        ) from error


def name_of(env_id: EnvId) -> str:
    """Return the name of an environment."""
    return env_id if isinstance(env_id, str) else getattr(env_id, "__qualname__", repr(env_id))


def listed(names: Iterable[str]) -> str:
    """Return keywords as text for a message."""
    return ", ".join(map(repr, names)) or "no keywords"


def _import(module: str):
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise EnvError(
            f"got {type(error).__name__} on importing {module!r} ({error}), wanted a module that imports; install it, "
            "or put its folder on PYTHONPATH"
        ) from error


def _remedy(error: Exception) -> str:
    extra = re.search(r"gymnasium\[([\w-]+)\]", str(error))
    if extra is None:
        return "install the package it names"
    ours = EXTRAS.get(extra[1])
    return f'pip install "bayesrl[{ours}]"' if ours else f'pip install "gymnasium[{extra[1]}]"'


def _parameters(creator: Callable | None) -> list[str] | None:
    """Return the names of the arguments of `creator`, or None where it takes any."""
    if creator is None:
        return None
    try:
        parameters = inspect.signature(creator).parameters
    except (TypeError, ValueError):
        return None
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return None if anything else list(parameters)
