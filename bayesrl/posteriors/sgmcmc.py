"""`sgld`, `psgld`, `sghmc`, `adam_langevin`: chains of weights that move by noisy gradients; positions are the draws.

    U(theta) = -(size / B) sum_i log p(y_i | f_theta(x_i)) - log p(theta)        K chains, each with its own theta
    target:  p(theta | data)^(1 / T), proportional to exp(-U(theta) / T)

The potential is divided by the number of observations, L = U / size at the temperature tau = T / size, so that a
learning rate has the same meaning as for gradient descent on a mean loss while the data grow. The dynamics are objects
in the place of an optimizer; with g = grad L of a mini-batch, xi ~ Normal(0, I) and the learning rate eta:

    SGLD                theta <- theta - eta g + sqrt(2 eta tau) xi
                        (Welling & Teh, Bayesian Learning via Stochastic Gradient Langevin Dynamics, 2011)
    PSGLD  theta <- theta - eta G g + sqrt(2 eta tau G) xi;   G = 1 / (sqrt(average of g^2) + eps)
                        (Li et al., Preconditioned SGLD for Deep Neural Networks, 2016, without the gradient of G)
    SGHMC               v <- (1 - a) v - eta g + sqrt(2 a eta tau) xi;   theta <- theta + v
                        (Chen, Fox & Guestrin, Stochastic Gradient Hamiltonian Monte Carlo, 2014)
    AdamLangevin        theta <- theta - eta (g + a m / (sqrt(v) + eps)) + sqrt(2 eta tau) xi;   m, v as in Adam
                        (Ishfaq et al., Provable and Practical: Efficient Exploration via Langevin Monte Carlo, 2024)

SGLD with the targets of Q-learning is Langevin DQN (Dwaracherla & Van Roy, 2020). Adam's drift moves AdamLangevin to a
mode, with chains closer to it than the posterior is wide.

No acceptance step corrects the discretization: where L has the curvature h, the variance of SGLD is tau / h /
(1 - eta h / 2), and the noise of mini-batches adds to it; both errors vanish with eta. Draws are the present positions
of the K chains and, with S slots, S - 1 earlier ones of each chain, `thin` updates apart. All updates of `fit` before
the last S * thin are burn-in.

The chains are the parameters of a snapshot, so that a target network follows each chain: with periodic updates it
copies the positions, which are draws themselves; Polyak averaging removes the variance of a chain that moves faster
than the average. A target network uses chain z mod K for the index z, whatever the slot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Generator, Tensor, nn

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.posteriors.learner import WeightSpace
from bayesrl.posteriors.types import Batch
from bayesrl.priors import FanIn, Prior


class Sampler(torch.optim.Optimizer):
    """Base class of dynamics with steps that leave exp(-loss / tau) nearly invariant.

    A step is a pure tensor function that updates its state in place. Parameters of a group with `noise: 0` are
    optimized instead of sampled.

    Attributes:
        moments: names of the state tensors of each parameter, which start at zero.
    """

    moments: tuple[str, ...] = ()

    def __init__(self, params: Iterable, **defaults: float) -> None:
        if not 0 < defaults["lr"] < math.inf:
            raise ValueError(f"got lr={defaults['lr']}, wanted a positive number")
        super().__init__(params, {**defaults, "noise": 1.0})
        for group in self.param_groups:
            for p in group["params"]:
                zeros = torch.zeros_like(p, requires_grad=False)
                self.state[p] = {"step": zeros.new_zeros(()), **{name: zeros.clone() for name in self.moments}}

    @torch.no_grad()
    def step(self, tau: Tensor) -> None:  # type: ignore[override]
        """Make one step at the temperature tau, 0-d."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["step"].add_(1)
                    self.move(p, p.grad, torch.randn_like(p), group["noise"] * tau, group, self.state[p])

    def move(self, p: Tensor, g: Tensor, xi: Tensor, tau: Tensor, group: dict, state: dict[str, Tensor]) -> None:
        """Update one parameter in place.

        Arguments:
            p, g, xi: the parameter, its gradient and standard normal noise, of one shape.
            tau: temperature, 0-d.
            group: options of the parameter's group.
            state: tensors named in `moments`, and the number of steps `step`.
        """
        raise NotImplementedError

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state in place, so that a captured update sees it."""
        params = [p for group in self.param_groups for p in group["params"]]
        with torch.no_grad():
            for i, p in enumerate(params):
                for name, value in self.state[p].items():
                    value.copy_(state_dict["state"][i][name])


class SGLD(Sampler):
    """Stochastic gradient Langevin dynamics.

    Arguments:
        params: an iterable of parameters, or of groups.
        lr: eta.
    """

    def __init__(self, params: Iterable, lr: float = 1e-4) -> None:
        super().__init__(params, lr=lr)

    def move(self, p: Tensor, g: Tensor, xi: Tensor, tau: Tensor, group: dict, state: dict[str, Tensor]) -> None:
        p.sub_(group["lr"] * g).add_((2 * group["lr"] * tau).sqrt() * xi)


class PSGLD(Sampler):
    """SGLD with the preconditioner of RMSprop.

    Arguments:
        params: an iterable of parameters, or of groups.
        lr: eta.
        beta: decay rate of the average of g^2.
        eps: added to its root; the noise of a weight without gradient is proportional to 1 / sqrt(eps).
    """

    moments = ("v",)

    def __init__(self, params: Iterable, lr: float = 5e-4, beta: float = 0.99, eps: float = 1e-3) -> None:
        if not 0 <= beta < 1 or not eps > 0:
            raise ValueError(f"got beta={beta}, eps={eps}, wanted beta in [0, 1) and eps > 0")
        super().__init__(params, lr=lr, beta=beta, eps=eps)

    def move(self, p: Tensor, g: Tensor, xi: Tensor, tau: Tensor, group: dict, state: dict[str, Tensor]) -> None:
        beta, lr = group["beta"], group["lr"]
        v = state["v"].lerp_(g.square(), 1 - beta) / (1 - beta ** state["step"])
        scale = lr / (v.sqrt() + group["eps"])
        p.sub_(scale * g).add_((2 * tau * scale).sqrt() * xi)


class SGHMC(Sampler):
    """Stochastic gradient Hamiltonian Monte Carlo.

    Arguments:
        params: an iterable of parameters, or of groups.
        lr: eta, the square of a leapfrog step; a chain moves as with 1 / friction times that rate in SGLD.
        friction: a, the share of the velocity that a step removes; with 1 the method is SGLD.
    """

    moments = ("velocity",)

    def __init__(self, params: Iterable, lr: float = 1e-5, friction: float = 0.1) -> None:
        if not 0 < friction <= 1:
            raise ValueError(f"got friction={friction}, wanted a share in (0, 1]")
        super().__init__(params, lr=lr, friction=friction)

    def move(self, p: Tensor, g: Tensor, xi: Tensor, tau: Tensor, group: dict, state: dict[str, Tensor]) -> None:
        friction, lr = group["friction"], group["lr"]
        velocity = state["velocity"].mul_(1 - friction).sub_(lr * g)
        p.add_(velocity.add_((2 * friction * lr * tau).sqrt() * xi))


class AdamLangevin(Sampler):
    """SGLD with Adam's drift added to the gradient.

    Arguments:
        params: an iterable of parameters, or of groups.
        lr: eta.
        adaptive: a, the factor of Adam's drift.
        betas: decay rates of the first and second moments.
        eps: added to the root of the second moment.
    """

    moments = ("m", "v")

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-4,
        adaptive: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if adaptive < 0 or not all(0 <= beta < 1 for beta in betas) or not eps > 0:
            raise ValueError(
                f"got adaptive={adaptive}, betas={betas}, eps={eps}, wanted adaptive >= 0, betas in [0, 1) and eps > 0"
            )
        super().__init__(params, lr=lr, adaptive=adaptive, beta1=betas[0], beta2=betas[1], eps=eps)

    def move(self, p: Tensor, g: Tensor, xi: Tensor, tau: Tensor, group: dict, state: dict[str, Tensor]) -> None:
        lr, t = group["lr"], state["step"]
        m = state["m"].lerp_(g, 1 - group["beta1"]) / (1 - group["beta1"] ** t)
        v = state["v"].lerp_(g.square(), 1 - group["beta2"]) / (1 - group["beta2"] ** t)
        drift = g + group["adaptive"] * m / (v.sqrt() + group["eps"])
        p.sub_(lr * drift).add_((2 * lr * tau).sqrt() * xi)


class SGMCMC(WeightSpace):
    """K chains over all weights of a network; the index is z = slot * K + chain, [n, 1] int64.

    Parameters of the likelihood and of the prior are optimized instead of sampled.

    Arguments:
        network: the network whose weights are random; A outputs.
        chains: K; an update moves every chain, with the targets of its own draw.
        slots: S, the number of stored positions of each chain, including the present one.
        thin: updates between stored positions.
        prior: maps the network to the prior over its weights, from which chains start.
        temperature: T of the target; 0 is gradient descent from K initial values.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps groups of parameters to their dynamics, a `Sampler`.
    """

    optimizer: Sampler
    temperature: Tensor
    past: Tensor
    updates: Tensor

    def __init__(
        self,
        network: Network,
        chains: int = 10,
        slots: int = 1,
        thin: int = 100,
        prior: Callable[[Network], Prior] = FanIn,
        temperature: float = 1.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(PSGLD, lr=5e-4),
    ) -> None:
        super().__init__()
        if chains < 1 or slots < 1 or thin < 1 or temperature < 0:
            raise ValueError(
                f"got chains={chains}, slots={slots}, thin={thin}, temperature={temperature}, wanted counts of 1 or "
                "more and no negative temperature"
            )
        self.network, self.draws, self.slots, self.thin, self.likelihood = network, chains, slots, thin, likelihood
        self.prior = prior(network)
        with torch.no_grad():
            std = self.prior.std()
            self.theta = nn.Parameter(self.prior.loc + std * torch.randn(chains, network.size))
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.register_buffer("past", torch.zeros(slots - 1, chains, network.size))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        others = [p for p in self.parameters() if p is not self.theta]
        self.optimizer = optimizer([{"params": [self.theta]}, {"params": others, "noise": 0.0}])
        self.dynamics = type(self.optimizer).__name__  # a snapshot has no optimizer

    def extra_repr(self) -> str:
        return f"{self.dynamics}, slots={self.slots}, prior={self.prior}, temperature={float(self.temperature):g}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw stratified indices: K successive ones contain every chain once, S K of them every stored position."""
        shape = (-(-n // (self.slots * self.draws)), self.slots, self.draws)
        chain, slot = (torch.rand(shape, generator=generator, device=self.theta.device).argsort(d) for d in (2, 1))
        return (slot.gather(2, chain) * self.draws + chain).flatten()[:n, None]

    # --- forward -----------------------------------------------------------------------------------------------

    def weights(self, z: Tensor) -> Tensor:
        """Return the positions of the draws; slot 0 is the present one, and empty slots refer to filled ones."""
        chain = z[:, 0] % self.draws
        if self.slots == 1:
            return self.theta[chain]
        filled = 1 + ((self.updates - 1).clamp(min=0) // self.thin).clamp(max=self.slots - 1)
        slot = z[:, 0] // self.draws % filled
        return torch.where(slot[:, None] == 0, self.theta[chain], self.past[(slot - 1).clamp(min=0), chain])

    def center(self, x: Tensor) -> Tensor:
        return self(torch.arange(self.slots * self.draws, device=x.device)[:, None], x).mean(0)

    # --- learn -------------------------------------------------------------------------------------------------

    def learn(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """Move every chain once.

        Arguments:
            batch: observations, and the targets of each draw.
            z: indices that contain every chain once, as `index(draws)` returns them.
        """
        loss, terms = self.loss(batch, z)
        self.optimizer.zero_grad()
        loss.backward()
        self.theta.grad.mul_(self.draws)  # type: ignore[union-attr]  # gradients of each chain's own loss, not of their mean
        self.store_positions()
        self.optimizer.step(self.temperature / batch.size)
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z = z % self.draws
        nll, _ = super().loss(batch, z)
        prior = torch.distributions.Normal(self.prior.loc, self.prior.std(), validate_args=False)
        penalty = -prior.log_prob(self.theta[z[:, 0]]).sum(1).mean() / batch.size
        return nll + penalty, {"nll": nll}

    @torch.no_grad()
    def store_positions(self) -> None:
        """Overwrite the oldest stored positions with the present ones, every `thin` updates."""
        if self.slots > 1:
            oldest = ((self.updates // self.thin - 1) % (self.slots - 1))[None]
            stored = torch.where(self.updates % self.thin == 0, self.theta, self.past[oldest])
            self.past.index_copy_(0, oldest, stored)
        self.updates.add_(1)
