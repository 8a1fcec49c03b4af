"""Arguments that a `_target_` of a configuration takes, by its signature, annotations and docstring."""

from __future__ import annotations

import collections.abc
import difflib
import functools
import importlib
import inspect
import logging
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from hydra.utils import get_object

from bayesrl.annotations import Ge, Le


def check_target(node: Any, where: str) -> list[str]:
    """Names and types of a `_target_` and its arguments, against its signature."""
    if not isinstance(node, dict) or "_target_" not in node:
        return []
    logged = logging.root.manager.disable
    logging.disable(logging.ERROR)  # Hydra's own words, of several lines
    try:
        target = get_object(node["_target_"])
    except Exception:
        return [_missing(node["_target_"], f"{where}._target_")]
    finally:
        logging.disable(logged)
    if not callable(target):
        return [f"got {where}._target_={node['_target_']}, which is {target!r}, wanted a class or a function"]
    taken = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    hints = type_hints(target)
    problems = []
    for key, value in node.items():
        if key.startswith("_"):
            continue
        if key not in taken and not takes_any:
            problems.append(unknown(f"{where}.{key}", f"an argument of {node['_target_']}", key, list(taken)))
        elif isinstance(value, dict) and "_target_" in value:
            place = f"{where}.{key}"
            problems += check_target(value, place) or _kind(value, place, hints.get(key)) or _whole(value, place)
        elif value is None and key in taken and taken[key].default is None:
            continue
        elif not matches(value, hints.get(key, Any)):
            problems.append(f"got {where}.{key}={value!r}, wanted {describe_type(hints[key])}")
        elif bound := out_of_bounds(value, hints.get(key, Any)):
            problems.append(f"got {where}.{key}={value!r}, wanted {bound}")
        elif isinstance(value, list):
            problems += [each for i, item in enumerate(value) for each in check_target(item, f"{where}.{key}[{i}]")]
    return problems


def _kind(node: dict, where: str, wanted: Any) -> list[str]:
    """Return a problem where a `_target_` builds an object of another class than is wanted."""
    target, wanted = get_object(node["_target_"]), _plain(wanted)
    kinds = typing.get_args(wanted) or (wanted,)
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    plain = all(inspect.isclass(kind) and not getattr(kind, "_is_protocol", False) for kind in kinds)
    if node.get("_partial_") or not (plain and inspect.isclass(target)) or issubclass(target, kinds):
        return []
    named = " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    return [f"got {where}._target_={node['_target_']}, wanted {named} or a class derived from it"]


