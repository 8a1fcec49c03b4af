"""Packages are ordered, imports point down, and no module imports itself by way of others."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From the ground up: a package imports from itself and from what stands before it.
ORDER = (
    "version", "annotations", "envs", "optim", "compilation", "networks", "likelihoods", "priors", "posteriors", "rl",
    "metrics", "plotting", "world_models", "agents", "deployment", "training", "experiment", "reporting", "testing",
    "api",
)  # fmt: skip
COMMANDS = ("train", "evaluate", "explain", "report", "watch", "export", "check", "new")
HYDRA = ("experiment", "reporting", *COMMANDS)  # what knows Hydra and OmegaConf
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


MODULES = {module(path): path for path in FILES}


def package(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere in it, those for type checking too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & MODULES.keys()
            if not inner <= MODULES.keys():
                names.add(node.module)
    return names


GRAPH = {name: {used for used in imports(path) if used in MODULES} for name, path in MODULES.items()}


def rank(name: str) -> int:
    """Place of a module's package from the ground up; the commands stand above all, `bayesrl` itself above them."""
    first = package(name)
    return ORDER.index(first) if first in ORDER else len(ORDER) + (first not in COMMANDS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    above = {used for used in GRAPH[name] if rank(used) > rank(name)}
    assert not above, f"{name} imports {above}, which stand above it"


@pytest.mark.parametrize("name", MODULES)
def test_a_package_of_the_ground_knows_its_own_alone(name: str) -> None:
    if package(name) == "envs":
        assert all(used.startswith("bayesrl.envs") for used in GRAPH[name])


@pytest.mark.parametrize("name", MODULES)
def test_hydra_is_known_to_the_commands_alone(name: str) -> None:
    knows = {used.split(".")[0] for used in imports(MODULES[name])} & {"hydra", "omegaconf"}
    assert not knows or package(name) in HYDRA


def test_every_package_has_a_place() -> None:
    assert {package(name) for name in MODULES} <= {"", "__main__", "cli", *ORDER, *COMMANDS}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan, 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for used in graph[name]:
            if used not in number:
                visit(used)
            if used in stack:
                low[name] = min(low[name], low[used])
        if low[name] == number[name]:
            at = stack.index(name)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1 or name in graph[name]:
                found.append(component)

    for name in graph:
        if name not in number:
            visit(name)
    return found


def test_no_circle_of_modules() -> None:
    assert circles(GRAPH) == []


@pytest.mark.parametrize("folder", ["bayesrl", "bayesrl.envs"])
def test_no_circle_of_packages(folder: str) -> None:
    """Folders, too, are ordered: those of `bayesrl`, and those inside `envs`."""
    depth = folder.count(".") + 2

    def room(name: str) -> str:
        return ".".join(name.split(".")[:depth])

    inside = {name for name in MODULES if name.startswith(f"{folder}.")}
    graph: dict[str, set[str]] = {room(name): set() for name in inside}
    for name in inside:
        graph[room(name)] |= {room(used) for used in GRAPH[name] & inside} - {room(name)}
    assert circles(graph) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
