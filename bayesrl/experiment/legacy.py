"""Names that runs of version 0.1.0 use for what has other names now: configuration keys, targets and states."""

from __future__ import annotations

# `_target_`s of 0.1.0, by their longest prefix; a class that has kept its module has no line.
TARGETS = {
    "bayesrl.actors": "bayesrl.rl.policies",
    "bayesrl.dynamics": "bayesrl.world_models.dynamics",
    "bayesrl.exploration": "bayesrl.rl.exploration",
    "bayesrl.imagination": "bayesrl.world_models.imagination",
    "bayesrl.modules": "bayesrl.networks.layers",
    "bayesrl.network": "bayesrl.networks.builders",
    "bayesrl.posteriors.LaplaceLastLayer": "bayesrl.posteriors.Laplace",
    "bayesrl.posteriors.sgmcmc.PreconditionedSGLD": "bayesrl.posteriors.sgmcmc.PSGLD",
    "bayesrl.planning": "bayesrl.world_models.planners",
    "bayesrl.propagation": "bayesrl.world_models.propagation",
    "bayesrl.td": "bayesrl.rl.td",
}
# Keys of `config.yaml`, by their longest prefix; None where a setting is gone.
KEYS: dict[str, str | None] = {
    "seeds": None,
    "network.normalise": "network.normalize",
    "imagination.network.normalise": "imagination.network.normalize",
}
# Names in checkpoints, of the agent's state and of the rest, by a part of their dotted path.
STATE: dict[str, str] = {"tracker": "monitor"}