def _whole(node: dict, where: str) -> list[str]:
    """Return a problem where a `_target_` lacks required arguments and is not partial."""
    target = get_object(node["_target_"])
    found = inspect.signature(target).parameters.values()
    needed = [p.name for p in found if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    lacking = [name for name in needed if name not in node]
    if node.get("_partial_") or not lacking or "_args_" in node:
        return []
    itself = " or, where the function itself is wanted, _partial_: true" * (not inspect.isclass(target))
    return [f"got {where}._target_={node['_target_']} without {', '.join(lacking)}, wanted them{itself}"]


def _missing(path: str, where: str) -> str:
    """Return why something cannot be imported."""
    module, _, name = str(path).rpartition(".")
    try:
        found = importlib.import_module(module)
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return f"got {where}={path}, wanted something that can be imported: {why}"
    own = [key for key, value in vars(found).items() if getattr(value, "__module__", None) == module]
    return unknown(f"{where}={path}", f"a name of {module}", name, own)


def accepted_arguments(target: str | Callable, parts: dict[str, Any]) -> dict[str, Any]:
    """Return what the target takes of `parts`."""
    names = parameters(get_object(target) if isinstance(target, str) else target)
    return {name: part for name, part in parts.items() if name in names}


def parameters(target: Callable) -> dict[str, inspect.Parameter]:
    """Return what a target takes, by name; a class whose `__init__` ends in **others takes also what its bases take."""
    out: dict[str, inspect.Parameter] = {}
    for each in inspect.getmro(target) if inspect.isclass(target) else (target,):
        found = inspect.signature(each).parameters
        out = dict(found) | out
        if not any(p.kind is p.VAR_KEYWORD for p in found.values()):
            break
    return out


def type_hints(target: Callable) -> dict[str, Any]:
    """Return the types of a target's parameters, bounds included; nothing where a name in them cannot be resolved."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except NameError:
        return {}


def defaults(target: Callable, supplied: Sequence[str] = ()) -> dict[str, Any]:
    """Return the defaults of a target as a configuration says them: plain values, and functions as `_target_`s.

    Arguments:
        target: a class or a function.
        supplied: names of parameters that no configuration gives.
    """
    hints = type_hints(target)
    out: dict[str, Any] = {}
    for name, parameter in parameters(target).items():
        default, wanted = parameter.default, hints.get(name, Any)
        if name in supplied or default is parameter.empty:
            continue
        if isinstance(default, bool | int | float | str) or (default is None and _configurable(wanted)):
            out[name] = default
        elif isinstance(default, list | tuple | dict):
            out[name] = _listed(default)
        elif callable(default) and collections.abc.Callable in (typing.get_origin(_plain(wanted)), _plain(wanted)):
            function = default.func if isinstance(default, functools.partial) else default
            keywords = _listed(default.keywords) if isinstance(default, functools.partial) else {}
            path = f"{function.__module__}.{function.__qualname__}"
            out[name] = {"_target_": path, "_partial_": True, **keywords}
    return out


def documentation(target: Callable) -> dict[str, str]:
    """Return what the docstring of a target says of each argument, by name."""
    out: dict[str, str] = {}
    for each in reversed(inspect.getmro(target)) if inspect.isclass(target) else (target,):
        section = (inspect.getdoc(each) or "").partition("Arguments:\n")[2].partition("\n\n")[0]
        for names, about in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", section, re.M):
            out |= dict.fromkeys(names.split(", "), " ".join(about.split()))
    return out


def out_of_bounds(value: Any, wanted: Any) -> str:
    """Return which bound of an annotation a number breaks, in words; nothing where it breaks none."""
    if typing.get_origin(wanted) is not Annotated or not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    bounds = (note for note in wanted.__metadata__ if isinstance(note, Ge | Le))
    return next((words for bound in bounds if (words := bound.violation(value))), "")


def _plain(wanted: Any) -> Any:
    """Return a type without its bounds."""
    return typing.get_args(wanted)[0] if typing.get_origin(wanted) is Annotated else wanted


def _configurable(wanted: Any) -> bool:
    """Return whether a plain value or a function, and no object, is wanted beside None."""
    wanted = _plain(wanted)
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return all(_configurable(arg) for arg in typing.get_args(wanted))
    return wanted in (bool, int, float, str, list, tuple, dict, type(None)) or typing.get_origin(wanted) in (
        typing.Literal, list, tuple, dict, collections.abc.Sequence, collections.abc.Callable,
    )  # fmt: skip


def _listed(node: Any) -> Any:
    """Return nested containers with lists in place of tuples."""
    if isinstance(node, dict):
        return {key: _listed(value) for key, value in node.items()}
    return [_listed(value) for value in node] if isinstance(node, list | tuple) else node


def matches(value: Any, wanted: Any) -> bool:
    """Return whether a value is of a type; an int is a float, a bool is neither, a `_target_` stands for an object."""
    wanted = _plain(wanted)
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted in (Any, inspect.Parameter.empty):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, arg) for arg in args)
    if origin is typing.Literal:
        return (type(value), value) in [(type(arg), arg) for arg in args]
    if wanted in (int, float):
        return isinstance(value, int if wanted is int else (int, float)) and not isinstance(value, bool)
    if origin in (list, tuple, collections.abc.Sequence):
        return isinstance(value, list | tuple) and all(matches(item, args[0]) for item in value if args)
    if isinstance(wanted, type) and wanted in (str, bool, dict, list, tuple, type(None)):
        return isinstance(value, wanted)
    return not _built(wanted) or (isinstance(value, dict) and "_target_" in value)


def _built(wanted: Any) -> bool:
    """Return whether only a `_target_` gives such a value: a function, or an instance of a class of this package."""
    ours = inspect.isclass(wanted) and wanted.__module__.partition(".")[0] == "bayesrl"
    return ours or collections.abc.Callable in (wanted, typing.get_origin(wanted))


def describe_type(wanted: Any) -> str:
    """Return a type in a user's words."""
    wanted = _plain(wanted)
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe_type(arg) for arg in args)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(arg).lower() for arg in args)
    if origin in (list, tuple, collections.abc.Sequence):
        if args and _built(args[0]):
            return f"a list, each {describe_type(args[0])}"
        return f"a list of {describe_type(args[0]).removeprefix('a ').removeprefix('an ')}s" if args else "a list"
    if _built(wanted):
        if collections.abc.Callable in (wanted, origin):
            return "a function, {_target_: module.name, _partial_: true}"
        return f"a _target_ that is {wanted.__module__}.{wanted.__qualname__} or a class derived from it"
    names = {
        int: "an integer",
        float: "a number",
        str: "a text",
        bool: "true or false",
        dict: "keys with values",
        list: "a list",
    }
    return names.get(wanted, "null" if wanted is type(None) else str(wanted))


def unknown(text: str, what: str, name: str, options: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, options, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    listed = ", ".join(sorted(dict.fromkeys(o for o in options if not o.startswith("_")))) or "none"
    return f"got {text}, wanted {what} that exists: {hint}there are {listed}"
