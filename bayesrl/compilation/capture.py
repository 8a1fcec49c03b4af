"""Capture: trace a tensor function with its Pyro handlers, autograd and optimizer, and compile the graph.

`make_fx` runs the function once and records every tensor operation. Parameters, optimizer state and buffers that the
function touches become inputs of the graph, so that in-place updates reach the real tensors. Repeated operations are
merged, and Inductor compiles the rest; on a GPU, a CUDA graph replays it. Random numbers are drawn outside and passed
in as arguments, so that eager and captured execution agree.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.compile_utils import fx_graph_cse
from torch.func import functionalize
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

COMPILE_PER_TRACE = 15.0  # the time of a first compilation, in units of the time of tracing
MIN_COMPILE_SECONDS = 5.0
COMPILED_SHARE = 0.85  # an upper bound of the compiled graph's time, in units of the uncompiled graph's


def capture(
    function: Callable,
    module: nn.Module,
    *example: Tensor,
    name: str = "a function",
    calls: float = math.inf,
    say: Callable[[str], None] = print,
) -> Callable:
    """Compile a function of a module if that saves more time than it takes.

    Arguments:
        function: a pure tensor function whose state is the module's, without branches on data.
        module: its `load_state_dict` must write in place; capturing leaves its state unchanged.
        example: arguments with any values, in the shapes of all later calls.
        name: what is compiled, for messages.
        calls: the expected number of calls.
        say: prints a message to the user.

    Returns:
        The compiled function; or `function` itself where compiling does not pay, or fails, as without a C++ compiler.
        A failure is reported through `say`.
    """
    try:
        with preserve_state(module):
            eager = seconds_per_call(function, example)
        if calls * eager < MIN_COMPILE_SECONDS:
            return function
        graph = CapturedGraph(function, module, *example)
        cost = graph.cost()
        if calls < math.inf and calls * (eager - COMPILED_SHARE * graph.seconds()) < cost:
            return function
        say(f"compiling {name}, about {cost:.0f} s, once")
        graph.compile()
    except Exception as error:
        say(f"going on without capture of {name}: {type(error).__name__}: {str(error).strip()[:300]}")
        return function
    return graph


class CapturedGraph:
    """A function of a module, traced for the shapes of `example`; a call runs the graph, compiled or not.

    `capture` decides whether compiling pays and describes the arguments.
    """

    def __init__(self, function: Callable, module: nn.Module, *example: Tensor) -> None:
        self.module, self.example = module, [argument.contiguous() for argument in example]
        with preserve_state(module):
            start = time.perf_counter()
            graph = make_fx(lambda *args: function(*args))(*example)
            self.state = _lift_state(graph)
            self.graph = remove_redundancy(make_fx(functionalize(graph))(*example, *self.state))
            self.trace_seconds = time.perf_counter() - start
        self.run: Callable = self.graph

    @torch.no_grad()
    def __call__(self, *args: Tensor) -> Any:
        for got, wanted in zip(args, self.example, strict=True):
            if got.shape != wanted.shape or got.dtype != wanted.dtype:
                raise ValueError(
                    f"got {[*got.shape]} {got.dtype}, wanted {[*wanted.shape]} {wanted.dtype}, for which this was "
                    "captured: capture anew"
                )
        return self.run(*(argument.contiguous() for argument in args), *self.state)

    def seconds(self) -> float:
        """Measure a call. The graph is faster than the function even uncompiled: it runs no Pyro and no autograd."""
        with preserve_state(self.module):
            return seconds_per_call(self, self.example)

    def cost(self) -> float:
        """Return the seconds that `compile` will take: its last time, or an estimate from the time of tracing."""
        record = self._timing_file()
        if record.exists():
            return float(record.read_text())
        return max(MIN_COMPILE_SECONDS, COMPILE_PER_TRACE * self.trace_seconds)

    def compile(self) -> None:
        """Compile the graph; the compiler caches its result on disk."""
        start = time.perf_counter()
        inputs: list[Any] = [*self.example, *self.state]
        with torch.no_grad(), preserve_state(self.module), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own warnings say nothing about the function
            self.run = self._compiled(inputs)
            self(*self.example)
            if inputs[0].is_cuda:
                self.run = cuda_graph(self.run, inputs, len(self.example))
        record = self._timing_file()
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(f"{time.perf_counter() - start:.1f}")

    def _compiled(self, inputs: list[Any]) -> Callable:
        from torch._inductor import compile as inductor  # slow to import

        # Inductor's own random numbers differ from torch's and take ten times as long.
        options = {"size_asserts": False, "alignment_asserts": False, "fallback_random": True}
        return inductor(self.graph, inputs, options=options)

    def _timing_file(self) -> Path:
        """Return the file in the compiler's cache that stores how long this graph took to compile."""
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        text = [torch.__version__, self.graph.code, *(f"{t.shape}{t.dtype}{t.device}" for t in self.state)]
        return Path(cache_dir()) / "bayesrl" / hashlib.sha256("\n".join(text).encode()).hexdigest()[:32]


