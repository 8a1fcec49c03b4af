"""Add to docs/ what mkdocs does not find there: the README as first page, and a page of reference for each module."""

import re
from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bayesrl"
GUIDES = [
    "first_agent", "environments", "python", "posteriors", "choosing", "uncertainty", "model_based", "experiments",
    "slow_simulators", "performance", "commands", "results", "architecture",
]  # fmt: skip
SKIPPED = ("templates", "configs", "__pycache__")  # what `bayesrl.new` hands out, and YAML


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config):
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(ROOT)]
    reference = [{"import bayesrl": "reference/top.md"}]
    reference += [{title: [{short(name): page(name)} for name in names]} for title, names in modules().items()]
    config.nav = [
        {"bayesrl": "index.md"},
        {"Guides": [f"{name}.md" for name in GUIDES]},
        {"Reference": reference},
        {"Contributing": "contributing.md"},
        {"Changes": "changelog.md"},
    ]
    return config


def on_files(files, config):
    top = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
    pages = {page: relink((ROOT / name).read_text()) for page, name in top.items()}
    pages["reference/top.md"] = top_level()
    pages |= {page(name): f"# {name}\n\n::: {name}\n" for names in modules().values() for name in names}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def top_level() -> str:
    """Return the page of the names that `import bayesrl` offers, each with a link to its module."""
    rows = ["# import bayesrl", "", "| name | described in |", "|---|---|"]
    every = [name for names in modules().values() for name in names]
    for module, name in re.findall(r"from (bayesrl[\w.]*) import (\w+) as", (PACKAGE / "__init__.py").read_text()):
        inside = [each for each in every if each == module or each.startswith(f"{module}.")]
        (home,) = [each for each in inside if re.search(rf"^(class|def) {name}\b", source(each), re.M)] or [None]
        if home:
            rows.append(f"| `bayesrl.{name}` | [{home}]({home}.md#{home}.{name}) |")
    return "\n".join(rows)


def source(name: str) -> str:
    return ROOT.joinpath(*name.split(".")).with_suffix(".py").read_text()


def relink(text: str) -> str:
    """Return a page of the repository's root with its links as they are among the pages."""
    for here, there in (("docs/", ""), ("CONTRIBUTING.md", "contributing.md"), ("CHANGELOG.md", "changelog.md")):
        text = text.replace(f"]({here}", f"]({there}")
    return text.replace("[examples](examples/)", "`examples/`")


def short(name: str) -> str:
    """Return a module's name without that of its package."""
    return name.split(".", 2)[-1]


def page(name: str) -> str:
    return f"reference/{name}.md"


def modules() -> dict[str, list[str]]:
    """Return the modules of every package, those of `bayesrl` itself first."""
    found: dict[str, list[str]] = {"bayesrl": []}
    for path in [*sorted(PACKAGE.glob("*.py")), *sorted(folders(PACKAGE))]:
        name = path.stem
        if path.is_dir():
            found[name] = [".".join(("bayesrl", name, *inner)) for inner in submodules(path)]
        elif not name.startswith("__"):
            found["bayesrl"].append(f"bayesrl.{name}")
    return found


def folders(place: Path) -> list[Path]:
    """Return the packages in a folder; some of them are symbolic links."""
    return [path for path in place.iterdir() if (path / "__init__.py").exists() and path.name not in SKIPPED]


def submodules(place: Path) -> list[tuple[str, ...]]:
    """Return the modules below a folder, each as the names that lead to it."""
    found = [(path.stem,) for path in sorted(place.glob("*.py")) if not path.stem.startswith("__")]
    return found + [(inner.name, *names) for inner in sorted(folders(place)) for names in submodules(inner)]
