"""Capture: a pure tensor function with its Pyro handlers, autograd and optimiser, as one compiled graph.

`make_fx` runs the function once and writes down every tensor operation; parameters, optimiser state and buffers that
it touches become inputs, so that in-place updates reach the real ones. What is computed twice is computed once, and
Inductor compiles the rest; on a GPU a CUDA graph replays it. Randomness stays outside: draws come in as arguments, so
that eager and captured execution agree.
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

FIRST = 15.0  # how many times as long as tracing a function it takes to compile it for the first time
LEAST = 5.0  # seconds that compiling takes at the least
SHARE = 0.85  # of the uncompiled graph's time that the compiled one takes, or less


def captured(
    function: Callable,
    module: nn.Module,
    *example: Tensor,
    name: str = "a function",
    calls: float = math.inf,
    say: Callable[[str], None] = print,
) -> Callable:
    """`function` of a module, compiled where so many calls save more time than that takes; else `function` itself.

    It stays itself too where it cannot be compiled, as without a C++ compiler, which is said.

    Arguments:
        function: a pure tensor function whose state is the module's; branches on no data.
        module: whose `load_state_dict` writes in place; afterwards in the state that it was in.
        example: arguments of any values, in the shapes of all calls.
        name: what is compiled, in a user's words.
        calls: how many are to be expected.
        say: prints a line to the user.
    """
    try:
        with kept(module):
            eager = seconds(function, example)
        if calls * eager < LEAST:
            return function
        graph = Captured(function, module, *example)
        cost = graph.cost()
        if calls < math.inf and calls * (eager - SHARE * graph.seconds()) < cost:
            return function
        say(f"compiling {name}, about {cost:.0f} s, once")
        graph.compile()
    except Exception as error:
        say(f"going on without capture of {name}: {type(error).__name__}: {str(error).strip()[:300]}")
        return function
    return graph


class Captured:
    """A function of a module, traced for the shapes of `example`; called, it runs its graph, compiled or not yet.

    Arguments and errors are those of `captured`, which says when it pays.
    """

    def __init__(self, function: Callable, module: nn.Module, *example: Tensor) -> None:
        self.module, self.example = module, [given.contiguous() for given in example]
        with kept(module):
            begin = time.perf_counter()
            graph = make_fx(lambda *args: function(*args))(*example)
            self.state = _lift(graph)
            self.graph = once(make_fx(functionalize(graph))(*example, *self.state))
            self.trace_seconds = time.perf_counter() - begin
        self.run: Callable = self.graph

    @torch.no_grad()
    def __call__(self, *args: Tensor) -> Any:
        for got, wanted in zip(args, self.example, strict=True):
            if got.shape != wanted.shape or got.dtype != wanted.dtype:
                raise ValueError(
                    f"got {[*got.shape]} {got.dtype}, wanted {[*wanted.shape]} {wanted.dtype}, for which this was "
                    "captured: capture anew"
                )
        return self.run(*(given.contiguous() for given in args), *self.state)

    def seconds(self) -> float:
        """That a call takes; uncompiled already less than the function, which runs Pyro's handlers and autograd."""
        with kept(self.module):
            return seconds(self, self.example)

    def cost(self) -> float:
        """Seconds that `compile` will take: what it took the last time, or judged by how long tracing took."""
        note = self._note()
        return float(note.read_text()) if note.exists() else max(LEAST, FIRST * self.trace_seconds)

    def compile(self) -> None:
        """Compile the graph; the compiler keeps its work on disk."""
        begin = time.perf_counter()
        given: list[Any] = [*self.example, *self.state]
        with torch.no_grad(), kept(self.module), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own, which say nothing of the function
            self.run = self._compiled(given)
            self(*self.example)
            if given[0].is_cuda:
                self.run = replayed(self.run, given, len(self.example))
        note = self._note()
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{time.perf_counter() - begin:.1f}")

    def _compiled(self, given: list[Any]) -> Callable:
        from torch._inductor import compile as inductor  # slow to import

        # The compiler's own random numbers are others than torch's, and ten times as slow.
        options = {"size_asserts": False, "alignment_asserts": False, "fallback_random": True}
        return inductor(self.graph, given, options=options)

    def _note(self) -> Path:
        """The file beside the compiler's own that remembers how long this graph took."""
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        text = [torch.__version__, self.graph.code, *(f"{t.shape}{t.dtype}{t.device}" for t in self.state)]
        return Path(cache_dir()) / "bayesrl" / hashlib.sha256("\n".join(text).encode()).hexdigest()[:32]


@contextmanager
def kept(module: nn.Module) -> Iterator[None]:
    """What happens inside leaves the module's state as it was before, and where it is afterwards."""
    before = copy.deepcopy(module.state_dict())
    try:
        yield
    finally:
        places = addresses(module)
        module.load_state_dict(before)
    if addresses(module) != places:
        raise ValueError(
            f"got state of {type(module).__name__} that is made anew when it is loaded, wanted it written in place: "
            "use an optimiser of bayesrl.optim"
        )


def addresses(module: nn.Module) -> list[int]:
    """Where a module's parameters, buffers and the states of its optimisers are."""
    tensors = [*module.parameters(), *module.buffers()]
    for part in module.modules():
        if isinstance(optimizer := getattr(part, "optimizer", None), torch.optim.Optimizer):
            tensors += [leaf for leaf in tree_leaves([*optimizer.state.values()]) if isinstance(leaf, Tensor)]
    return [tensor.data_ptr() for tensor in tensors]


def seconds(function: Callable, example: Sequence[Tensor]) -> float:
    """That a call takes: the least of five, after one that does not count."""
    wait = torch.cuda.synchronize if example[0].is_cuda else lambda: None
    times = []
    for _ in range(6):
        wait()
        begin = time.perf_counter()
        function(*example)
        wait()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


def replayed(function: Callable, given: Sequence[Tensor], changing: int) -> Callable:
    """A CUDA graph of a function of tensors, the first `changing` of which differ from call to call.

    What it returns is written over by the next call.
    """
    given = [*(t.clone() for t in given[:changing]), *given[changing:]]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # once outside, so that libraries have their workspaces
        function(*given)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = function(*given)

    def replay(*args: Tensor) -> Any:
        for place, value in zip(given[:changing], args[:changing], strict=True):
            place.copy_(value)
        graph.replay()
        return out

    return replay


def _lift(module: GraphModule) -> list[Tensor]:
    """Turn the tensors a traced graph closes over into inputs after its own; returns them in order."""
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


def once(module: GraphModule) -> GraphModule:
    """Compute nothing twice, and nothing that is not used, in a graph that writes into its inputs only at its end."""
    drawn = torch.Tag.nondeterministic_seeded  # equal calls give unequal numbers
    if not any(drawn in getattr(node.target, "tags", ()) for node in module.graph.nodes):
        module.graph = fx_graph_cse(module.graph)
    module.graph.eliminate_dead_code()
    for node in module.graph.nodes:
        node.meta.clear()  # the compiler makes its own
    module.recompile()
    return module
