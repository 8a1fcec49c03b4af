"""Many seeds as one leading dimension of one captured update: `python tests/benchmarks/many_seeds.py [posterior]`.

The traced graph of one agent's update, `torch.func.vmap` of it over the stacked states, indices and batches of S
agents, traced again and compiled. CPU time for each seed, and its ratio to the captured update of one agent, with the
network and batch of the defaults and with small ones (32-32, batch 32, 5 draws); and the greatest difference in any
number of the states after an update of all at once and one by one. One thread; rounds are interleaved; medians over
rounds, of the ratios too.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch._inductor import compile as inductor
from torch.func import vmap
from torch.fx import Interpreter
from torch.fx.experimental.proxy_tensor import make_fx

from bayesrl import config
from bayesrl.agent import EnvSpec, Transition
from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.building import build_agent
from bayesrl.capture import Captured

ROUNDS, UPDATES = 15, 10
SIZES = {"128-128": [], "32-32": ["network.hidden=[32,32]", "agent.batch_size=32", "posterior.draws=5"]}


def filled(words: list[str]) -> BayesDQN:
    """An agent with 1,000 random transitions."""
    agent = build_agent(
        config.load(["agent.capacity=2000", *words]), EnvSpec((4,), torch.float32, 2), torch.device("cpu")
    )
    valid = torch.ones(1, dtype=torch.bool)
    for _ in range(1000):
        obs, after, reward, done = torch.randn(1, 4), torch.randn(1, 4), torch.randn(1), torch.rand(1) < 0.05
        agent.observe(Transition(obs, torch.randint(2, (1,)), reward, done, ~valid, after, valid))
    return agent  # type: ignore[return-value]


def given(agent: BayesDQN) -> tuple[Tensor, Tensor]:
    return agent.replay.index(agent.batch_size), agent.posterior.index(agent.posterior.draws)


class OneByOne(Interpreter):
    """Runs a graph with its operations on lists as operations on tensors, which vmap knows."""

    def call_function(self, target, args, kwargs):
        name = str(target).removeprefix("aten._foreach_")
        if name == str(target):
            return super().call_function(target, args, kwargs)
        operation = getattr(torch, name.partition(".")[0])
        if operation is torch.addcmul and len(args) == 4:
            *args, kwargs = *args[:3], {"value": args[3]}
        rows = zip(*(arg if isinstance(arg, list | tuple) else [arg] * len(args[0]) for arg in args), strict=True)
        return [operation(*row, **kwargs) for row in rows]


def batched(agents: list[BayesDQN]) -> tuple[Callable[..., object], list[Tensor], list[Captured]]:
    """The update of all agents at once, the stacked states that it changes, and the single updates."""
    ones = [Captured(agent.update, agent, *given(agent)) for agent in agents]
    stacked = [torch.stack(tensors) for tensors in zip(*(one.state for one in ones), strict=True)]
    example = [torch.stack(tensors) for tensors in zip(*map(given, agents), strict=True)]
    graph = make_fx(vmap(OneByOne(ones[0].graph).run))(*example, *(tensor.clone() for tensor in stacked))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = inductor(graph, [*example, *(tensor.clone() for tensor in stacked)])
    return torch.no_grad()(run), stacked, ones


def main(posterior: str = "hypermodel") -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| network | seeds | ms a seed | ratio to one captured update | greatest difference |\n" + "|---" * 5 + "|")
    for size, words in SIZES.items():
        for S in (1, 4, 16):
            agents = [filled([f"posterior={posterior}", *words]) for _ in range(S)]
            for agent in agents:
                agent.update(*given(agent))
            run, stacked, ones = batched(agents)
            drawn = [given(agent) for agent in agents]
            together = [torch.stack(tensors) for tensors in zip(*drawn, strict=True)]
            run(*together, *stacked)
            for one, (index, z) in zip(ones, drawn, strict=True):
                one(index, z)
            apart = max(
                float((all_[k].double() - alone.double()).abs().max())
                for k, one in enumerate(ones)
                for all_, alone in zip(stacked, one.state, strict=True)
                if alone.numel()
            )
            ones[0].compile()
            seconds: dict[str, list[float]] = {"all": [], "one": []}
            for _ in range(ROUNDS):
                for name in seconds:
                    begin = time.process_time()
                    for _ in range(UPDATES):
                        run(*together, *stacked) if name == "all" else ones[0](*drawn[0])
                    seconds[name].append((time.process_time() - begin) / UPDATES)
            ratio = statistics.median(a / S / b for a, b in zip(*seconds.values(), strict=True))
            ms = statistics.median(seconds["all"]) / S * 1e3
            print(f"| {size} | {S} | {ms:.3f} | {ratio:.2f} | {apart:.0e} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
