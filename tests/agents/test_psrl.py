"""`psrl` and `pets`: worlds held for an episode, fits at its end, plans that work."""

import copy
from functools import partial

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from bayesrl.agents.pets import PETS
from bayesrl.agents.psrl import PSRL
from bayesrl.likelihoods import Heteroscedastic, WithFlag
from bayesrl.networks import mlp
from bayesrl.optim import Adam
from bayesrl.posteriors import Hypermodel
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.training import images
from bayesrl.world_models.mpc import CHUNK
from bayesrl.world_models.planners import CEM, MPPI, ImprovedCEM, Planner, RandomShooting
from bayesrl.world_models.propagation import TS1, Expectation, Hallucinated, TSinf, returns
from support.runs import checkpoint, metrics, same

SPEC = EnvSpec((1,), torch.float32, 1, num_envs=2, bounds=((-3.0,), (3.0,)))
SMALL = {"horizon": 3, "candidates": 32}


def agent(kind: type = PSRL, spec: EnvSpec = SPEC, planner=None, updates: int = 5, **options) -> PSRL:
    torch.manual_seed(0)
    shape, outputs = kind.signature(spec)
    network = mlp(shape, outputs, size=2, hidden=[32], prior=[16])
    adam = partial(Adam, lr=1e-2)
    posterior = Hypermodel(network, draws=2, likelihood=WithFlag(Heteroscedastic()), optimizer=adam)
    planner = planner or ImprovedCEM(**SMALL, iterations=2, elites=8)
    return kind(spec, posterior, planner, updates=updates, learning_starts=20, **options)


def greedily(made: PSRL, obs: list[list[float]]) -> torch.Tensor:
    """What is done at the start of episodes."""
    return made.predict(torch.tensor(obs))[0]


class Line:
    """obs' = obs + 0.5 a, and what is paid is minus the distance from 0; episodes of 10 steps from +-2."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec, self.t = spec, 0
        self.obs = torch.tensor([[-2.0], [2.0]])[: spec.num_envs]

    def run(self, agent: PSRL, steps: int) -> list[float]:
        """Mean return of each episode."""
        returns, total = [], 0.0
        E = self.spec.num_envs
        for _ in range(steps):
            start = torch.full((E,), self.t == 0)
            action = agent.act(self.obs, start)
            move = action if self.spec.bounds is not None else action[:, None] - 1.0
            after = self.obs + 0.5 * move
            self.t += 1
            done = torch.full((E,), self.t == 10)
            no = torch.zeros(E, dtype=torch.bool)
            agent.observe(Transition(self.obs, action, -after[:, 0].abs(), no, done, after, ~no))
            total += float(-after.abs().mean())
            self.obs = after
            if self.t == 10:
                returns.append(total)
                self.t, total, self.obs = 0, 0.0, torch.tensor([[-2.0], [2.0]])[:E]
            if agent.ready():
                self.info = agent.learn()
        return returns


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PSRL, {}),
        (PSRL, {"planner": RandomShooting(horizon=3, candidates=200)}),
        pytest.param(PETS, {"planner": CEM(**SMALL, iterations=2, elites=8)}, marks=pytest.mark.slow),
        pytest.param(PETS, {"planner": MPPI(**SMALL, iterations=2), "propagation": TS1()}, marks=pytest.mark.slow),
        (PETS, {"propagation": Hallucinated(0.5)}),
        pytest.param(PETS, {"propagation": Expectation()}, marks=pytest.mark.slow),
    ],
    ids=["psrl", "psrl-shooting", "pets-cem", "pets-mppi-ts1", "pets-hallucinated", "pets-expectation"],
)
def test_learns_to_stay_at_zero(kind: type, options: dict) -> None:
    """The best return is -3 (steps of 0.5 from 2), doing nothing -20; after three of them to learn from at least -8."""
    line = Line(SPEC)
    returns = line.run(made := agent(kind, updates=100, **options), 60)
    assert max(returns[3:]) > -8
    assert line.info["model/broken"] == 0 and line.info["loss"].isfinite()
    assert 0 <= line.info["model/coverage_90"] <= 1 and line.info["ahead/rmse"] < 1
    assert images.steps_ahead(made)["model/steps_ahead"].size == (720, 350)  # a number and the reward
    assert greedily(made, [[1.0], [-1.0], [0.5]]).shape == (3, 1)


@pytest.fixture(scope="module")
def trained() -> dict:
    """The state of an agent that has learned the line, whatever it evaluates by."""
    Line(SPEC).run(made := agent(updates=100), 60)
    return made.state_dict()


@pytest.mark.parametrize("way", [TSinf(), TS1(), Expectation(), Hallucinated(0.5)], ids=lambda way: type(way).__name__)
def test_greedy_plans_by_any_propagation(way: TSinf, trained: dict) -> None:
    """From 2 and -2 towards 0; the mean world is one world for each environment."""
    made, judged = agent(updates=100, evaluation=way), []
    made.load_state_dict(trained)
    search = made.mpc.search
    made.mpc.search = lambda propagation, z, *rest: (
        judged.append((propagation, len(z))) or search(propagation, z, *rest)
    )
    action = greedily(made, [[2.0], [-2.0]])
    assert action[0] < -0.5 and action[1] > 0.5
    assert judged == [(way, 2 if type(way) is Expectation else 10)]


def test_what_is_compiled_is_of_its_own_propagation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning with another beta than evaluation has: greedy plans are what they are where nothing is compiled."""
    made = agent(PETS, propagation=Hallucinated(3.0), evaluation=Hallucinated(0.0))
    Line(SPEC).run(made, 20)
    obs, yes = torch.tensor([[1.0], [2.0]]), torch.ones(2, dtype=torch.bool)
    plain = made.predict(obs, None, yes)[1]
    monkeypatch.setattr("bayesrl.world_models.mpc.capture", lambda function, *given, **named: function)
    made.mpc.compiled = {}
    made.act(obs, yes)
    again = made.predict(obs, None, yes)[1]
    assert all(map(torch.equal, again, plain)) and len(made.mpc.compiled) == 2


