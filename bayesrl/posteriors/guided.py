"""`Guided`: any pair of a Pyro model and a Pyro guide as a posterior over functions.

    model(x):  latents ~ priors;  returns the function's output f(x)             an ordinary Pyro program
    guide(x):  latents ~ q, reparameterized                                      an AutoGuide, or a custom module
    maximize  E_q [size / B sum_i weight_i log p(y_i | f(x_i)) - T (log q - log p)]

The index is the guide's noise: draw z runs the guide with z in place of the random numbers that it requests. A draw is
therefore one function until the next update and follows the guide as it learns, and `learn` is a pure tensor function.
(Kingma & Welling, Auto-Encoding Variational Bayes, 2014; Bingham et al., Pyro, 2019.)

    class Net(pyro.nn.PyroModule):
        def __init__(self, network):
            super().__init__()
            self.network = network
            self.register_buffer("one", torch.ones(()))

        def forward(self, x):
            w = pyro.sample("w", dist.Normal(0 * self.one, 0.1).expand([self.network.size]).to_event(1))
            return self.network.one(w, x)

    def posterior(network, likelihood):
        model = Net(network)
        guide = AutoNormal(model, init_loc_fn=init_to_value(values={"w": network.init()}), init_scale=0.01)
        return Guided(model, guide, torch.zeros(1, 4), likelihood=likelihood)

To train from the command line, write that function as the `_target_` of a file conf/posterior/net.yaml, with
`_partial_: true`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import site_is_subsample
from torch import Generator, Tensor
from torch.func import vmap
from torch.overrides import TorchFunctionMode

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.optim import Adam
from bayesrl.posteriors.learner import Learner
from bayesrl.posteriors.types import Batch


class Guided(Learner):
    """A posterior written in Pyro; the index z is the guide's standard normal noise, [n, M].

    Requirements on the program:

    - `model(x)` samples its latents once for all of x, observes no targets (the likelihood is a separate argument), and
      returns [B, *out].
    - `guide(x)` samples every latent, independently of x, from distributions that Pyro reparameterizes by normal or
      uniform noise, such as normals, flows on them, Laplace and Delta, but not Gamma or discrete distributions.
    - Learned tensors are a `PyroParam` or `nn.Parameter` of `model` or `guide`, which are modules then, and not a
      `pyro.param`, whose store is shared by all models. Other tensors are buffers, so that they move with the module.

    The KL of the latents is estimated from the draws, so `kl` is an estimate.

    Arguments:
        model: maps x [B, *] to [B, *out].
        guide: maps x to any value.
        example: inputs [B, *] with any values; both programs run on them once, which initializes an AutoGuide.
        draws: n, the number of draws that an update trains.
        temperature: T, the factor of log q - log p.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
    """

    temperature: Tensor
    example: Tensor

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        guide: Callable[[Tensor], Any],
        example: Tensor,
        draws: int = 1,
        temperature: float = 1.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__()
        if draws < 1 or temperature < 0:
            raise ValueError(f"got draws={draws}, temperature={temperature}, wanted 1 draw or more and no negative T")
        self.model, self.guide, self.draws, self.likelihood = model, guide, draws, likelihood
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.register_buffer("example", example, persistent=False)
        for part in self.modules():
            context = getattr(part, "_pyro_context", None)
            if context is not None and not hasattr(context, "param_state"):
                context.param_state = {"params": {}, "constraints": {}}  # as a module made with module_local_params has
        self.width = self.count_noise()
        self.degenerate = self.width == 0
        self.check()
        self.optimizer = optimizer(list(self.parameters()))

    def extra_repr(self) -> str:
        return f"index of {self.width}, temperature={float(self.temperature):g}"

    @property
    def history(self) -> int:
        """W, the number of observations in an input: the model's attribute `history`, or 1."""
        return getattr(self.model, "history", 1)

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        like = self.temperature
        return torch.randn(n, self.width, generator=generator, device=like.device, dtype=like.dtype)

    # --- forward -----------------------------------------------------------------------------------------------

    def traces(self, z: Tensor, x: Tensor) -> tuple[Trace, Trace]:
        """Trace the guide and the model of one draw: z [M], x [B, *]."""
        with FixedNoise(z):
            q = poutine.trace(self.guide).get_trace(x)
        return q, poutine.trace(poutine.replay(self.model, trace=q)).get_trace(x)

    def one(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and log q - log p of one draw: z [M], x [B, *] -> [B, *out] and 0-d."""
        with local_parameters():
            q, p = self.traces(z, x)
            return p.nodes["_RETURN"]["value"], q.log_prob_sum() - p.log_prob_sum()  # type: ignore[return-value]

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return vmap(lambda z: self.one(z, x)[0])(z)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        return vmap(lambda z, x: self.one(z, x[None])[0][0])(z, x)

    # --- learn -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        out, divergence = vmap(lambda z: self.one(z, batch.x))(z)
        log_p = self.likelihood(out, batch.action).log_prob(batch.y)
        nll = -(batch.weight * (log_p.flatten(2).sum(2) if log_p.dim() > 2 else log_p)).mean()
        kl = self.temperature * divergence.mean() / batch.size
        return nll + kl, {"nll": nll, "kl": kl}

    def kl(self, z: Tensor) -> Tensor:
        return vmap(lambda z: self.one(z, self.example)[1])(z).mean()

    # --- construction ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def count_noise(self) -> int:
        """Return M, the number of random numbers that the guide requests."""
        with local_parameters():
            self.guide(self.example)  # initializes an AutoGuide
            with FixedNoise() as noise:
                self.guide(self.example)
        return noise.used

    @torch.no_grad()
    def check(self) -> None:
        """Reject programs with draws that an index does not determine, or with parameters that copies would share.

        Raises:
            ValueError: the site, and what to write instead.
        """
        z = self.index(1)[0]
        with local_parameters():
            (q, p), (again, _) = self.traces(z, self.example), self.traces(z, self.example)
        own = {id(parameter) for parameter in self.parameters()}
        guided: Mapping[str, Any] = q.nodes
        sites: Mapping[str, Any] = p.nodes
        for name, site in (*guided.items(), *sites.items()):
            value = site.get("value")
            if site["type"] == "param" and id(value) not in own and id(value.unconstrained()) not in own:
                raise ValueError(f"got pyro.param({name!r}), wanted a PyroParam or nn.Parameter of model or guide")
            if site["type"] != "sample" or site_is_subsample(site):
                continue
            if name not in guided and not site["is_observed"]:
                raise ValueError(f"got a guide without {name!r}, wanted one that samples every latent of the model")
            if name in guided and not torch.equal(guided[name]["value"], again.nodes[name]["value"]):  # type: ignore
                raise ValueError(
                    f"got {name!r} ~ {type(guided[name]['fn']).__name__} in the guide, wanted a distribution that "
                    "Pyro reparameterizes by normal or uniform noise, such as Normal or LogNormal"
                )


class FixedNoise(TorchFunctionMode):
    """A mode in which distributions take their noise from a vector instead of the random number generator.

    Arguments:
        z: standard normal numbers, [M]; None for new random numbers, which are only counted.

    Attributes:
        used: how many numbers were requested.
    """

    def __init__(self, z: Tensor | None = None) -> None:
        super().__init__()
        self.z, self.used = z, 0

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func not in (Tensor.normal_, torch.randn, Tensor.uniform_, torch.rand):
            return func(*args, **kwargs)
        shape = args[0].shape if isinstance(args[0], Tensor) else torch.empty(*args, **kwargs).shape
        begin, self.used = self.used, self.used + shape.numel()
        if self.z is None:
            return func(*args, **kwargs)
        noise = self.z[begin : self.used].view(shape)
        if func in (Tensor.normal_, torch.randn):
            return noise
        eps = torch.finfo(noise.dtype).eps
        low, high = args[1:] if func is Tensor.uniform_ and len(args) == 3 else (0.0, 1.0)
        return low + (high - low) * torch.special.ndtr(noise).clamp(eps, 1 - eps)


@contextmanager
def local_parameters() -> Iterator[None]:
    """Keep parameters in their modules instead of Pyro's global store, and turn Pyro's validation off."""
    with pyro.settings.context(module_local_params=True), pyro.validation_enabled(False):
        yield
