"""Begin a part of your own: `python -m bayesrl.new env my_env`, or `agent NAME`, or `posterior NAME`.

Writes three small files into the current directory, which run as they are, to be changed from there:

    NAME.py             the class, with its settings checked
    test_NAME.py        its tests, for pytest
    conf/KIND/NAME.yaml its configuration: `python -m bayesrl.train --config-dir conf KIND=NAME`

Nothing is ever overwritten. Exit code 2, with one sentence, when the input is wrong.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from importlib import resources
from pathlib import Path

KINDS = ("env", "agent", "posterior")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or any(arg in ("-h", "--help") for arg in argv):
        print(__doc__.strip())
        return 0 if argv else 2
    from bayesrl.experiment import cli

    return cli.command(argv, new)


def new(argv: list[str]) -> int:
    """Write the files of `KIND NAME`.

    Raises:
        ConfigError: a kind that there is not, a name that cannot be used, files that are there already.
    """
    from bayesrl.experiment.config import ConfigError

    if len(argv) != 2 or argv[0] not in KINDS:
        raise ConfigError([f"got {' '.join(argv)}, wanted one of {', '.join(f'{kind} NAME' for kind in KINDS)}"])
    kind, name = argv
    files = {Path(path): text for path, text in written(kind, name).items()}
    problem = unusable(kind, name) or next(
        (f"got {path}, which is there already" for path in files if path.exists()), ""
    )
    if problem:
        raise ConfigError([f"{problem}, wanted a free name of small letters, digits and single underscores"])
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(text)
        print(f"written: {path}")
    checked = [f"python -m bayesrl.check --config-dir conf env={name}"] if kind == "env" else []
    train = f"python -m bayesrl.train --config-dir conf {kind}={name} steps=3000"
    print("\n    ".join(["try:", f"python -m pytest test_{name}.py", *checked, train]))
    return 0


def written(kind: str, name: str) -> dict[str, str]:
    """Return the text of each file by path: the templates with the given name in place of theirs."""
    files = {
        f"my_{kind}.py": f"{name}.py",
        f"test_my_{kind}.py": f"test_{name}.py",
        f"my_{kind}.yaml": f"conf/{kind}/{name}.yaml",
    }
    folder, title = resources.files("bayesrl") / "templates", "".join(part.capitalize() for part in name.split("_"))
    return {
        path: (folder / file).read_text().replace(f"my_{kind}", name).replace(f"My{kind.capitalize()}", title)
        for file, path in files.items()
    }


def unusable(kind: str, name: str) -> str:
    """Return why a name cannot be that of a module and an option; nothing where it can."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        return f"got the name {name}"
    if (resources.files("bayesrl.configs") / kind / f"{name}.yaml").is_file():
        return f"got the name {name}, which is an option of {kind} already"
    if not Path(f"{name}.py").exists() and importlib.util.find_spec(name):
        return f"got the name {name}, which is a module already"
    return ""


if __name__ == "__main__":
    sys.exit(main())
