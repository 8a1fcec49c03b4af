"""Every test starts with one thread, and leaves no module of its temporary directory behind."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch reads it: the workers of pytest-xdist share the cores

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _forget_temporary_modules(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove what was imported from `tmp_path` from `sys.modules`, so that the order of tests does not matter."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    root, before = request.getfixturevalue("tmp_path"), set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (file := getattr(sys.modules[name], "__file__", None)) and root in Path(file).parents:
            del sys.modules[name]
