"""Workers name themselves in their errors, are replaced when they break, and never outlive their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from bayesrl.envs import WorkerError, Workers, make


def test_async_is_sync_in_other_processes(clocks):
    sync, workers = make("CartPole-v1", 2, vectorization="sync")[0], make("CartPole-v1", 2, vectorization="async")[0]
    assert isinstance(workers, Workers)
    assert all(process.daemon for process in workers.processes)
    np.testing.assert_array_equal(sync.reset(seed=0)[0], workers.reset(seed=0)[0])
    sync.action_space.seed(0)
    for _ in range(60):
        actions = sync.action_space.sample()
        got, wanted = workers.step(actions), sync.step(actions)
        for a, b in zip(got[:4], wanted[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        assert got[4].keys() == wanted[4].keys()
    workers.close()


def test_an_exception_in_a_worker_says_whose_it_is(clocks):
    envs, _ = make("clocks:Clock", 2, {"fail_at": 1}, vectorization="async", restarts=0)
    envs.reset(seed=0)
    pids = [process.pid for process in envs.processes]
    with pytest.raises(WorkerError) as caught:
        envs.step(np.zeros(2, int))
    for i, pid in enumerate(pids):
        words = f"step of environment {i} (clocks:Clock, pid {pid}) raised ArithmeticError: the clock broke"
        assert str(caught.value).splitlines()[i] == f"{words} (clocks.py:22 step)"
    envs.close()
    assert all(not process.is_alive() for process in envs.processes)


def test_an_observation_that_does_not_fit_says_whose_it_is(clocks):
    envs, _ = make("clocks:Misfit", 2, vectorization="async", restarts=0)
    words = r"environment 0 \(clocks:Misfit, pid \d+\) raised [\s\S]*environment 1 \(clocks:Misfit, pid \d+\) raised"
    with pytest.raises(WorkerError, match=words):
        envs.reset(seed=0)
    envs.close()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize(
    ("gives", "told"),
    [
        ("None", r"got None from step of environment 0 \(clocks:Late, pid \d+\), wanted \(obs, reward, terminated, "),
        ("(1, 2)", r"got \(1, 2\) from step of environment 0"),
        ("(np.zeros(3, np.float32), *rest)", r"got an observation of shape \[3\] from step of .*, wanted \[2\] as its"),
        ("(np.float32(1), *rest)", r"got an observation of shape \[\] from step of environment 0"),
    ],
)
def test_a_step_that_loses_its_form_is_told(clocks, vectorization, gives, told):
    """At the second step; the first one, and so the checker, is well served."""
    envs, _ = make("clocks:Late", 1, {"gives": gives}, vectorization=vectorization, restarts=0)
    envs.reset(seed=0)
    envs.step(np.zeros(1, int))
    with pytest.raises(WorkerError, match=f"^{told}"):
        envs.step(np.zeros(1, int))
    envs.close()


def kill(envs, i):
    os.kill(envs.processes[i].pid, signal.SIGKILL)
    envs.processes[i].join()


def test_a_killed_worker_is_replaced_and_its_episode_begins_anew(clocks):
    """By hand: environment 1 of two clocks dies before its second step; the others never notice."""
    envs, _ = make("clocks:Clock", 2, {"horizon": 9}, vectorization="async")
    envs.reset(seed=0)
    assert envs.step(np.zeros(2, int))[0].tolist() == [1, 1]
    pid = envs.processes[1].pid
    kill(envs, 1)
    obs, reward, terminated, truncated, infos = envs.step(np.zeros(2, int))
    assert (obs.tolist(), reward.tolist()) == ([2, 0], [1, 0]) and not (terminated | truncated).any()
    why = f"environment 1 (clocks:Clock, pid {pid}) was killed by SIGKILL"
    assert infos["broken"] == {1: f"{why}; it is replaced, 1 of at most 3 times within 1,000 steps"}
    obs, *_, infos = envs.step(np.zeros(2, int))
    assert obs.tolist() == [3, 1] and "broken" not in infos
    envs.close()


@pytest.mark.parametrize("stopped", [False, True], ids=["sleeps", "stopped"])
def test_a_worker_that_hangs_is_replaced(clocks, monkeypatch, stopped):
    monkeypatch.setattr("bayesrl.envs.vector.workers.GRACE", 0.2)
    name = "clocks:Clock" if stopped else "clocks:Hangs"
    envs, _ = make(name, 2, {"horizon": 9}, vectorization="async", timeout=1)
    envs.reset(seed=0)
    if stopped:
        os.kill(envs.processes[0].pid, signal.SIGSTOP)
    else:
        envs.step(np.zeros(2, int))
    old = envs.processes[0].pid
    obs, *_, infos = envs.step(np.zeros(2, int))
    assert obs.tolist() == ([0, 1] if stopped else [0, 0])
    assert "did not answer within the timeout of 1 s" in infos["broken"][0] and not _lives(old)
    assert envs.step(np.zeros(2, int))[0][0] == 1
    envs.close()


def test_a_successor_draws_other_numbers_and_the_same_ones_again():
    def first(seed):
        envs, _ = make("CartPole-v1", 2, vectorization="async")
        begin = envs.reset(seed=seed)[0]
        kill(envs, 0)
        after = envs.step(np.zeros(2, int))[0]
        envs.close()
        return begin[0].tolist(), after[0].tolist()

    (begin, after), again = first(3), first(3)
    assert (begin, after) == again and begin != after


def test_replacements_are_bounded(clocks):
    """An environment that raises at every second step may be replaced twice, not three times."""
    envs, _ = make("clocks:Clock", 1, {"fail_at": 2}, vectorization="async", restarts=2)
    envs.reset(seed=0)
    told = []
    words = (
        r"^step of environment 0 .*: the clock broke \(clocks.py:22 step\), 3 times within 1,000 steps, wanted at most"
    )
    with pytest.raises(WorkerError, match=words):
        for _ in range(9):
            told += envs.step(np.zeros(1, int))[-1].get("broken", {}).values()
    assert [line.partition("replaced, ")[2][:16] for line in told] == ["1 of at most 2 t", "2 of at most 2 t"]
    assert envs.steps == 6
    envs.close()


def test_old_replacements_are_forgotten(clocks, monkeypatch):
    monkeypatch.setattr("bayesrl.envs.vector.workers.WINDOW", 3)
    envs, _ = make("clocks:Clock", 1, {"fail_at": 2, "horizon": 9}, vectorization="async", restarts=2)
    envs.reset(seed=0)
    for _ in range(12):
        envs.step(np.zeros(1, int))
    assert envs.broke == [6]
    envs.close()


@pytest.mark.parametrize("waiting", [False, True])
def test_close_outlives_a_killed_worker(waiting):
    envs, _ = make("bayesrl/RiverSwim-v0", 2, vectorization="async")
    envs.reset(seed=0)
    if waiting:
        os.kill(envs.processes[1].pid, signal.SIGSTOP)
        envs.step_async(np.zeros(2, int))
    kill(envs, 1)
    envs.close()
    assert all(not process.is_alive() for process in envs.processes)


def test_a_worker_leaves_ctrl_c_to_its_parent_and_closes_its_environment(clocks, tmp_path):
    envs, _ = make("clocks:Leaves", 1, {"place": str(tmp_path / "closed")}, vectorization="async")
    envs.reset(seed=0)
    os.kill(envs.processes[0].pid, signal.SIGINT)
    assert envs.step(np.zeros(1, int))[0].tolist() == [1]
    envs.processes[0].terminate()
    envs.processes[0].join()
    assert (tmp_path / "closed").exists()
    envs.close()


ORPHANS = """
import os, signal, time
import numpy as np
from bayesrl.envs import RiverSwim, make
class Hangs(RiverSwim):
    def step(self, action):
        time.sleep(1e6)
envs, _ = make(Hangs, 3, vectorization="async")
envs.reset(seed=0)
envs.step_async(np.zeros(3, int))
print(*[process.pid for process in envs.processes], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
def test_workers_end_when_their_parent_is_killed():
    """Also in the middle of a step that hangs."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root) as script:
        pids = [int(pid) for pid in script.stdout.readline().split()]
    assert len(pids) == 3
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if _lives(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_class_that_dies_while_workers_build_it():
    parent = os.getpid()

    class Dies(gym.Env):
        observation_space = action_space = Discrete(2)

        def __init__(self):
            if os.getpid() != parent:
                os._exit(3)

    with pytest.raises(WorkerError, match=r"environment 1 \(.*Dies, pid \d+\) ended with exit code 3"):
        make(Dies, 2, vectorization="async")
