"""A configuration is checked as a whole: every problem at once, with the options that exist."""

import re
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
import yaml
from hydra.core.config_store import ConfigStore

from bayesrl.annotations import Ge, Le
from bayesrl.experiment import config
from bayesrl.experiment.config import ConfigError, load, resumed
from bayesrl.experiment.help import help_text
from bayesrl.experiment.settings import SETTINGS, defaults
from bayesrl.experiment.signatures import check_target, describe_type, documentation, matches
from bayesrl.world_models.propagation import TSinf


def problems(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(words)
    return str(caught.value).splitlines()


def test_defaults() -> None:
    c = load([])
    assert (c.steps, c.seed, c.env.id, c.env.num_envs, c.run_dir, c.resume) == (20_000, 0, "CartPole-v1", 1, None, None)
    assert c.agent["_target_"] == "bayesrl.agents.bayes_dqn.BayesDQN"
    assert c.posterior["_target_"] == "bayesrl.posteriors.Hypermodel"


def test_all_problems_at_once() -> None:
    words = [
        "steps=abc", "seed=-1", "replay_ratio=nan", "posterior=bar", "stepps=3", "env.size=3", "agent.discont=0.5",
        "posterior.optimizer.lrr=3", "posterior.draws=1.5", "network.hidden=[a]", "seed", "device=[x]", "solve.evry=3",
    ]  # fmt: skip
    told = problems(*words)
    assert len(told) == len(words)
    for line in (
        "got posterior=bar, wanted an option of posterior that exists: there are adam_langevin, concrete_dropout, "
        "dropout, ensemble, full_rank, hypermodel, laplace, laplace_diagonal, last_layer, linear_hypermodel, low_rank, "
        "mean_field, point, psgld, sghmc, sgld, world",
        "got steps=abc, wanted an integer",
        "got seed=-1, wanted at least 0",
        "got replay_ratio=nan, wanted a finite number",
        "got posterior.draws=1.5, wanted an integer",
        "got network.hidden=['a'], wanted a list of integers",
        "got env.size=3, wanted a key of env that exists: "
        "there are id, imports, kwargs, num_envs, vectorization, wrappers",
    ):
        assert line in told
    assert sum("did you mean" in line for line in told) == 4


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("agent=null", "wanted an option of agent"),
        ("~agent", "wanted an option of agent"),
        ("~steps", "got steps=None, wanted an integer"),
        ("+nonsense=3", "wanted a setting that exists"),
        ("agent.planner.horizon=0", "wanted the planner beside the agent"),
        ("log=3", "got log.every=None"),
        ("seed=1,2", "wanted one value"),
        ("seed=99999999999999999999", "wanted at most 4294967295"),
        ("env.kwargs.a=${nope}", "Interpolation key 'nope' not found"),
        ("steps=1e5", "got steps=100000.0, wanted an integer"),
        ("capture=1", "wanted true or false"),
        ("env.vectorization=magic", "wanted one of auto, native, sync, async"),
        ("workers.overlap=1", "wanted one of auto, true, false"),
        ("agent._target_=bayesrl.nowhere", "wanted a name of bayesrl that exists"),
        ("agent._target_=nowhere.Agent", "wanted something that can be imported: ModuleNotFoundError"),
        (
            "planner._target_=bayesrl.world_models.planners.CEMS",
            "wanted a name of bayesrl.world_models.planners that exists: did you mean CEM?",
        ),
        ("log.every.often=3", "wanted a setting that exists"),
    ],
)
def test_each_problem_is_one_line(word: str, said: str) -> None:
    assert any(said in line for line in problems(word))


def test_open_dictionaries_take_new_keys() -> None:
    c = load(["env.kwargs.size=3", "+env.kwargs.deep=true", "env.kwargs.nested.key=x"])
    assert c.env.kwargs == {"size": 3, "deep": True, "nested": {"key": "x"}}


def test_arguments_that_no_file_mentions_are_known_by_the_signature() -> None:
    assert load(["solve.every=7"]).solve == {"every": 7}
    assert (
        "got network.depth, wanted an argument of bayesrl.networks.builders.mlp that exists"
        in problems("network.depth=3")[0]
    )


def test_further_checks_are_made_of_sound_configurations_only() -> None:
    with pytest.raises(ConfigError, match=r"^the moon$"):
        load([], checks=[lambda c: ["the moon"]])
    with pytest.raises(ConfigError, match=r"^got steps=0, wanted at least 1$"):
        load(["steps=0"], checks=[lambda c: ["the moon"]])


