"""Dynamics: exact answers in linear worlds, worlds that stand still, scores before learning."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from bayesrl.likelihoods import Categorical, Gaussian, Heteroscedastic, Likelihood, WithFlag
from bayesrl.metrics.one_step import score
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.posteriors import Batch, Ensemble, FullRank, Hypermodel, MeanField, Point, Posterior
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.world_models.dynamics import Dynamics, WorldStep, at_temperatures, signature
from bayesrl.world_models.multi_step import score_steps, segments

SPEC = EnvSpec((2,), torch.float32, 1, bounds=((-2.0,), (2.0,)))
DISCRETE = EnvSpec((2,), torch.float32, 3)


class Raw(nn.Module):
    """Inputs as features: linear regression."""

    features, rectified = 3, False

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x


def network(likelihood: Likelihood, spec: EnvSpec = SPEC) -> Network:
    (width,), outputs = signature(spec)
    return mlp((width,), outputs, size=likelihood.size, hidden=[16], prior=[8])


def make(kind: type = MeanField, spec: EnvSpec = SPEC, **options) -> Dynamics:
    torch.manual_seed(0)
    likelihood = WithFlag(Heteroscedastic())
    return Dynamics(spec, kind(network(likelihood, spec), likelihood=likelihood), **options)


def memory(N: int = 300, spec: EnvSpec = SPEC, every: int = 50, tags: int = 0, seed: int = 1) -> ReplayBuffer:
    """Obs' = obs + (0.5 a, 2 + 0.1 noise), reward = obs_0; an episode ends in the world after `every` steps."""
    g = torch.Generator().manual_seed(seed)
    replay = ReplayBuffer(spec, torch.ones(1, tags, dtype=torch.bool), N, n_step=1, discount=1.0)
    obs = torch.randn(1, 2, generator=g)
    for t in range(N):
        action = 2 * torch.rand(1, 1, generator=g) - 1 if spec.bounds else torch.randint(3, (1,), generator=g)
        moved = 0.5 * action if spec.bounds else 0.5 * action[:, None] - 0.5
        change = torch.cat([moved, 2 + 0.1 * torch.randn(1, 1, generator=g)], 1)
        done = torch.tensor([t % every == every - 1])
        no = torch.zeros(1, dtype=torch.bool)
        replay.add(
            Transition(obs, action, obs[:, 0], done, no, obs + change, ~no), torch.ones(1, tags, dtype=torch.bool)
        )
        obs = torch.randn(1, 2, generator=g) if done else obs + change
    return replay


def everything(replay: ReplayBuffer):
    return replay.gather(torch.arange(replay.rows))


def test_linear_world_is_known_exactly() -> None:
    """A Gaussian posterior over linear worlds is conjugate: its epistemic variance is known, within 10 %.

    x' (X'X / s^2 + L)^-1 x in units of standardized targets, where the prior precision L of a weight is 3, its fan-in,
    and of a bias 1.
    """
    torch.manual_seed(0)
    likelihood = WithFlag(Gaussian(0.5))
    body = Network(Raw(), 4)
    posterior = FullRank(body, draws=20, cover="head", likelihood=likelihood)
    for group in posterior.optimizer.param_groups:
        group["lr"] = 5e-3
    dynamics, replay = Dynamics(SPEC, posterior), memory(60)
    dynamics.fit(replay, updates=1500, batch_size=480)
    sample = everything(replay)
    X = nn.functional.pad(dynamics.inputs(sample.obs, sample.action), (0, 1), value=1.0)
    V = torch.linalg.inv(X.T @ X / 0.25 + torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0])))
    obs, action = torch.tensor([[0.5, 8.0], [3.0, -4.0]]), torch.tensor([[1.0], [0.3]])
    x = nn.functional.pad(dynamics.inputs(obs, action), (0, 1), value=1.0)
    exact = (x @ V * x).sum(1)[:, None] * dynamics.target_scale.square()
    torch.manual_seed(1)
    made = dynamics.posterior(dynamics.posterior.index(4000), dynamics.inputs(obs, action)).var(0)[:, :3]
    assert torch.allclose(made * dynamics.target_scale.square(), exact, rtol=0.1)
    mean = (
        V @ X.T @ ((torch.cat([sample.next_obs - sample.obs, sample.reward[:, None]], 1) - dynamics.target_mean) / 0.25)
    )
    got = dynamics.predict(obs, action, n=500)
    assert torch.allclose(got.mean[:, :3], x @ mean + dynamics.target_mean, atol=0.2)
    assert torch.allclose(got.aleatoric[:, :3], 0.25 * dynamics.target_scale.square().expand(2, 3), rtol=1e-4)


