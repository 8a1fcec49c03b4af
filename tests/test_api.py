"""`Trainer` trains as the command does, and leaves no trace."""

import functools
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra

import bayesrl
from bayesrl.rl.exploration import Thompson
from bayesrl.train import main
from support.python_api import SETTINGS, WORDS
from support.runs import TINY, metrics


class Corridor(gym.Env):
    """Seven steps to the right end; counts how often it is reset and closed. Class attributes are of all instances."""

    observation_space = gym.spaces.Box(0, 7, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    made = 0

    def __init__(self, reward: float = 1.0) -> None:
        type(self).made += 1
        self.reward, self.closed, self.log = reward, 0, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.closed:
            raise RuntimeError("it is closed")
        self.log.append("reset")
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        self.log.append("end" if self.t == 7 else "step")
        return np.full(1, self.t, np.float32), self.reward, self.t == 7, False, {}

    def close(self) -> None:
        self.closed += 1


def trainer(env: object = "CartPole-v1", **named) -> bayesrl.Trainer:
    settings = SETTINGS | named.pop("settings", {})
    return bayesrl.Trainer(env, settings=settings, **(WORDS | named))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[bayesrl.Trainer, bayesrl.Result]:
    made = trainer(posterior="ensemble", run_dir=tmp_path_factory.mktemp("api") / "run")
    return made, made.train(progress=False)


# --- results ---------------------------------------------------------------------------------------------------------


def test_the_same_numbers_as_the_command(run, tmp_path: Path) -> None:
    words = ["posterior=ensemble", "capture=false", "steps=400", "seed=5"]
    assert main([*TINY, *words, f"run_dir={tmp_path / 'run'}"]) == 0
    assert metrics(run[1].run_dir) == metrics(tmp_path / "run")


def test_metrics_are_arrays(run) -> None:
    steps, values = run[1].metrics["eval/mean_reward"]
    assert steps.tolist() == [200, 400] and steps.dtype == np.int64
    assert values.dtype == np.float64 and (values > 0).all()
    assert run[1].summary["steps"] == 400 and run[1].interrupted is None
    assert run[1].config["posterior"]["_target_"].endswith("Ensemble")


def test_metrics_as_a_table(run) -> None:
    pytest.importorskip("pandas")
    table = run[1].to_pandas()
    assert table.index.tolist() == [100, 200, 300, 400]
    assert table["eval/mean_reward"].dropna().tolist() == run[1].metrics["eval/mean_reward"].values.tolist()


def test_without_pandas(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        run[1].to_pandas()


def test_the_figure(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = run[1].plot()
    svg = figure.save(tmp_path / "run.svg").read_text()
    assert svg == figure._repr_svg_() and svg.startswith("<svg") and "start value, mean and 5-95 % over draws" in svg
    assert svg.count("<polygon") == 1 and "evaluation" in svg  # one band
    with pytest.raises(ValueError, match=r"wanted a name that ends in .svg or .png"):
        figure.save(tmp_path / "run.jpg")
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    with pytest.raises(ImportError, match="got no cairosvg"):
        figure.save(tmp_path / "run.png")


def test_a_figure_in_pixels(run, tmp_path: Path) -> None:
    pytest.importorskip("cairosvg")
    assert run[1].plot().save(tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_the_policy_is_what_load_gives(run) -> None:
    obs = np.array([0.01, 0.02, 0.03, 0.04], np.float32)
    assert run[1].policy(obs) == bayesrl.load(run[1].run_dir)(obs)


def test_reprs_are_short_and_html_is_escaped(run) -> None:
    made, result = run
    facts = "env=CartPole-v1, agent=BayesDQN, posterior=Ensemble, steps=400, seed=5, run_dir="
    assert repr(made).startswith(f"Trainer({facts}") and "\n" not in repr(made)
    assert repr(result).startswith("Result(env=CartPole-v1, steps=400, return=") and "\n" not in repr(result)
    assert "<svg" in result._repr_html_() and "<th>agent</th><td>BayesDQN</td>" in made._repr_html_()
    result = bayesrl.Result(result.run_dir)
    result.config["env"]["id"] = "<script>"
    assert "<script>" not in result._repr_html_()


def test_a_second_train_and_resume_go_on(tmp_path: Path) -> None:
    made = trainer(run_dir=tmp_path / "run", steps=100)
    made.train(progress=False)
    assert made.train(200, progress=False).summary["steps"] == 200
    again = bayesrl.Trainer.resume(tmp_path / "run", steps=400)
    assert again.train(progress=False).summary["steps"] == 400
    trainer(run_dir=tmp_path / "whole").train(progress=False)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_quiet_and_loud(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    trainer(run_dir=tmp_path / "quiet", steps=50).train(progress=False)
    assert capfd.readouterr() == ("", "")
    trainer(run_dir=tmp_path / "loud", steps=50).train()
    said = capfd.readouterr()
    assert "run: " in said.out and "50/50" in said.err


# --- environments ----------------------------------------------------------------------------------------------------


def test_an_instance_is_used_itself_and_left_open(tmp_path: Path) -> None:
    env = Corridor()
    made = Corridor.made
    result = trainer(env, run_dir=tmp_path / "run").train(progress=False)
    assert Corridor.made == made and env.closed == 0
    steps, values = result.metrics["eval/mean_reward"]
    # The evaluation that is due at 200 waits for the end of an episode; that of 400 becomes the final one.
    assert (steps.tolist(), values.tolist(), result.summary["eval_return_mean"]) == ([203], [7], 7)
    assert result.metrics["rollout/ep_rew_mean"].values.tolist() == [7] * 5
    begun = [i for i, word in enumerate(env.log) if word == "reset"][-1]
    assert env.log[begun:] == ["reset"] and env.log.count("end") == 400 // 7 + 2 + 2  # two by the checker


def test_evaluation_in_an_environment_of_its_own(tmp_path: Path) -> None:
    env, test_env = Corridor(), Corridor(reward=2.0)
    result = trainer(env, eval_env=test_env, run_dir=tmp_path / "run").train(progress=False)
    assert result.metrics["eval/mean_reward"].steps.tolist() == [200, 400]
    assert result.metrics["eval/mean_reward"].values.tolist() == [14, 14]
    assert result.metrics["rollout/ep_rew_mean"].values.tolist() == [7] * 4
    assert (env.closed, test_env.closed) == (0, 0)


@pytest.mark.parametrize("env", [f"{__name__}:Corridor", Corridor, functools.partial(Corridor, reward=1.0)])
def test_classes_and_functions_are_as_good_as_ids(env: object, tmp_path: Path) -> None:
    result = trainer(env, run_dir=tmp_path / "run", settings={"env.num_envs": 2}).train(progress=False)
    assert result.metrics["eval/mean_reward"].values.tolist() == [7, 7]
    stored = "<Corridor>" if isinstance(env, functools.partial) else f"{__name__}:Corridor"
    assert result.config["env"]["id"] == stored


def test_what_a_configuration_cannot_store_is_asked_for_again(tmp_path: Path) -> None:
    env = Corridor()
    trainer(env, run_dir=tmp_path / "run").train(progress=False)
    with pytest.raises(ValueError, match=r"got env=Corridor, an object that a configuration cannot store.*env=\.\.\."):
        bayesrl.Trainer.resume(tmp_path / "run", steps=500)
    assert main([f"resume={tmp_path / 'run'}", "steps=500"]) == 2
    result = bayesrl.Trainer.resume(tmp_path / "run", env, steps=500).train(progress=False)
    assert result.summary["steps"] == 500 and env.closed == 0
    assert bayesrl.load(tmp_path / "run")(np.zeros(1))[0] in (0, 1)


def test_make_env_gives_one_thing() -> None:
    envs = bayesrl.make_env("bayesrl/DeepSea-v0", 3, kwargs={"size": 5})
    obs, _ = envs.reset(seed=0)
    assert isinstance(envs, gym.vector.VectorEnv) and obs.shape == (3, 5, 5)
    envs.close()


# --- objects ---------------------------------------------------------------------------------------------------------


def test_a_class_or_a_partial_stands_for_its_option(run, tmp_path: Path) -> None:
    made = trainer(agent=bayesrl.BayesDQN, posterior=functools.partial(bayesrl.Ensemble, members=3))
    named = trainer(agent="bayes_dqn", posterior="ensemble", settings={"posterior.members": 3})
    assert made.config == named.config


def test_instances_are_used_as_they_are(tmp_path: Path) -> None:
    likelihood = bayesrl.Gaussian(sigma=0.5)
    given = {"likelihood": likelihood, "exploration": lambda: Thompson()}
    result = trainer(run_dir=tmp_path / "run", **given).train(progress=False)
    assert result.policy.agent.posterior.likelihood is likelihood
    with pytest.raises(ValueError, match="got likelihood=Gaussian, an object"):
        bayesrl.load(result.run_dir)
    with pytest.raises(ValueError, match=r"got likelihood=Gaussian[^\n]*\ngot exploration="):
        bayesrl.Trainer.resume(result.run_dir, steps=500)
    assert bayesrl.load(result.run_dir, **given)(np.zeros(4)) == result.policy(np.zeros(4))


def test_an_agent_of_ones_own_and_an_agent_that_is_built(tmp_path: Path) -> None:
    class Mine(bayesrl.BayesDQN):
        pass

    settings = {key: value for key, value in SETTINGS.items() if not key.startswith("agent")}
    words = WORDS | {"run_dir": tmp_path / "mine", "steps": 50}
    mine = functools.partial(Mine, discount=0.9, learning_starts=40, batch_size=8)
    made = bayesrl.Trainer("CartPole-v1", agent=mine, settings=settings, **words)
    assert repr(made).startswith("Trainer(env=CartPole-v1, agent=Mine,")
    agent = made.train(progress=False).policy.agent
    assert (type(agent), agent.replay.discount) == (Mine, 0.9)
    words["run_dir"] = tmp_path / "built"
    result = bayesrl.Trainer("CartPole-v1", agent=agent, settings=settings, **words).train(progress=False)
    assert result.policy.agent is agent


# --- a guest's manners -----------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_moves() -> Iterator[None]:
    """Everything that belongs to the process is the same before and after."""

    def everything() -> list:
        return [
            random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist(), torch.get_num_threads(),
            signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), list(warnings.filters), os.getcwd(),
            torch.get_default_dtype(), torch.distributions.Distribution._validate_args,
        ]  # fmt: skip

    before = everything()
    yield
    assert everything() == before


def test_the_process_is_left_as_it_was_found(tmp_path: Path, nothing_moves: None) -> None:
    made = trainer(run_dir=tmp_path / "run", threads=2, steps=150)
    result = made.train(progress=False)
    result.policy(np.zeros(4))
    made.train(200, progress=False)


def test_inside_a_hydra_application(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "theirs.yaml").write_text("a: 1\n")
    with initialize(str(os.path.relpath(tmp_path / "conf", Path(__file__).parent)), version_base="1.2"):
        theirs = GlobalHydra.instance().hydra
        trainer(run_dir=tmp_path / "run", steps=20).train(progress=False)
        assert GlobalHydra.instance().hydra is theirs
        assert compose("theirs").a == 1


def test_off_the_main_thread_and_twice_in_one_process(run, tmp_path: Path) -> None:
    def work() -> None:
        trainer(posterior="ensemble", run_dir=tmp_path / "run").train(progress=False)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert metrics(tmp_path / "run") == metrics(run[1].run_dir)


def test_an_interruption_leaves_what_was_learned(tmp_path: Path) -> None:
    class Interrupt(bayesrl.Callback):
        done = False

        def on_step(self, context) -> None:
            if context.steps == 150 and not self.done:
                self.done = True
                os.kill(os.getpid(), signal.SIGINT)

    made = trainer(run_dir=tmp_path / "run", callbacks=[Interrupt()])
    result = made.train(progress=False)
    assert result.interrupted == "SIGINT" and result.summary["steps"] == 150
    assert result.summary["eval_return_mean"] is None and "interrupted=SIGINT" in repr(result)
    assert made.train(progress=False).summary["steps"] == 400


def test_a_termination_is_saved_and_then_reaches_the_caller(tmp_path: Path) -> None:
    class Terminate(bayesrl.Callback):
        def on_step(self, context) -> None:
            if context.steps == 150:
                os.kill(os.getpid(), signal.SIGTERM)

    came = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        trainer(run_dir=tmp_path / "run", callbacks=[Terminate()]).train(progress=False)
    finally:
        signal.signal(signal.SIGTERM, old)
    assert came == [signal.SIGTERM] and (tmp_path / "run" / "checkpoints" / "000000000150.pt").exists()


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"agent": "bayes_dqm"}, "got agent=bayes_dqm, wanted an option of agent that exists: did you mean bayes_dqn"),
        ({"posteriors": "ensemble"}, "wanted a keyword of Trainer that exists: did you mean posterior"),
        ({"num_envs": 4}, r'got num_envs=4, wanted it among the settings: settings={"env.num_envs": 4}'),
        ({"resume": "runs/a"}, r"wanted bayesrl.Trainer.resume\(run_dir\)"),
        ({"steps": "100"}, "got steps=100, wanted an integer"),
        ({"steps": 0}, "got steps=0, wanted at least 1"),
        ({"seed": 1.5}, "got seed=1.5, wanted an integer"),
        ({"device": "banana"}, "got device=banana, wanted auto or one of those found here"),
        ({"settings": {"agent.discont": 0.9}}, "got agent.discont, wanted an argument of .* did you mean discount"),
        ({"settings": {"agent.discount": "high"}}, "got agent.discount='high', wanted a number"),
        ({"settings": {"agent": "psrl"}}, "groups are keywords"),
        ({"settings": {"env.kwargs": object()}}, "wanted plain values"),
        ({"likelihood": bayesrl.Gaussian(), "settings": {"likelihood.sigma": 1.0}}, "wanted it set in the object"),
        ({"solve": 5}, "got solve=5, wanted null or its settings"),
        ({"solve": "fast"}, "got solve=fast, wanted null or its settings"),
        ({"threads": 10**14}, "got threads=100000000000000, wanted at most 1024"),
        ({"callbacks": bayesrl.EarlyStopping()}, "got callbacks=EarlyStopping.* wanted a list"),
        ({"callbacks": [3]}, "got the callback 3, wanted an instance of bayesrl.Callback"),
    ],
)
def test_wrong_words_are_told_as_the_command_tells_them(named: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        trainer(**named)


@pytest.mark.parametrize(
    ("env", "settings", "said"),
    [
        ("CartPol-v1", {}, "did you mean CartPole-v1"),
        ("cartpol", {}, "got env=cartpol, wanted an option of env that exists: did you mean cartpole"),
        (3, {}, "got 3, wanted an id, a class or function that makes an environment, or a gymnasium.Env"),
        (Corridor(), {"env.num_envs": 4}, "got env.num_envs=4 with an instance as env, wanted 1"),
        (Corridor(), {"env.vectorization": "async"}, "with an instance as env, wanted auto or sync"),
        (Corridor(), {"env.kwargs": {"reward": 2.0}}, "'reward'"),
        (gym.make_vec("CartPole-v1", 2), {}, "which is 2 environments, wanted one"),
    ],
)
def test_wrong_environments(env: object, settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trainer(env, settings=settings)


def test_a_closed_environment() -> None:
    env = Corridor()
    env.close()
    with pytest.raises(ValueError, match="it is closed"):
        trainer(env)


def test_an_evaluation_environment_of_another_kind() -> None:
    with pytest.raises(ValueError, match="got eval_env with observation_space"):
        trainer(Corridor, eval_env="CartPole-v1")


@pytest.mark.parametrize("steps", ["many", 0, True])
def test_wrong_steps_of_a_training(steps: object, run) -> None:
    with pytest.raises(ValueError, match=f"got steps={steps}, wanted"):
        run[0].train(steps)


def test_a_directory_that_holds_a_run(run) -> None:
    with pytest.raises(ValueError, match="which holds a run"):
        trainer(run_dir=run[1].run_dir).train(progress=False)


def test_a_run_that_stores_its_own_takes_no_other(run) -> None:
    with pytest.raises(ValueError, match="got posterior=Ensemble with resume, wanted none"):
        bayesrl.Trainer.resume(run[1].run_dir, posterior=bayesrl.Ensemble, steps=500)


def test_a_total_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    first = trainer(Corridor, steps=100, run_dir=tmp_path / "run")
    first.train(progress=False)
    with pytest.raises(ValueError, match="got steps=50, wanted 100 or more"):
        first.train(steps=50, progress=False)
    assert first.config["steps"] == 100
    assert first.train(steps=np.int64(120), progress=False).summary["steps"] == 120


def test_a_posterior_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got a posterior that cannot be built"):
        trainer(posterior=object(), run_dir=tmp_path / "run").train(progress=False)
