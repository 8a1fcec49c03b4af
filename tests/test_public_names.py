"""The names that `import bayesrl` offers: each is imported when it is first used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bayesrl


def test_importing_loads_no_torch_and_every_name_resolves() -> None:
    script = (
        "import sys, bayesrl; assert not {'torch', 'numpy', 'hydra'} & sys.modules.keys(); "
        "assert set(bayesrl.__all__) <= set(dir(bayesrl)); [getattr(bayesrl, name) for name in bayesrl.__all__]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_type_checkers_see_the_names_that_there_are() -> None:
    tree = ast.parse(Path(bayesrl.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: line.module for line in block.body if isinstance(line, ast.ImportFrom) for alias in line.names}
    assert seen == bayesrl._MODULES


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Trainr'; it has .*Trainer"):
        bayesrl.Trainr  # noqa: B018