@contextmanager
def preserve_state(module: nn.Module) -> Iterator[None]:
    """Restore the module's state on exit, in the same memory.

    Raises:
        ValueError: loading the state replaces tensors instead of writing to them, so that a graph would lose them.
    """
    before = copy.deepcopy(module.state_dict())
    try:
        yield
    finally:
        expected = addresses(module)
        module.load_state_dict(before)
    if addresses(module) != expected:
        raise ValueError(
            f"got state of {type(module).__name__} that is made anew when it is loaded, wanted it written in place: "
            "use an optimizer of bayesrl.optim"
        )


def addresses(module: nn.Module) -> list[int]:
    """Return the memory addresses of a module's parameters, buffers and optimizer states."""
    tensors = [*module.parameters(), *module.buffers()]
    for part in module.modules():
        if isinstance(optimizer := getattr(part, "optimizer", None), torch.optim.Optimizer):
            tensors += [leaf for leaf in tree_leaves([*optimizer.state.values()]) if isinstance(leaf, Tensor)]
    return [tensor.data_ptr() for tensor in tensors]


def seconds_per_call(function: Callable, example: Sequence[Tensor]) -> float:
    """Measure a call in seconds: the fastest of five, after one for warm-up."""
    wait = torch.cuda.synchronize if example[0].is_cuda else lambda: None
    times = []
    for _ in range(6):
        wait()
        start = time.perf_counter()
        function(*example)
        wait()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def cuda_graph(function: Callable, inputs: Sequence[Tensor], changing: int) -> Callable:
    """Record a function of tensors as a CUDA graph; each call overwrites what the last one returned.

    Arguments:
        function: the function to record.
        inputs: all its arguments.
        changing: how many of them, from the first, differ between calls; the others are read where they are.
    """
    inputs = [*(t.clone() for t in inputs[:changing]), *inputs[changing:]]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # one call outside the graph, so that libraries allocate their workspaces
        function(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = function(*inputs)

    def replay(*args: Tensor) -> Any:
        for static, value in zip(inputs[:changing], args[:changing], strict=True):
            static.copy_(value)
        graph.replay()
        return out

    return replay


def _lift_state(module: GraphModule) -> list[Tensor]:
    """Turn the tensors that a traced graph closes over into inputs after its own; return them in order."""
    graph = module.graph
    for node in reversed(list(graph.nodes)):
        if "profiler" in str(node.target):
            graph.erase_node(node)
    graph.eliminate_dead_code()
    state: list[Tensor] = []
    inputs: dict[tuple, Node] = {}
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for node in list(graph.nodes):
        if node.op == "get_attr" and (tensor := getattr(module, node.target).detach()).numel():
            key = tensor.data_ptr(), tensor.shape, tensor.stride()
            if key not in inputs:
                with graph.inserting_after(last):
                    last = inputs[key] = graph.placeholder(f"state_{len(state)}")
                state.append(tensor)
            node.replace_all_uses_with(inputs[key])
            graph.erase_node(node)
    module.recompile()
    return state


def remove_redundancy(module: GraphModule) -> GraphModule:
    """Merge repeated operations and drop unused ones, in a graph that writes to its inputs only at its end."""
    random = torch.Tag.nondeterministic_seeded  # equal calls return different numbers
    if not any(random in getattr(node.target, "tags", ()) for node in module.graph.nodes):
        module.graph = fx_graph_cse(module.graph)
    module.graph.eliminate_dead_code()
    for node in module.graph.nodes:
        node.meta.clear()  # the compiler computes its own
    module.recompile()
    return module
