"""Capture: a pure tensor function with its Pyro handlers, autograd and optimiser, as one compiled graph.

`make_fx` runs the function once and writes down every tensor operation; parameters, optimiser state and buffers that
it touches become inputs, so that in-place updates reach the real ones. Inductor compiles the result. Randomness stays
outside: draws come in as arguments, so that eager and captured execution agree.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx


def capture(function: Callable, *example: Tensor) -> Callable:
    """A compiled `function`, for arguments of the shapes of `example`; running the example changes state once.

    The function must have been called before (optimisers create their state on the first call), branch on no data, and
    keep its state at the same addresses.
    """
    graph = make_fx(lambda *args: function(*args))(*example)
    state = _lift(graph)
    compiled = torch.compile(graph, fullgraph=True, dynamic=False)

    @torch.no_grad()
    def call(*args: Tensor) -> Any:
        return compiled(*args, *state)

    return call


class Captured:
    """`function` of a module, compiled at its first call; eager, with a warning, where there is no C++ compiler.

    Arguments:
        function: a pure tensor function whose state is the module's.
        module: whose `load_state_dict` writes in place.
    """

    def __init__(self, function: Callable, module: nn.Module) -> None:
        self.function, self.module = function, module
        self.compiled: Callable | None = None

    def __call__(self, *args: Tensor) -> Any:
        if self.compiled is None:
            before = copy.deepcopy(self.module.state_dict())
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the compiler's own, which say nothing of the function
                    self.compiled = capture(self.function, *args)
                    self.compiled(*args)
            except Exception as error:
                warnings.warn(f"going on without capture: {type(error).__name__}: {str(error)[:300]}", stacklevel=2)
                self.compiled = self.function
            self.module.load_state_dict(before)
        return self.compiled(*args)


def _lift(graph: GraphModule) -> list[Tensor]:
    """Turn the tensors a traced graph closes over into inputs after its own; returns them in order."""
    state: list[Tensor] = []
    inputs: dict[int, Node] = {}
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
    for node in list(graph.graph.nodes):
        if "profiler" in str(node.target):
            continue
        if node.op == "get_attr":
            tensor = getattr(graph, node.target).detach()
            key = tensor.data_ptr() if tensor.numel() else id(node)
            if key not in inputs:
                with graph.graph.inserting_after(last):
                    last = inputs[key] = graph.graph.placeholder(f"state_{len(state)}")
                state.append(tensor)
            node.replace_all_uses_with(inputs[key])
            graph.graph.erase_node(node)
    for node in reversed(list(graph.graph.nodes)):
        if "profiler" in str(node.target):
            graph.graph.erase_node(node)
    graph.recompile()
    return state
