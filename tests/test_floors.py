"""Imports point down the floors only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = [
    {"bayesrl.network", "bayesrl.modules", "bayesrl.likelihoods", "bayesrl.priors", "bayesrl.optim"},
    {"bayesrl.posteriors"},
    {
        "bayesrl.agent", "bayesrl.td", "bayesrl.exploration", "bayesrl.history", "bayesrl.scaling", "bayesrl.replay",
        "bayesrl.capture", "bayesrl.worlds", "bayesrl.prequential",
        "bayesrl.dynamics", "bayesrl.propagation", "bayesrl.planning", "bayesrl.mpc", "bayesrl.actors",
        "bayesrl.imagination",
        "bayesrl.active", "bayesrl.calibration", "bayesrl.interpretation", "bayesrl.figures",
        "bayesrl.raster", "bayesrl.diagnostics", "bayesrl.aggregate", "bayesrl.charts",
    },
    {
        "bayesrl.agents", "bayesrl.environments", "bayesrl.device_environments", "bayesrl.rollout",
        "bayesrl.evaluation", "bayesrl.tracker", "bayesrl.logger",
        "bayesrl.checkpoint", "bayesrl.run", "bayesrl.testing", "bayesrl.explanation",
        "bayesrl.policy", "bayesrl.drawings", "bayesrl.episode",
        "bayesrl.frames", "bayesrl.screens", "bayesrl.graph",
    },
]  # fmt: skip
FILES = [
    path
    for folder in ("bayesrl", "agents", "envs")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.parent.name != "templates"  # what `bayesrl.new` hands out
]


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "bayesrl" else ("bayesrl", *parts)
    return ".".join(part for part in parts if part != "__init__")


def floor(name: str) -> int:
    """0 at the bottom; the commands, which nobody imports, on top."""
    for number, names in enumerate(FLOORS):
        if any(name == known or name.startswith(known + ".") for known in names):
            return number
    return len(FLOORS)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    name, used = module(path), imports(path)
    ours = {u for u in used if u.split(".")[0] == "bayesrl"}
    assert not used & {"agents", "envs"}, "import bayesrl.agents and bayesrl.envs by their full names"
    if name.startswith("bayesrl.envs"):
        assert all(u.startswith("bayesrl.envs") for u in ours)
        return
    for other in ours - {"bayesrl"}:
        if other.startswith("bayesrl.envs"):
            assert floor(name) >= 3 and not name.startswith("bayesrl.agents"), f"{name} imports {other}"
        else:
            assert floor(other) <= floor(name), f"{name} imports {other}, which is above it"
    if name.startswith("bayesrl.agents"):
        assert not ours & {"bayesrl.rollout", "bayesrl.logger"}
    elif floor(name) < len(FLOORS):
        assert not any(u.startswith("bayesrl.agents") for u in ours)
    if floor(name) < len(FLOORS):
        assert not any(u.split(".")[0] in ("hydra", "omegaconf") for u in used), f"{name} knows Hydra"


def test_every_module_has_a_floor() -> None:
    known = {n for names in FLOORS for n in names} | {
        "bayesrl", "bayesrl.train", "bayesrl.evaluate", "bayesrl.explain", "bayesrl.launch", "bayesrl.building",
        "bayesrl.config", "bayesrl.targets",
        "bayesrl.run_dir", "bayesrl.sweep",
        "bayesrl.report", "bayesrl.runs", "bayesrl.comparison", "bayesrl.page",
        "bayesrl.new", "bayesrl.check",
        "bayesrl.watch", "bayesrl.export",
    }  # fmt: skip
    loose = {
        m for m in map(module, FILES) if not m.startswith(("bayesrl.envs", "bayesrl.agents", "bayesrl.posteriors"))
    }
    assert loose <= known
