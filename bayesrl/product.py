"""Products of matrices, bias and ReLU included, for captured graphs on CPUs with AVX-512.

At the sizes of an agent's networks the library that torch calls reaches 40 % of what an AMD core can do.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

ROWS, LEAST = 8, 2**16  # rows and multiplications below which the library is as quick
aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.bmm.default, aten.addmm.default, aten.baddbmm.default}


def suits(given: Tensor) -> bool:
    """Whether the kernel is made for the device of `given`."""
    return given.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"


@functools.cache
def declare() -> None:
    """Make `torch.ops.bayesrl.product` known to torch, with shapes and without numbers."""
    torch.library.define("bayesrl::product", "(Tensor a, Tensor b, Tensor? bias, bool relu) -> Tensor")

    @torch.library.register_fake("bayesrl::product")
    def _(a: Tensor, b: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        return a.new_empty(*a.shape[:-1], b.shape[-1])


@functools.cache
def load() -> None:
    """Compile the kernel; errors are of many kinds, by compiler and system."""
    from torch._inductor.codecache import CppCodeCache  # slow to import

    CppCodeCache.load((Path(__file__).parent / "product.cpp").read_text())


def rewritten(module: GraphModule, given: Sequence[Tensor]) -> GraphModule:
    """A copy of the graph whose products of float32 matrices, with their biases and ReLUs, are the declared kernel's.

    Arguments:
        module: a functional graph of aten operations.
        given: its arguments.
    """
    module = copy.deepcopy(module)
    FakeTensorProp(module, FakeTensorMode(allow_non_fake_inputs=True)).propagate(*given)
    for node in list(module.graph.nodes):
        if node.target not in PRODUCTS or node.kwargs or not _pays(node):
            continue
        *bias, a, b = node.args
        users = list(node.users)
        relu = len(users) == 1 and users[0].target == aten.relu.default
        last = users[0] if relu else node
        with module.graph.inserting_before(node):
            new = module.graph.call_function(torch.ops.bayesrl.product.default, (a, b, bias[0] if bias else None, relu))
        new.meta = last.meta
        last.replace_all_uses_with(new)
    module.graph.eliminate_dead_code()
    for node in module.graph.nodes:
        node.meta.clear()  # the compiler makes its own
    module.recompile()
    return module


def _pays(node: Node) -> bool:
    """Whether the kernel can compute a product, and is the quicker one."""
    *bias, a, _ = (arg.meta["val"] for arg in node.args)  # type: ignore[union-attr]
    y = node.meta["val"]
    broadcast = not bias or bias[0].dim() == 1 or 1 in bias[0].shape[-2:]
    return y.dtype == torch.float32 and broadcast and y.shape[-2] >= ROWS and y.numel() * a.shape[-1] >= LEAST
