"""Workers name themselves in their errors, are found when dead, and never outlive their parent."""

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
from gymnasium.vector import AsyncVectorEnv

from bayesrl.envs import EnvError, WorkerError, describe_dead_worker, make


def test_async_is_sync_in_other_processes(clocks):
    sync, workers = make("CartPole-v1", 2, vectorization="sync")[0], make("CartPole-v1", 2, vectorization="async")[0]
    assert isinstance(workers, AsyncVectorEnv)
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
    envs, _ = make("clocks:Clock", 2, {"fail_at": 1}, vectorization="async")
    envs.reset(seed=0)
    pids = [process.pid for process in envs.processes]
    with pytest.raises(WorkerError) as caught:
        envs.step(np.zeros(2, int))
    for i, pid in enumerate(pids):
        words = f"step of environment {i} (clocks:Clock, pid {pid}) raised ArithmeticError: the clock broke"
        assert words in str(caught.value)
    assert 'clocks.py", line' in str(caught.value)
    envs.close()
    assert all(not process.is_alive() for process in envs.processes)


def test_an_observation_that_does_not_fit_says_whose_it_is(clocks):
    envs, _ = make("clocks:Misfit", 2, vectorization="async")
    with pytest.raises(WorkerError, match=r"environment 0 \(pid \d+\) raised [\s\S]*environment 1 \(pid \d+\) raised"):
        envs.reset(seed=0)
    envs.close()


def test_a_killed_worker_is_described(clocks):
    envs, _ = make("clocks:Clock", 2, vectorization="async")
    envs.reset(seed=0)
    assert describe_dead_worker(envs, timeout=0.01) is None
    pid = envs.processes[1].pid
    os.kill(pid, signal.SIGKILL)
    envs.processes[1].join()
    with pytest.raises((EOFError, ConnectionError)):
        envs.step(np.zeros(2, int))
    assert describe_dead_worker(envs) == f"environment 1 (clocks:Clock, pid {pid}) was killed by SIGKILL"
    envs.close()
    assert describe_dead_worker(envs) is None
    assert describe_dead_worker(make("CartPole-v1")[0]) is None


@pytest.mark.parametrize("waiting", [False, True])
def test_close_outlives_a_killed_worker(waiting):
    envs, _ = make("bayesrl/RiverSwim-v0", 2, vectorization="async")
    envs.reset(seed=0)
    if waiting:
        os.kill(envs.processes[1].pid, signal.SIGSTOP)
        envs.step_async(np.zeros(2, int))
    os.kill(envs.processes[1].pid, signal.SIGKILL)
    if waiting:
        with pytest.raises((EOFError, ConnectionError)):
            envs.step_wait()
    else:
        envs.processes[1].join()
    envs.close()
    assert all(not process.is_alive() for process in envs.processes)


ORPHANS = """
import os, signal
from bayesrl.envs import make
envs, _ = make("bayesrl/RiverSwim-v0", 3, vectorization="async")
envs.reset(seed=0)
print(*[process.pid for process in envs.processes], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
def test_workers_end_when_their_parent_is_killed():
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

    with pytest.raises(EnvError, match=r"got a worker process that ended while it built .*Dies, wanted 2 that live"):
        make(Dies, 2, vectorization="async")