def test_discrete_actions() -> None:
    """Three actions, -0.5, 0 and 0.5: the same task, the same returns."""
    spec = EnvSpec((1,), torch.float32, 3, num_envs=2)
    line = Line(spec)
    returns = line.run(made := agent(spec=spec, updates=100), 60)
    assert max(returns[3:]) > -8
    assert greedily(made, [[1.0], [-1.0]]).tolist() == [0, 2]
    only = torch.tensor([[False, True, False]] * 2)
    assert made.act(torch.tensor([[1.0], [-1.0]]), torch.ones(2, dtype=torch.bool), only).tolist() == [1, 1]


def test_a_world_is_kept_for_an_episode() -> None:
    made = agent()
    Line(SPEC).run(made, 20)
    obs, no = torch.zeros(2, 1), torch.zeros(2, dtype=torch.bool)
    made.act(obs, ~no)
    z = made.index.z.clone()
    made.act(obs, no)
    assert torch.equal(made.index.z, z)
    made.act(obs, torch.tensor([False, True]))
    assert torch.equal(made.index.z[0], z[0]) and not torch.equal(made.index.z[1], z[1])


def test_learns_when_an_episode_has_ended_and_acts_at_random_before() -> None:
    made, line = agent(), Line(SPEC)
    line.run(made, 9)
    assert not made.ready() and made.learned == 0
    actions = torch.cat([made.act(torch.zeros(2, 1), torch.ones(2, dtype=torch.bool)) for _ in range(200)])
    assert -1 <= actions.min() < -0.9 and 0.9 < actions.max() <= 1 and actions.mean().abs() < 0.1
    line.run(made, 1)
    assert made.learned == 10 and not made.ready()
    assert "model/nll" not in line.info, "nothing was predicted before the first fit"


def test_a_further_fit_to_the_same_scores_nothing() -> None:
    """As with several environments, whose fits come one after the other."""
    made, line = agent(), Line(SPEC)
    line.run(made, 20)
    assert "model/nll" in line.info
    again = made.learn()
    assert "model/nll" not in again and again["loss"].isfinite() and made.learned == made.replay.rows


def test_learns_inside_an_episode_where_wished() -> None:
    """Every 4 steps, from 20 transitions on: after the tenth step, which ends the episode, at the 14th and 18th."""
    made, line = agent(every=4), Line(SPEC)
    line.run(made, 10)
    learned = []
    for _ in range(9):
        line.run(made, 1)
        learned.append(int(made.learned))
    assert learned == [10, 10, 10, 14, 14, 14, 14, 18, 18]


def test_scores_are_of_what_was_not_learned_from() -> None:
    """The second episode's scores are what the first fit says of its rows."""
    made, line = agent(), Line(SPEC)
    line.run(made, 10)
    before = copy.deepcopy(made.dynamics)
    line.run(made, 10)
    told = before.score(made.replay.gather(torch.arange(20, 40)))
    assert all(torch.equal(line.info[f"model/{name}"], value) for name, value in told.items())