def test_resume_takes_little_and_refuses_the_rest_by_name() -> None:
    stored = load(["seed=3"])
    c = resumed(stored, ["steps=30000", "device=cpu", "threads=2", "stop.seconds=9", "stop.return=100", "log.every=5"])
    assert (c.steps, c.device, c.threads, c.stop.seconds, c.stop["return"], c.log.every) == (
        30_000,
        "cpu",
        2,
        9,
        100,
        5,
    )
    assert c.seed == 3 and stored.steps == 20_000
    words = [
        "seed=4",
        "agent=uniform",
        "env.kwargs.x=1",
        "checkpoint.every=9",
        "eval.every=0",
        "log.evry=5",
        "steps=no",
    ]
    with pytest.raises(ConfigError) as caught:
        resumed(stored, words)
    told = str(caught.value).splitlines()
    assert len(told) == len(words) and all(any(word in line for line in told) for word in words)


def test_directories_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nsteps: 77\n")
    assert load(["experiment=mine"], [str(tmp_path)]).steps == 77


@pytest.mark.parametrize("env", ["acrobot", "cartpole", "deep_sea", "lunar_lander", "mountain_car", "river_swim"])
@pytest.mark.parametrize("posterior", ["hypermodel", "ensemble", "point"])
def test_what_ships_is_sound(env: str, posterior: str) -> None:
    load([f"env={env}", f"posterior={posterior}"])


@pytest.mark.parametrize(
    "word", ["agent=uniform", "network=dueling", "exploration=optimistic", "target_update=periodic"]
)
def test_other_options_are_sound(word: str) -> None:
    load([word])


@pytest.mark.parametrize("posterior", ["hypermodel", "ensemble", "point"])
def test_the_experiment_is_sound_with_every_posterior(posterior: str) -> None:
    load(["experiment=deep_sea", f"posterior={posterior}"])


def test_help_tells_every_option_and_setting() -> None:
    told = help_text()
    assert "hypermodel*" in told and "deep_sea" in told
    for key in ("steps=20000", "agent.discount=", "posterior.optimizer.lr=", "env.kwargs={}", "stop.return=null"):
        assert key in told
    assert "updates per transition" in told


def test_help_tells_the_settings_of_what_is_chosen() -> None:
    told = help_text(["posterior=point", "env.kwargs.size=20"])
    for word in ("point*", "epsilon_greedy*", "exploration.decay=5000", "env.kwargs.size=20"):
        assert word in told
    assert "hypermodel*" not in told and "posterior.index_dim" not in told
    with pytest.raises(ConfigError, match="did you mean ensemble"):
        help_text(["posterior=ensembl"])


def test_types_in_words() -> None:
    assert describe_type(int | None) == "an integer or null"
    assert (
        matches(1, float)
        and not matches(True, int)
        and not matches(1.0, int)
        and matches([1], list[int])
        and not matches("a", list[str])
    )


def test_yaml_round_trip() -> None:
    assert yaml.safe_load(yaml.safe_dump(config.flat(load([]))))["steps"] == 20_000


class Judge(TSinf):
    """Takes what only a `_target_` makes, alone, in a list, and where null is the default though no type says so."""

    def __init__(self, ways: Sequence[TSinf] = (), how: Callable | None = None, other: TSinf = None): ...  # type: ignore


def test_what_must_be_built_is_asked_for_by_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "judges", SimpleNamespace(Judge=Judge))
    made, wrong = (
        {"_target_": "bayesrl.world_models.propagation.TS1"},
        {"_target_": "bayesrl.world_models.propagation.TS1", "beta": 1},
    )

    def told(**arguments: object) -> list[str]:
        return check_target({"_target_": "judges.Judge", **arguments}, "agent")

    assert (
        told(ways=[made, made], how=made | {"_partial_": True}, other=made)
        == told(how=None, other=None)
        == told()
        == []
    )
    assert told(ways=[made, wrong]) == [
        "got agent.ways[1].beta, wanted an argument of bayesrl.world_models.propagation.TS1 that exists: there are none"
    ]
    one = "a _target_ that is bayesrl.world_models.propagation.TSinf or a class derived from it"
    assert told(ways=[made, 3], how="f", other=1) == [
        f"got agent.ways={[made, 3]}, wanted a list, each {one}",
        "got agent.how='f', wanted a function, {_target_: module.name, _partial_: true} or null",
        f"got agent.other=1, wanted {one}",
    ]


# --- a setting is declared once --------------------------------------------------------------------------------------

FILES = sorted(path for path in (resources.files("bayesrl.configs")).glob("*/*.yaml"))  # type: ignore[attr-defined]


def inherited(path: Path) -> dict:
    """What a file adds to, of the same group."""
    out: dict = {}
    for name in yaml.safe_load(path.read_text()).get("defaults", []):
        file = path.with_name(f"{name}.yaml") if isinstance(name, str) else path.parent
        if file.is_file():
            own = {key: value for key, value in yaml.safe_load(file.read_text()).items() if key != "defaults"}
            out |= inherited(file) | own
    return out