def test_statistics_are_the_data_s_and_change_only_with_a_fit() -> None:
    dynamics, replay = make(), memory(100)
    before = dynamics.mean.clone()
    dynamics.score(everything(replay))
    assert torch.equal(dynamics.mean, before)
    dynamics.fit(replay, updates=1)
    sample = everything(replay)
    x = torch.cat([sample.obs, sample.action], 1)
    assert torch.allclose(dynamics.mean, x.mean(0), atol=1e-5)
    assert torch.allclose(dynamics.scale, x.std(0, correction=0), rtol=1e-4)


def test_the_scale_of_rewards_is_at_least_what_is_to_be_expected() -> None:
    replay = memory(100)
    raised, seen = make(reward_scale=1000.0), make(reward_scale=1e-9)
    for dynamics in (raised, seen):
        dynamics.fit(replay, updates=1)
    assert float(raised.target_scale[-1]) == 1000
    assert float(seen.target_scale[-1]) == pytest.approx(float(everything(replay).reward.std(correction=0)), rel=1e-4)
    assert torch.equal(raised.target_scale[:-1], seen.target_scale[:-1])


@pytest.mark.parametrize(("reward_scale", "spread"), [(0.0, 1e-3), (100.0, 100.0)])
def test_a_reward_that_never_changed_is_promised_again_or_doubted(reward_scale: float, spread: float) -> None:
    """Far from the data worlds differ in the reward by prior functions of the scale's size, here some tenths of it."""
    torch.manual_seed(0)
    likelihood = WithFlag(Heteroscedastic())
    posterior = Hypermodel(network(likelihood), prior_scale=1.0, likelihood=likelihood)
    dynamics, replay = Dynamics(SPEC, posterior, reward_scale=reward_scale), memory(60)
    replay.columns["reward"].fill_(7.0)
    dynamics.fit(replay, updates=1)
    reward = dynamics.draw(50).step(torch.full((50, 1, 2), 300.0), torch.zeros(50, 1, 1)).reward
    assert float(dynamics.target_scale[-1]) == pytest.approx(spread)
    assert 0.1 * spread < float(reward.std()) < 10 * spread


def test_what_never_changes_is_predicted_to_stay() -> None:
    """A constant observation has no scale: dividing by its standard deviation would be dividing by zero."""
    dynamics, replay = make(), memory(60)
    replay.columns["obs"][..., 1] = 3.0
    replay.columns["next_obs"][..., 1] = 3.0
    dynamics.fit(replay, updates=300)
    assert float(dynamics.target_scale[1]) == 1.0
    made = dynamics.draw(4).step(torch.tensor([[[0.1, 3.0]]]).expand(4, 1, 2), torch.zeros(4, 1, 1))
    assert made.next_obs.isfinite().all() and torch.allclose(made.next_obs[..., 1], torch.tensor(3.0), atol=0.3)


@pytest.mark.parametrize("kind", [MeanField, Hypermodel, Ensemble, Point])
@pytest.mark.parametrize("spec", [SPEC, DISCRETE], ids=["continuous", "discrete"])
def test_equal_z_is_the_same_world_until_the_next_fit(kind: type, spec: EnvSpec) -> None:
    torch.manual_seed(0)
    likelihood = WithFlag(Gaussian(0.1))
    dynamics = Dynamics(spec, kind(network(likelihood, spec), likelihood=likelihood))
    replay = memory(60, spec, tags=dynamics.posterior.tags(1).shape[1])
    dynamics.fit(replay, updates=2)
    z, obs, action = dynamics.posterior.index(3), torch.randn(3, 5, 2), torch.randn(3, 5, spec.actions)
    frozen = dynamics.draw(3, torch.Generator().manual_seed(0))
    first, still = dynamics.worlds(z).step(obs, action), frozen.step(obs, action)
    assert [part.shape for part in first] == [(3, 5, 2), (3, 5), (3, 5)]
    assert all(torch.equal(a, b) for a, b in zip(first, dynamics.worlds(z).step(obs, action), strict=True))
    each = [dynamics.worlds(z[i : i + 1]).step(obs[i : i + 1], action[i : i + 1]).next_obs for i in range(3)]
    assert torch.allclose(torch.cat(each), first.next_obs, atol=1e-5)
    dynamics.fit(replay, updates=5)
    assert not torch.equal(dynamics.worlds(z).step(obs, action).next_obs, first.next_obs)
    assert torch.equal(frozen.step(obs, action).next_obs, still.next_obs)