def test_greedy_touches_no_random_state_and_says_the_same_again() -> None:
    made = agent()
    Line(SPEC).run(made, 20)
    before, state = torch.get_rng_state(), copy.deepcopy(made.state_dict())
    first = greedily(made, [[1.0], [2.0]])
    assert torch.equal(first, greedily(made, [[1.0], [2.0]]))
    assert torch.equal(before, torch.get_rng_state())
    same(state, made.state_dict())


def test_a_greedy_plan_goes_on_from_the_one_before() -> None:
    """A step later the search has the old plan, a step on, where an episode goes on, and none where one starts."""
    made, begun = agent(), []
    Line(SPEC).run(made, 20)
    search = made.mpc.search

    def watch(propagation, z, obs, plan, *rest):
        begun.append(plan)
        return search(propagation, z, obs, plan, *rest)

    made.mpc.search = watch
    obs, yes, no = torch.tensor([[1.0], [2.0]]), torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)
    _, seen = made.predict(obs, None, yes)
    _, again = made.predict(obs, seen, no)
    _, half = made.predict(obs, seen, torch.tensor([False, True]))
    mean, elites = seen.mean[..., 0], seen.elites[..., 0]
    assert not begun[0].mean.any() and not begun[0].elites.any()
    assert torch.equal(begun[1].mean[..., 0], mean[:, [1, 2, 2]]) and mean.abs().min() > 0
    assert torch.equal(begun[1].elites[..., 0], elites[..., [1, 2, 2]])
    assert (
        torch.equal(begun[2].mean[0], begun[1].mean[0]) and not begun[2].mean[1].any() and not begun[2].elites[1].any()
    )
    assert again.step.tolist() == [1, 1] and half.step.tolist() == [1, 0]
    assert not torch.equal(again.mean[0], made.predict(obs, again, no)[1].mean[0]), "the noise of two steps differs"


def test_saved_and_loaded_goes_on_the_same() -> None:
    one, line = agent(), Line(SPEC)
    line.run(one, 25)
    other = agent(PSRL)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    other.replay.restore(one.replay.rows_since(0), one.replay.rows)
    again = copy.copy(line)
    torch.manual_seed(5)
    a = line.run(one, 25)
    torch.manual_seed(5)
    assert a == again.run(other, 25)
    same(one.state_dict(), other.state_dict())


def test_a_stretch_of_the_horizon_is_one_graph() -> None:
    """Traced on one state of everything, it makes of another what it makes uncompiled."""
    made = agent(PETS, planner=CEM(horizon=3, candidates=8, elites=4), propagation=TS1(), worlds=2)
    mpc, g = made.mpc, torch.Generator().manual_seed(0)

    def given() -> tuple[torch.Tensor, ...]:
        z, noise = made.dynamics.posterior.index(4, g), torch.randn(3, 2, 2, 2, generator=g)
        at = torch.randn(2, 2, 8, 1, generator=g), torch.rand(2, 2, 8, generator=g), torch.randn(2, 2, 8, generator=g)
        return z, *at, torch.randn(2, 8, 3, 1, generator=g), torch.randint(2, (3, 2), generator=g), noise

    graph = make_fx(lambda *args: mpc.rollout_chunk(mpc.propagation, *args))(*given())
    other = given()
    for traced, plain in zip(graph(*other), mpc.rollout_chunk(mpc.propagation, *other), strict=True):
        assert torch.allclose(traced, plain, atol=1e-6)


@pytest.mark.parametrize("H", [1, CHUNK, 2 * CHUNK + 3])
def test_stretches_make_the_whole_horizon(H) -> None:
    """A search in chunks values plans as whole rollouts do, whatever the horizon."""
    planner = CEM(horizon=H, candidates=8, elites=4)
    made, g = agent(PETS, planner=planner, propagation=TS1(), worlds=2), torch.Generator().manual_seed(0)
    z, obs = made.dynamics.posterior.index(4, g), torch.randn(2, 1, generator=g)
    actions, shift = torch.randn(2, 8, H, 1, generator=g), torch.randint(2, (H, 2), generator=g)
    noise = torch.randn(H, 2, 2, 2, generator=g)
    for given in (noise, None):
        whole = returns(made.dynamics.worlds(z), TS1(), obs, actions, given, shift)
        assert torch.equal(made.mpc.returns(TS1(), z, obs, actions, given, shift), whole)


