"""Stacking: one function of each of S modules as one captured graph with a leading dimension.

The graph of one of them, batched by `torch.func.vmap` over the arguments and states of all, and traced again. Their
states come to lie one behind another, a block of memory for each storage, and every tensor of a module looks into its
own part of it: whatever else the module does stays as it was.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.func import functionalize, vmap
from torch.fx import Interpreter
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from bayesrl.capture import Captured, kept, once

ALIGNED = 64  # bytes
aten = torch.ops.aten
KNOWN = {  # operations that vmap has no rule for, by others
    aten.copy.default: lambda place, value: value.to(place.dtype).expand_as(place),
    aten.fill.Scalar: torch.full_like,
}


class Stacked(Captured):
    """The functions of S modules, traced as one over arguments [S, *]; called, it changes the states of all.

    Arguments:
        functions: pure tensor functions, each of a module, as `captured` takes them.
        modules: alike but for their numbers; afterwards their tensors are parts of stacked ones.
        examples: arguments of each, of any values, in the shapes of all calls.

    Raises:
        ValueError: the modules differ, or the function draws random numbers or uses a tensor that no module holds.
    """

    def __init__(
        self, functions: Sequence[Callable], modules: Sequence[nn.Module], examples: Sequence[Sequence[Tensor]]
    ) -> None:
        ones = [Captured(f, module, *example) for f, module, example in zip(functions, modules, examples, strict=True)]
        graph = ones[0].graph
        if len({one.graph.code for one in ones}) > 1:
            raise ValueError("got functions that differ, wanted the same operations for all")
        for node in graph.graph.nodes:
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                raise ValueError(f"got a function that draws random numbers itself, {node.target}, wanted them given")
        self.module = nn.ModuleList(modules)
        self.example = [torch.stack(given) for given in zip(*(one.example for one in ones), strict=True)]
        given = [node for node in graph.graph.nodes if node.op == "placeholder"][len(self.example) :]
        copied = [all(user.target is aten.clone.default for user in node.users) for node in given]
        self.state = stack(modules, [one.state for one in ones], copied)
        begin = time.perf_counter()
        with kept(self.module):
            batched = make_fx(vmap(OneByOne(graph).run))(*self.example, *self.state)
            self.graph = once(make_fx(functionalize(batched))(*self.example, *self.state))
        self.trace_seconds = time.perf_counter() - begin
        self.run = self.graph

    def parts(self, *args: Tensor) -> list[Any]:
        """What it returns, for each module."""
        leaves, spec = tree_flatten(self(*args))
        return [tree_unflatten(part, spec) for part in zip(*(leaf.unbind() for leaf in leaves), strict=True)]


def stack(modules: Sequence[nn.Module], states: Sequence[Sequence[Tensor]], copied: Sequence[bool]) -> list[Tensor]:
    """Lay the storages of S modules one behind another; returns the stacked states, [S, *] each.

    Arguments:
        modules: whose tensors look into their parts afterwards.
        states: tensors of each module that a function uses.
        copied: those that it only copies, as it does with constants, which no module needs to hold.

    Raises:
        ValueError: states that are not laid out alike, or one that is not a module's own.
    """
    places = [[*map(address, state)] for state in states]
    if len({tuple(map(each.index, each)) for each in places}) > 1:
        raise ValueError("got modules that share memory among their tensors in different ways, wanted them alike")
    owned = [held(module) for module in modules]
    own = [{address(tensor) for tensor in tensors} for tensors in owned]
    blocks: dict[int, tuple[Tensor, int]] = {}  # with the bytes of a part, by a storage of the first module
    moved: list[dict[int, UntypedStorage]] = [{} for _ in modules]
    out = []
    for same, constant in zip(zip(*states, strict=True), copied, strict=True):
        first = same[0]
        if len({(t.shape, t.stride(), t.storage_offset(), t.dtype, t.untyped_storage().nbytes()) for t in same}) > 1:
            raise ValueError("got modules whose states differ in shape, wanted them alike")
        mine = [address(tensor) in addresses for tensor, addresses in zip(same, own, strict=True)]
        if constant and not any(mine) and all(torch.equal(first, tensor) for tensor in same):
            out.append(torch.stack(same))
            continue
        if not all(mine) or len({*map(address, same)}) < len(same):
            raise ValueError(f"got a tensor {[*first.shape]} that is no module's own, wanted it held by each of them")
        if address(first) not in blocks:
            size = first.untyped_storage().nbytes()
            step = -(-size // ALIGNED) * ALIGNED
            blocks[address(first)] = torch.empty(len(same) * step, dtype=torch.uint8, device=first.device), step
        whole, step = blocks[address(first)]
        for k, tensor in enumerate(same):
            if address(tensor) not in moved[k]:
                new = whole.untyped_storage()[k * step : k * step + tensor.untyped_storage().nbytes()]
                moved[k][address(tensor)] = new.copy_(tensor.untyped_storage())
        shape, stride = (len(same), *first.shape), (step // first.element_size(), *first.stride())
        out.append(first.new_empty(0).set_(whole.untyped_storage(), first.storage_offset(), shape, stride))
    for tensors, parts in zip(owned, moved, strict=True):
        for tensor in tensors:
            if (part := parts.get(address(tensor))) is not None:
                where = tensor.storage_offset(), tensor.shape, tensor.stride()
                tensor.data = tensor.detach().new_empty(0).set_(part, *where)
    return out


def held(root: object) -> list[Tensor]:
    """Every tensor that an object holds, however deep, such as the views that a memory has of itself."""
    seen: dict[int, object] = {}
    todo = [root]
    while todo:
        thing = todo.pop()
        if id(thing) not in seen and not isinstance(thing, type | ModuleType):
            seen[id(thing)] = thing
            todo += thing.__closure__ or () if isinstance(thing, FunctionType) else gc.get_referents(thing)
    return [thing for thing in seen.values() if isinstance(thing, Tensor)]


def address(tensor: Tensor) -> int:
    """Of its storage."""
    return tensor.untyped_storage().data_ptr()


class OneByOne(Interpreter):
    """Runs a graph by operations that vmap knows: those on lists as so many on tensors."""

    def call_function(self, target: Any, args: tuple, kwargs: dict) -> Any:
        if target in KNOWN:
            return KNOWN[target](*args)
        name = str(target).removeprefix("aten._foreach_")
        if name == str(target):
            return super().call_function(target, args, kwargs)
        operation = getattr(torch, name.partition(".")[0])
        if operation is torch.addcmul and len(args) == 4:
            *args, kwargs = *args[:3], {"value": args[3]}  # type: ignore[assignment]
        rows = zip(*(arg if isinstance(arg, list | tuple) else [arg] * len(args[0]) for arg in args), strict=True)
        return [operation(*row, **kwargs) for row in rows]