def test_known_parts_take_the_place_of_learned_ones() -> None:
    dynamics = make(
        reward=lambda obs, action, after: after[..., 0] - action[..., 0], terminated=lambda o: o[..., 1] > 0
    )
    made = dynamics.draw(2).step(torch.randn(2, 6, 2), action := torch.rand(2, 6, 1))
    assert torch.equal(made.reward, made.next_obs[..., 0] - action[..., 0])
    assert torch.equal(made.terminated, (made.next_obs[..., 1] > 0).float())


def raises(*given: Tensor) -> Tensor:
    raise ArithmeticError("no such\nplace")


@pytest.mark.parametrize(
    ("part", "function", "told"),
    [
        ("reward", lambda obs, action, after: after, r"got \[3, 2, 2\] of torch.float32 from the reward function"),
        ("reward", lambda obs, action, after: after[..., :1], r"got \[3, 2, 1\] of torch.float32"),
        ("reward", lambda obs, action, after: 3.0, r"got 3.0 from the reward function, called with \[3, 2, 2\] and "),
        ("reward", lambda obs, action: obs[..., 0], "got TypeError: .* from the reward function"),
        ("reward", raises, r"got ArithmeticError: no such place from .*: mend it at .*test_dynamics.py"),
        ("reward", lambda obs, action, after: after[..., 0].sub_(1).clone(), "got a change in place by"),
        ("terminated", lambda after: after[..., 0], r"got \[3, 2\] of torch.float32 .*, wanted .* of torch.bool"),
        ("terminated", lambda after: after > 0, r"got \[3, 2, 2\] of torch.bool from the terminated function"),
    ],
)  # fmt: skip
def test_known_parts_are_tried_at_once(part: str, function, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make(**{part: function})


def test_a_known_reward_is_a_number_at_what_was_seen() -> None:
    dynamics = make(reward=lambda obs, action, after: after[..., 0].log())
    with pytest.raises(ValueError, match="got the reward nan from the reward function at obs"):
        dynamics.fit(memory(), updates=1)


def test_a_discrete_action_is_the_greatest_number() -> None:
    dynamics = make(spec=DISCRETE)
    worlds, obs = dynamics.draw(1), torch.randn(1, 1, 2)
    one, other = worlds.step(obs, torch.tensor([[[0.1, 0.3, -1]]])), worlds.step(obs, torch.tensor([[[0.0, 1, 0]]]))
    assert torch.equal(one.next_obs, other.next_obs)
    assert dynamics.encode_action(torch.tensor([2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_learns_noise_end_and_effect_of_actions() -> None:
    """Changes 0.5 a and 2 with noise 0.1: means within 0.1, noise within a factor 2, no end foreseen."""
    dynamics, replay = make(), memory(300)
    for group in dynamics.learners[0].optimizer.param_groups:
        group["lr"] = 4e-3
    dynamics.fit(replay, updates=800)
    out = dynamics.predict(torch.tensor([[0.0, 30.0]]).repeat(2, 1), torch.tensor([[-0.8], [0.8]]))
    assert torch.allclose(out.mean[:, :2], torch.tensor([[-0.4, 2.0], [0.4, 2.0]]), atol=0.1)
    assert (out.aleatoric[:, 1].sqrt() > 0.05).all() and (out.aleatoric[:, 1].sqrt() < 0.2).all()
    assert (out.mean[:, 3] < 0.2).all()


class Known(Posterior):
    """Says Normal(0, sigma^2) of every number whatever it sees, and 1/2 of the flag."""

    def __init__(self, sigma: float, K: int) -> None:
        super().__init__()
        self.likelihood, self.K = WithFlag(Gaussian(sigma)), K

    def index(self, n: int, generator=None) -> Tensor:
        return torch.zeros(n, 1)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.zeros(len(z), len(x), self.K + 1)


@pytest.mark.parametrize(
    ("sigma", "nll", "crps", "cover"),
    [(1.0, 1.418939, 0.564190, 0.9), (0.5, 2.22579, 0.60997, 0.58917), (2.0, 1.73709, 0.65574, 0.999)],
)
def test_scores_of_normals_are_known(sigma: float, nll: float, crps: float, cover: float) -> None:
    """40,000 standard normal targets; the flag adds log 2."""
    torch.manual_seed(0)
    y = torch.cat([torch.randn(20_000, 2), torch.ones(20_000, 1)], 1)[None]
    out = score(Known(sigma, 2), Batch(torch.zeros(20_000, 3), None, y, torch.ones(1, 20_000), torch.tensor(1.0)), n=3)
    assert float(out["nll"]) == pytest.approx(2 * nll + 0.693147, abs=0.06)
    assert float(out["crps"]) == pytest.approx(crps, abs=0.01)
    assert float(out["coverage_90"]) == pytest.approx(cover, abs=0.01)
    assert float(out["aleatoric_std"]) == pytest.approx(sigma) and float(out["epistemic_std"]) == 0


def test_the_temperature_that_predicts_best_is_acted_on() -> None:
    """Of three learners, one is spoiled and one is broken: the first is chosen, and NaN is never."""
    dynamics, replay = make(temperatures=[0.1, 1.0, 10.0]), memory(100)
    dynamics.fit(replay, updates=200)
    for learner, average, factor in zip(dynamics.learners, dynamics.averages, (1.0, 3.0, torch.nan), strict=True):
        for p in (learner.mu, average.mu):
            p.data.mul_(factor)
    told = dynamics.score(everything(replay))
    assert told["nll"].isfinite()
    dynamics.choose()
    assert float(dynamics.temperature) == pytest.approx(0.1)
    assert torch.equal(dynamics.posterior.mu, dynamics.averages[0].mu)
    assert dynamics.scores.isfinite().all() and dynamics.scores.argmax() == 2


def test_pieces_never_reach_from_one_episode_into_another() -> None:
    """Episodes of 7 have 3 pieces of 5 steps each, of which all are found, and none of 8."""
    replay = memory(28, every=7)
    obs, action, next_obs, reward = segments(replay, 0, 5, limit=100)
    assert obs.shape == (5, 12, 2) and action.shape == (5, 12, 1) and reward.shape == (5, 12)
    assert torch.equal(obs[1:], next_obs[:-1])
    assert segments(replay, 0, 8) is None and segments(replay, 26, 5) is None
    assert segments(replay, 14, 5)[0].shape == (5, 6, 2)


def test_predictions_ahead_of_a_world_that_is_right() -> None:
    """Worlds that know the law have no error, full coverage, and the return that happened."""

    class Right:
        count = 4

        def step(self, obs, action, noise):
            after = obs + action
            return WorldStep(after, after[..., 0], torch.zeros(after.shape[:-1]))

    torch.manual_seed(0)
    obs, actions = torch.randn(6, 1), torch.randn(3, 6, 1)
    after = obs + actions.cumsum(0)
    out, foreseen = score_steps(Right(), obs, actions, after, after[..., 0], torch.Generator().manual_seed(0))
    assert float(out["rmse"]) < 1e-6
    assert float(out["return"]) == pytest.approx(float(out["return_happened"]), abs=1e-5)
    assert foreseen.band.shape == (3, 3, 2)
    torch.testing.assert_close(foreseen.observed[:, None].expand(3, 3, 2), foreseen.band, atol=1e-5, rtol=0)
    assert torch.equal(foreseen.observed[:, 0], after[:, -1, 0])
    off, _ = score_steps(Right(), obs + 10, actions, after, after[..., 0], torch.Generator().manual_seed(0))
    assert float(off["coverage_90"]) == 0


def test_an_update_is_one_graph() -> None:
    """Traced on one sample, `update` does the same as eager on another."""
    replay = memory(200)
    eager = make(Hypermodel, temperatures=[0.1, 1.0])
    eager.standardize(everything(replay))
    traced = copy.deepcopy(eager)
    parts = [tuple(p for p in replay.gather(torch.arange(i, i + 32)) if p is not None) for i in (0, 100)]
    torch.manual_seed(3)
    z = [learner.index(learner.draws) for learner in eager.learners]
    rate = torch.tensor(0.3)
    graph = make_fx(lambda *given: traced.update(*given))(rate, *parts[0], *z)
    eager.update(rate, *parts[0], *z)
    loss = eager.update(rate, *parts[1], *z)["loss"]
    with torch.no_grad():
        assert torch.allclose(graph(rate, *parts[1], *z)["loss"], loss, rtol=1e-5)
    for p, q in zip(eager.parameters(), traced.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_refusals_name_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"got observations \[1\] of torch.int64.*agent=tabular_psrl"):
        signature(EnvSpec((1,), torch.int64, 2, categories=5))
    with pytest.raises(ValueError, match="Ensemble, which has none"):
        at_temperatures(Ensemble(mlp((3,), 4, hidden=[8])), [1.0])
    with pytest.raises(ValueError, match="got the likelihood Gaussian"):
        Dynamics(SPEC, Point(mlp((3,), 4, hidden=[8])))
    with pytest.raises(ValueError, match=r"got reward_scale=-1\.0, wanted 0 or more"):
        make(reward_scale=-1.0)
    with pytest.raises(ValueError, match="got Categorical beside a flag"):
        WithFlag(Categorical(3))
