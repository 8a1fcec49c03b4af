"""Read runs of version 0.1.0: translate configuration keys, targets and names in checkpoints into those of today.

Each table maps an old name to a new one. Whoever renames something that a run directory stores adds a line here.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from pathlib import Path
from typing import Any

import yaml

# `_target_`s, by their longest prefix; a class that has kept its module has no line.
TARGETS = {
    "bayesrl.actors": "bayesrl.rl.policies",
    "bayesrl.dynamics": "bayesrl.world_models.dynamics",
    "bayesrl.exploration": "bayesrl.rl.exploration",
    "bayesrl.imagination": "bayesrl.world_models.imagination",
    "bayesrl.modules": "bayesrl.networks.layers",
    "bayesrl.network": "bayesrl.networks.builders",
    "bayesrl.posteriors.LaplaceLastLayer": "bayesrl.posteriors.Laplace",
    "bayesrl.posteriors.sgmcmc.PreconditionedSGLD": "bayesrl.posteriors.sgmcmc.PSGLD",
    "bayesrl.planning": "bayesrl.world_models.planners",
    "bayesrl.propagation": "bayesrl.world_models.propagation",
    "bayesrl.scaling.Scaling": "bayesrl.rl.normalization.Normalizer",
    "bayesrl.td": "bayesrl.rl.td",
}
# Dotted keys of `config.yaml`, a group or a setting; None where a setting is gone.
KEYS: dict[str, str | None] = {
    "seeds": None,
    "tracking": "target_update",
    "agent.scaling": "agent.normalizer",
    "planner.kept": "planner.reused",
    "planner.colour": "planner.color",
    "likelihood.least": "likelihood.min_sigma",
    "likelihood.most": "likelihood.max_sigma",
    "likelihood.inner.least": "likelihood.inner.min_sigma",
    "likelihood.inner.most": "likelihood.inner.max_sigma",
    "imagination.likelihood.least": "imagination.likelihood.min_sigma",
    "imagination.likelihood.most": "imagination.likelihood.max_sigma",
    "imagination.likelihood.inner.least": "imagination.likelihood.inner.min_sigma",
    "imagination.likelihood.inner.most": "imagination.likelihood.inner.max_sigma",
    "network.normalise": "network.normalize",
    "imagination.network.normalise": "imagination.network.normalize",
}
# Names in checkpoints and replay files: the first part of a dotted name (`scaling`), or the first ones (`mpc.kept`).
STATE: dict[str, str] = {
    "held": "index",
    "mpc.broken": "mpc.nonfinite",
    "mpc.kept": "mpc.elites",
    "scaling": "normalizer",
    "seen": "window",
    "told": "metrics",
    "tracker": "monitor",
    "tracking": "target_update",
}


def is_legacy(run_dir: Path) -> bool:
    """Return whether version 0.1.0 wrote a run: `run.json` says so or, without it, the names in `config.yaml` do."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        version = json.loads((run_dir / "run.json").read_text())["versions"]["bayesrl"]
        return str(version).startswith("0.1.")
    with contextlib.suppress(OSError, yaml.YAMLError):
        config = yaml.safe_load((run_dir / "config.yaml").read_text())
        return isinstance(config, dict) and translate_config(config) != config
    return False


def warning(run_dir: Path) -> str:
    """Return what a user is told when such a run is opened."""
    return f"{run_dir} was written by version 0.1.0: it is read with its names translated, and is otherwise unchecked"


def translate_config(config: dict) -> dict:
    """Return a plain configuration of version 0.1.0 under the keys and targets of today."""
    config = _translate_targets(copy.deepcopy(config))
    for old in sorted(KEYS, key=lambda key: -key.count(".")):  # settings before the group that they move with
        *groups, leaf = old.split(".")
        node: Any = config
        for group in groups:
            node = node.get(group) if isinstance(node, dict) else None
        if not isinstance(node, dict) or leaf not in node:
            continue
        value, new = node.pop(leaf), KEYS[old]
        if new is not None:
            _insert(config, new.split("."), value)
    return config


def translate_state(state: Any) -> Any:
    """Return a checkpoint, or the columns of a replay file, under the names of today."""
    if isinstance(state, dict):
        return {_rename(key): translate_state(value) for key, value in state.items()}
    return type(state)(map(translate_state, state)) if type(state) in (list, tuple) else state


def translate_target(target: str) -> str:
    """Return the dotted name of today of what a `_target_` names."""
    for old in sorted(TARGETS, key=len, reverse=True):
        if target == old or target.startswith(f"{old}."):
            return TARGETS[old] + target.removeprefix(old)
    return target


def _translate_targets(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: translate_target(value) if key == "_target_" else _translate_targets(value)
            for key, value in node.items()
        }
    return [_translate_targets(value) for value in node] if isinstance(node, list) else node


def _insert(node: dict, path: list[str], value: Any) -> None:
    """Put a value at a path of nested dictionaries; one that meets another there is merged with it."""
    for key in path[:-1]:
        node = node.setdefault(key, {})
    there = node.get(path[-1])
    node[path[-1]] = value | there if isinstance(there, dict) and isinstance(value, dict) else value


def _rename(key: Any) -> Any:
    if not isinstance(key, str):
        return key
    for old in sorted(STATE, key=len, reverse=True):
        renamed = re.sub(rf"^{re.escape(old)}(?![^.])", STATE[old], key)
        if renamed != key:
            return renamed
    return key
