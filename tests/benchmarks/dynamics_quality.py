"""How good dynamics are after N transitions of Pendulum-v1 under random actions: error, and whether they know it.

    python tests/benchmarks/dynamics_quality.py [--sizes 400 2000] [--seeds 0 1] [--models MODEL ...]

Two tests a seed: five other random episodes, and states and actions uniform over their whole box, most of which were
never seen. RMSE and NLL (summed over the three numbers of the change, 50 draws) in standard deviations of the training
data; coverage of 5-95 % bands. Two hidden layers of 64 units with SiLU, batch 128.
"""

from __future__ import annotations

import argparse
import math
from functools import partial

import torch
from torch import Tensor

from bayesrl.likelihoods import Heteroscedastic, WithFlag
from bayesrl.metrics.calibration import gaussian_pit, mixture_nll
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors import Ensemble, Hypermodel, Learner, MeanField
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.world_models.dynamics import Dynamics, signature

SPEC = EnvSpec((3,), torch.float32, 1, bounds=((-2.0,), (2.0,)))


def hypermodel(network: Network, likelihood: WithFlag, prior: float = 0.3, T: float = 1.0, lr: float = 3e-3) -> Learner:
    return Hypermodel(
        network, draws=8, prior_scale=prior, temperature=T, likelihood=likelihood, optimizer=partial(Adam, lr=lr)
    )


def mean_field(network: Network, likelihood: WithFlag, T: float = 1.0) -> Learner:
    return MeanField(network, temperature=T, init_scale=0.01, likelihood=likelihood, optimizer=partial(Adam, lr=3e-3))


def ensemble(network: Network, likelihood: WithFlag) -> Learner:
    return Ensemble(
        network, members=5, prior_scale=0.0, mask=1.0, likelihood=likelihood, optimizer=partial(Adam, lr=3e-3)
    )


MODELS = {
    "ensemble": ensemble,
    "mean_field": mean_field,
    "mean_field_T.1": partial(mean_field, T=0.1),
    "hypermodel": hypermodel,
    "hypermodel_.1": partial(hypermodel, prior=0.1),
    "hypermodel_T.1": partial(hypermodel, T=0.1),
    "hypermodel_T.01": partial(hypermodel, T=0.01),
}


def look(angle: Tensor, spin: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin(), spin], -1)


def move(angle: Tensor, spin: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gymnasium's pendulum: the next angle and spin, and the reward."""
    torque = 2 * action
    turned = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
    reward = -(turned.square() + 0.1 * spin.square() + 0.001 * torque.square())
    spin = (spin + (15 * angle.sin() + 3 * torque) * 0.05).clamp(-8, 8)
    return angle + 0.05 * spin, spin, reward


def episodes(count: int, g: torch.Generator) -> list[tuple[Tensor, ...]]:
    """Steps (obs, action, reward, next obs) of random episodes of 200, each with a first dimension of 1."""
    out = []
    for _ in range(count):
        angle, spin = math.pi * (2 * torch.rand(1, generator=g) - 1), 2 * torch.rand(1, generator=g) - 1
        for _ in range(200):
            action, obs = 2 * torch.rand(1, 1, generator=g) - 1, look(angle, spin)
            angle, spin, reward = move(angle, spin, action[:, 0])
            out.append((obs, action, reward, look(angle, spin)))
    return out


def box(N: int, g: torch.Generator) -> tuple[Tensor, ...]:
    angle, spin, action = (s * (2 * torch.rand(N, generator=g) - 1) for s in (math.pi, 8.0, 1.0))
    after, faster, reward = move(angle, spin, action)
    return look(angle, spin), action[:, None], reward, look(after, faster)


@torch.no_grad()
def quality(dynamics: Dynamics, obs: Tensor, action: Tensor, next_obs: Tensor) -> list[float]:
    """RMSE, NLL and coverage of the change of the observation."""
    posterior = dynamics.posterior
    y = ((next_obs - obs) - dynamics.target_mean[:3]) / dynamics.target_scale[:3]
    out = posterior.sample(dynamics.inputs(obs, action), 50)
    mean, std = posterior.likelihood.mean(out)[..., :3], posterior.likelihood.variance(out)[..., :3].sqrt()
    log_p = torch.distributions.Normal(mean, std, validate_args=False).log_prob(y).sum(-1)
    values = gaussian_pit(mean, std, y).mean(0)
    inside = ((values >= 0.05) & (values <= 0.95)).float().mean()
    return [float((mean.mean(0) - y).square().mean().sqrt()), float(mixture_nll(log_p).mean()), float(inside)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[400, 2000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--updates", type=int, default=1500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'model':16} {'N':>5} {'seed':>4} | new episodes: RMSE, NLL, coverage | whole box: RMSE, NLL, coverage")
    for N in args.sizes:
        for name in args.models:
            for seed in args.seeds:
                g = torch.Generator().manual_seed(seed)
                steps, test, outside = episodes(N // 200, g), episodes(5, g), box(1000, g)
                torch.manual_seed(seed)
                likelihood = WithFlag(Heteroscedastic(max_sigma=1.0, beta=0.5))
                (width,), outputs = signature(SPEC)
                network = mlp((width,), outputs, size=2, hidden=[64, 64], activation=torch.nn.SiLU)
                dynamics = Dynamics(SPEC, MODELS[name](network, likelihood))
                replay = ReplayBuffer(SPEC, dynamics.posterior.tags(1), N, n_step=1, discount=1.0)
                no = torch.zeros(1, dtype=torch.bool)
                for obs, action, reward, after in steps:
                    tags = dynamics.posterior.tags(1)
                    replay.add(Transition(obs, action, reward, no, no, after, ~no), tags)
                dynamics.fit(replay, args.updates)
                seen = [torch.cat(parts) for parts in zip(*test, strict=True)]
                results = [quality(dynamics, obs, action, after) for obs, action, _, after in (seen, outside)]
                told = " | ".join("{:6.3f} {:8.2f} {:5.2f}".format(*result) for result in results)
                print(f"{name:16} {N:5} {seed:4} | {told}", flush=True)


if __name__ == "__main__":
    main()
