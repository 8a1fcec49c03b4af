"""What mkdocs does not find in docs/: README as the first page, and a page of reference for each module.

Docstrings are read, not imported, from a copy of the sources in which `agents/` and `envs/` lie inside the package, as
they do where it is installed.
"""

import shutil
import tempfile
from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ["first_agent", "environments", "choosing", "uncertainty", "model_based", "experiments", "performance"]
PACKAGES = {
    "bayesrl": "bayesrl",
    "bayesrl.posteriors": "bayesrl/posteriors",
    "bayesrl.agents": "agents",
    "bayesrl.envs": "envs",
}
SOURCES = tempfile.TemporaryDirectory()


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config):
    for folder in ("bayesrl", "agents", "envs"):
        place = Path(SOURCES.name, "bayesrl", *([] if folder == "bayesrl" else [folder]))
        shutil.copytree(ROOT / folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [SOURCES.name]
    written = [path.stem for path in (ROOT / "docs").glob("*.md")]
    guides = [name for name in GUIDES if name in written] + sorted(set(written) - set(GUIDES))
    reference = [{title: [{name: f"reference/{name}.md"} for name in names]} for title, names in modules().items()]
    config.nav = [{"bayesrl": "index.md"}, {"Guides": [f"{name}.md" for name in guides]}, {"Reference": reference}]
    return config


def on_files(files, config):
    pages = {"index.md": (ROOT / "README.md").read_text().replace("](docs/", "](")}
    pages |= {f"reference/{name}.md": f"# {name}\n\n::: {name}\n" for names in modules().values() for name in names}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def modules() -> dict[str, list[str]]:
    """The modules to import from, by package."""
    return {
        package: [f"{package}.{path.stem}" for path in sorted((ROOT / folder).glob("*.py")) if path.stem != "__init__"]
        for package, folder in PACKAGES.items()
    }