def test_a_planner_that_gives_no_plan_is_told() -> None:
    class Wrong(CEM):
        def improve(self, score, plan, noise):
            return noise[:, 0]

    made = agent(planner=Wrong(**SMALL))
    with pytest.raises(ValueError, match=r"got a Tensor from Wrong\.improve, wanted a Plan"):
        greedily(made, [[1.0], [2.0]])
    made = agent(planner=type("Mute", (Planner,), {})(**SMALL, iterations=1))
    with pytest.raises(ValueError, match="got the planner Mute without improve"):
        greedily(made, [[1.0], [2.0]])


def test_what_does_not_pay_is_not_compiled() -> None:
    made, before = agent(), torch.get_rng_state()
    state = copy.deepcopy(made.state_dict())
    assert made.capture(10, 0) == (False, False)
    assert torch.equal(before, torch.get_rng_state())
    same(state, made.state_dict())


TINY = [
    "agent.updates=20", "agent.learning_starts=20", "agent.batch_size=16", "planner.horizon=3",
    "planner.candidates=8", "planner.iterations=1", "planner.elites=4", "network.hidden=[8]", "posterior.draws=2",
    "log.every=30", "checkpoint.every=60", "eval.every=0", "eval.episodes=1", "eval.final_episodes=1",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["psrl", pytest.param("pets", marks=pytest.mark.slow)])
def test_twice_as_long_is_resumed_once(kind: str, tmp_path) -> None:
    """From the command line, on a discrete and on a continuous environment, bit for bit."""
    from bayesrl.train import main

    env = {"psrl": "env=continuous_cartpole", "pets": "env=cartpole"}[kind]
    assert main([f"agent={kind}", env, *TINY, "steps=120", f"run_dir={tmp_path / 'whole'}"]) == 0
    assert main([f"agent={kind}", env, *TINY, "steps=60", f"run_dir={tmp_path / 'halves'}"]) == 0
    assert main([f"resume={tmp_path / 'halves'}", "steps=120"]) == 0
    same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "halves"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")
    assert any(row["model/nll"] for row in metrics(tmp_path / "whole"))


def test_what_cannot_be_is_told(tmp_path, capsys: pytest.CaptureFixture) -> None:
    from bayesrl.train import main

    for words, told in {
        ("env=deep_sea",): "use agent=tabular_psrl",
        ("env=pendulum", "likelihood=gaussian"): "WithFlag",
        ("env=pendulum", "planner.elites=200"): "got planner.elites=200 of planner.candidates=100",
        ("env=pendulum", "planner.horizon=0"): "got planner.horizon=0, wanted at least 1",
        ("env=pendulum", "posterior=ensemble", "agent.dynamics.temperatures=[1.0]"): "temperatures=[]",
        ("env=pendulum", "agent.worlds=0"): "got agent.worlds=0, wanted at least 1",
        ("env=pendulum", "agent.dynamics.temperatures=[1.0,-1.0]"): "wanted no negative temperature",
        (
            "env=pendulum",
            "agent=pets",
            "agent.propagation._target_=bayesrl.world_models.propagation.TSX",
        ): "did you mean TS1?",
        (
            "env=pendulum",
            "agent=pets",
            "agent.propagation._target_=torch.nn.ReLU",
        ): "wanted bayesrl.world_models.propagation.TSinf",
        ("env=pendulum", "agent.evaluation._target_=torch.nn.ReLU"): "wanted bayesrl.world_models.propagation.TSinf",
        (
            "env=pendulum",
            "agent.evaluation=3",
        ): "wanted a _target_ that is bayesrl.world_models.propagation.TSinf or a class",
        ("env=pendulum", "agent.dynamics.reward=5"): "wanted a function, {_target_: module.name, _partial_: true}",
        ("env=pendulum", "agent.dynamics.reward={_target_:bayesrl.envs.tasks.tensor_continuous.stands}"): (
            "without obs, action, next_obs, wanted them or, where the function itself is wanted, _partial_: true"
        ),
        ("env=pendulum", "agent.dynamics.reward={_target_:math.pi,_partial_:true}"): "wanted a class or a function",
        ("env=pendulum", "posterior.optimizer=adam"): "wanted a function, {_target_: module.name",
    }.items():
        assert main(["agent=psrl", *words, f"run_dir={tmp_path / 'run'}"]) == 2
        assert told in capsys.readouterr().err
