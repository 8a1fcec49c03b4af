"""The text of `--help`: the groups with their options, and every setting with its default and what it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from hydra import compose
from hydra.utils import get_object

from bayesrl.experiment import config, signatures
from bayesrl.experiment.settings import SETTINGS, SOLVE

WIDTH = 100  # of what is said of a setting


def help_text(overrides: Sequence[str] = (), config_dirs: Sequence[str] = ()) -> str:
    """Return the groups with their options, and every setting with its value and what it is.

    Arguments:
        overrides: such as `posterior=ensemble`, whose settings are then the ones shown.
        config_dirs: directories searched beside the package's own configurations.

    Raises:
        ConfigError: an override that is wrong.
    """
    loaded = config.load(overrides, config_dirs) if overrides else None  # checked, which takes longer
    with config.hydra_session():
        options = config.groups(config_dirs)
        choices = [word for word in overrides if word.partition("=")[0] in options]
        composed = compose("train", [*config.search_path(config_dirs), *choices], return_hydra_config=True)
        chosen = composed.hydra.runtime.choices
        loaded = loaded or config.complete(compose("train"))
    lines = ["Groups (* is what the settings below are of)"]
    for group, names in options.items():
        shown = "  ".join(f"{name}{'*' * (name == chosen.get(group))}" for name in names)
        lines.append(f"    {group:12} {shown}")
    about = {key: setting.about for key, setting in (SETTINGS | SOLVE).items()}
    about["solve"] = f"stop at the first test that passes: {', '.join(key.partition('.')[2] for key in SOLVE)}"
    tree = config.plain(loaded)
    for name in config.COMPONENTS:
        about |= _documented(tree.get(name), name) | _commented(name, chosen.get(name))
    lines += ["", "Settings" if overrides else "Settings and their defaults"]
    for key, value in config.flat(loaded).items():
        if "_target_" not in key and "_partial_" not in key:
            text = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
            lines.append(f"    {f'{key}={text}':40} {about.get(key, '')}".rstrip())
    return "\n".join(lines)


def _documented(node: Any, where: str) -> dict[str, str]:
    """Return what docstrings say of the arguments of a `_target_` and of those inside it, by dotted name."""
    if not isinstance(node, dict):
        return {}
    out = {}
    if "_target_" in node:
        texts = signatures.documentation(get_object(node["_target_"]))
        out = {f"{where}.{key}": _shortened(texts[key]) for key in node if key in texts}
    for key, value in node.items():
        out |= _documented(value, f"{where}.{key}")
    return out


def _commented(group: str, option: str | None) -> dict[str, str]:
    """Return the comments of an option's file beside its values, by dotted name."""
    file = resources.files("bayesrl.configs") / group / f"{option}.yaml"
    if not file.is_file():
        return {}
    out: dict[str, str] = {}
    path: list[str] = []
    for indent, key, rest in re.findall(r"^( *)(\w+):(.*)$", file.read_text(), re.M):
        path = [*path[: len(indent) // 2], key]
        if note := rest.partition(" # ")[2].strip():
            out[".".join([group, *path])] = note
    return out


def _shortened(text: str) -> str:
    """Return the first sentence, or as many of its words as have room."""
    first = re.split(r"(?<=\w\w)\.(?: |$)", text)[0].rstrip(".")
    return first if len(first) <= WIDTH else first[: first.rindex(" ", 0, WIDTH)].rstrip(",;:") + " ..."