def repeated(node: dict, under: dict, where: str) -> list[str]:
    """Values of a node that its `_target_` declares as defaults; `under` is what the node is put over."""
    target = node.get("_target_", under.get("_target_"))
    declared = {} if target is None else config.completed({"_target_": target})
    out = []
    for key, value in node.items():
        if key in ("_target_", "_partial_"):
            continue
        if key not in under and key in declared and config.completed(value) == declared[key]:
            out.append(f"{where}.{key}={value}")
        elif isinstance(value, dict):
            chosen = declared.get(key) if isinstance(declared.get(key), dict) and "_target_" not in value else {}
            below = {"_target_": chosen["_target_"]} if chosen else {}
            out += repeated(value | below, {}, f"{where}.{key}")
    return out


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_file_repeats_a_default(path: Path) -> None:
    tree = yaml.safe_load(path.read_text())
    tree.pop("defaults", None)
    if path.parent.name in config.COMPONENTS:
        assert repeated(tree, inherited(path), path.stem) == []
    settings = {"env": tree} if path.parent.name == "env" else tree if path.parent.name == "experiment" else {}
    base = config.leaves(defaults())
    own = [key for key, value in config.leaves(settings).items() if key in base and base[key] == value]
    assert own == []


def test_a_default_that_is_written_again_is_found() -> None:
    node = {"_target_": "bayesrl.posteriors.Ensemble", "members": 10, "mask": 0.4, "optimizer": {"lr": 0.0005}}
    assert repeated(node, {}, "x") == ["x.members=10"]
    optimizer = {"_target_": "bayesrl.optim.Adam", "_partial_": True, "lr": 0.0005}
    assert repeated(node | {"optimizer": optimizer}, {}, "x")[1:] == [f"x.optimizer={optimizer}"]


def test_train_yaml_holds_choices_alone() -> None:
    assert list(yaml.safe_load((resources.files("bayesrl.configs") / "train.yaml").read_text())) == ["defaults"]


def test_what_files_leave_out_is_said_by_the_constructors() -> None:
    """So that a stored configuration is whole, and a later version's defaults do not change it."""
    c = load(["agent.discount=0.5", "posterior.optimizer.lr=0.01"])
    assert c.agent == {
        "_target_": "bayesrl.agents.bayes_dqn.BayesDQN",
        "value": {"_target_": "bayesrl.rl.td.double_q", "_partial_": True},
        "discount": 0.5,
        "n_step": 2,
        "batch_size": 128,
        "capacity": 100_000,
        "learning_starts": 500,
    }
    adam = {"_target_": "bayesrl.optim.Adam", "_partial_": True, "lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}
    assert c.posterior.optimizer == adam


def test_another_target_has_its_own_defaults() -> None:
    c = load(["posterior=sghmc"])
    optimizer = {"_target_": "bayesrl.posteriors.sgmcmc.SGHMC", "_partial_": True, "lr": 1e-5, "friction": 0.1}
    assert c.posterior.optimizer == optimizer


def test_composing_leaves_hydra_s_store_of_configurations_as_it_was() -> None:
    before = set(ConfigStore.instance().repo)
    load([])
    assert set(ConfigStore.instance().repo) == before


@pytest.mark.parametrize("words", [[], ["agent=psrl", "env=pendulum"], ["agent=bayes_ac", "imagination=worlds"]])
def test_help_has_a_sentence_for_every_setting(words: list[str]) -> None:
    rows = help_text(words).partition("Settings")[2].splitlines()[1:]
    lacking = [row for row in rows if re.fullmatch(r"\s+\S+=(\[.*\]|\S*)", row) and "env.kwargs." not in row]
    assert len(rows) > 40 and lacking == []


class Bounded:
    """Takes numbers within bounds.

    Arguments:
        rate: between 0 and 1,
            both included.
    """

    def __init__(self, rate: Annotated[float, Ge(0), Le(1)] = 0.5, count: Annotated[int, Ge(1)] = 1): ...


def test_bounds_of_a_constructor_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bounded", SimpleNamespace(Bounded=Bounded))
    node = {"_target_": "bounded.Bounded"}
    assert check_target(node | {"rate": 1, "count": 1}, "agent") == []
    assert check_target(node | {"rate": 1.5, "count": 0}, "agent") == [
        "got agent.rate=1.5, wanted at most 1",
        "got agent.count=0, wanted at least 1",
    ]
    assert check_target(node | {"rate": "a"}, "agent") == ["got agent.rate='a', wanted a number"]
    assert documentation(Bounded) == {"rate": "between 0 and 1, both included."}


def test_every_setting_has_a_type_that_its_default_fits() -> None:
    for key, value in config.leaves(defaults()).items():
        assert key == "solve" or matches(value, SETTINGS[key].annotation), key
