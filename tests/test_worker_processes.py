"""Workers as processes: the same bits, words and exit codes as threads, and none is left."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from multiprocessing import Pipe
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import playfield
from playfield.algos import a2c, ppo, pqn
from playfield.cli import main
from playfield.compute import Compute
from playfield.envs import hang, make_envs
from playfield.errors import DataError, DivergedError, EnvError, UsageError
from playfield.runs import checkpoint
from playfield.runs.algorithm import load
from playfield.runs.line import Near
from playfield.runs.notes import answer, packed, unpacked
from playfield.runs.run import Run
from playfield.training.plan import envs_of
from playfield.training.prepare import PROCESS_BYTES, prepare, reopen
from playfield.training.processes import Pool
from playfield.training.request import Request

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is shared as Linux has it"),
]
CPU = Compute("cpu", "fp32", 2)
WORKERS = 3  # the sum of two gradients is the same in either order
SMALL = ppo.Config(num_envs=6, rollout_steps=16, epochs=2, minibatches=4, net="mlp", clip_reward=False)
PIXELS = ppo.Config(num_envs=3, rollout_steps=8, epochs=1, minibatches=2, net="nips:width=0.25")
VECTOR = a2c.PRESETS["vector"]["default"]
BATCH = a2c.Config(num_envs=6, rollout_steps=8, net="mlp", norm_returns=True, clip_reward=False)
Q = dataclasses.replace(pqn.VECTOR, num_envs=6, rollout_steps=8)
TRAININGS = [
    ("ppo", "CartPole-v1", SMALL, "fp32"),
    ("ppo", "breakout", PIXELS, "bf16"),
    ("ppo", "breakout", dataclasses.replace(PIXELS, replay_failures=0.5), "fp32"),
    ("a2c", "CartPole-v1", dataclasses.replace(VECTOR, num_envs=6), "fp32"),
    ("a2c", "CartPole-v1", BATCH, "fp32"),
    ("pqn", "CartPole-v1", Q, "fp32"),
    ("pqn", "CartPole-v1", dataclasses.replace(Q, optimizer="radam"), "fp32"),
]


@pytest.fixture(scope="module")
def pool():
    made = Pool(WORKERS)
    yield made
    made.close()


def spec_of(env: str):
    probe = make_envs(env, 1)
    probe.close()
    return probe.spec


def trained(algo, env, cfg, fmt="fp32", rounds=4, pool=None, resume=None, workers=WORKERS, **more):
    """A run after training, with threads or in `pool`, still open."""
    spec = spec_of(env)
    info = {"env": spec.id, "algo": algo, "spec": spec, "seed": 1, "steps": rounds * cfg.batch}
    compute = Compute("cpu", fmt, workers)
    info |= {"compute": dataclasses.asdict(compute)}
    info |= {"config": dataclasses.asdict(cfg), "protocol": spec.protocol}
    if pool is not None:
        pool.ready(algo, spec)
        saved = resume.tree["parts"] if resume else ()
        more["group"] = pool.begin(algo, info, cfg, more.get("directory"), 3, saved)
    run = Run(info, envs_of(spec, compute, cfg.failures), resume=resume, **more)
    try:
        load(algo).train(run, cfg)
    except BaseException:
        run.close()
        raise
    return run


def result(*args, **more):
    run = trained(*args, **more)
    metrics = {k: v for k, v in run._metrics.items() if not math.isnan(v)}
    found = run.final_hash(), metrics, list(run.scores), run.history
    run.close()
    return found


@pytest.mark.parametrize(("algo", "env", "cfg", "fmt"), TRAININGS)
def test_processes_end_with_the_bits_of_threads(pool, algo, env, cfg, fmt):
    assert result(algo, env, cfg, fmt, pool=pool) == result(algo, env, cfg, fmt)


@pytest.mark.parametrize("first", ["threads", "processes"])
def test_a_run_goes_on_with_the_other_kind(tmp_path, pool, first):
    pools = [None, pool] if first == "threads" else [pool, None]
    whole = result("ppo", "CartPole-v1", SMALL, rounds=6)
    run = trained("ppo", "CartPole-v1", SMALL, rounds=6, pool=pools[0], directory=tmp_path, save_seconds=0.0)
    assert run.final_hash() == whole[0]
    run.close()
    folder = tmp_path / "checkpoints"
    middle = checkpoint.load(checkpoint.checkpoints(folder)[-2])
    assert 0 < middle.step < 6 * SMALL.batch
    for other in pools:
        assert result("ppo", "CartPole-v1", SMALL, rounds=6, pool=other, resume=middle)[:2] == whole[:2]


def test_a_damaged_part_of_a_worker_has_the_same_words(tmp_path, pool):
    run = trained("ppo", "CartPole-v1", SMALL, directory=tmp_path, save_seconds=0.0)
    run.close()
    found = checkpoint.load(checkpoint.checkpoints(tmp_path / "checkpoints")[-1])
    found.tree["parts"]["rollout-2"]["random"]["state"]["state"] = "seven"
    words = []
    for how in (None, pool):
        with pytest.raises(DataError) as raised:
            trained("ppo", "CartPole-v1", SMALL, rounds=6, pool=how, resume=found)
        words.append(str(raised.value))
    assert words[0] == words[1]
    assert "rollout-2" in words[0]


@pytest.mark.parametrize("how", ["Raises", "Exits"])
def test_what_an_environment_raises_has_the_same_words(pool, how):
    cfg = dataclasses.replace(SMALL, num_envs=3)
    words = []
    for group in (None, pool):
        with pytest.raises(EnvError) as raised:
            trained("ppo", f"worker_envs:{how}-v0", cfg, pool=group)
        words.append(str(raised.value))
        assert raised.value.exit_code == 6
    assert words[0] == words[1]
    assert "step 40" in words[0]


def test_weights_that_diverge_end_it_with_the_same_words(pool):
    cfg = dataclasses.replace(SMALL, lr=1e30, max_grad_norm=0.0)
    words = []
    for group in (None, pool):
        with pytest.raises(DivergedError) as raised, np.errstate(all="ignore"):
            trained("ppo", "CartPole-v1", cfg, pool=group)
        words.append(str(raised.value))
    assert words[0] == words[1]


def test_what_a_worker_warns_of_is_said_once(pool):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        trained("ppo", "worker_envs:Warns-v0", dataclasses.replace(SMALL, num_envs=3), pool=pool).close()
    assert [str(w.message) for w in said].count("the ice is thin") == 1
    assert next(w for w in said if str(w.message) == "the ice is thin").category is UserWarning


def test_a_training_begins_from_given_weights(pool):
    run = trained("ppo", "CartPole-v1", SMALL)
    run.close()
    weights = run.parts["learner"].state()["weights"]
    begun = [result("ppo", "CartPole-v1", SMALL, pool=how, begin=weights) for how in (None, pool)]
    assert begun[0] == begun[1] != result("ppo", "CartPole-v1", SMALL)


def test_a_worker_that_was_killed_is_an_error():
    pool = Pool(2)
    try:

        def end(run):
            os.kill(pool.pids[0], signal.SIGKILL)

        with pytest.raises(EnvError, match="the process of worker 1 was ended by SIGKILL"):
            trained("ppo", "CartPole-v1", SMALL, pool=pool, workers=2, on_rollout=end)
    finally:
        pids = pool.pids
        pool.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_an_error_keeps_its_class_words_and_code():
    class Odd(EnvError):
        exit_code = 130

    class Own(ValueError):
        pass

    for error, made in ((Odd("hm"), EnvError), (UsageError("so"), UsageError), (MemoryError("none"), MemoryError)):
        again = unpacked(packed(error))
        assert (type(again), str(again)) == (made, str(error))
        assert getattr(again, "exit_code", 1) == getattr(error, "exit_code", 1)
    assert str(unpacked(packed(Own("five")))) == "Own: five"


def test_an_environment_that_only_this_process_knows_keeps_threads(tmp_path, monkeypatch):
    class Mine(gym.Env):
        observation_space, action_space = gym.spaces.Box(0, 1, (1,)), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), 1.0, bool(self.np_random.random() < 0.3), False, {}

    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    quiet = {"games": 0, "film": False, "console": False, "tensorboard": False}
    playfield.train(Mine, steps=1024, workers=2, workers_as="processes", say=said.append, **quiet)
    (line,) = [line for line in said if "processes" in line]
    assert line.startswith("note: workers are threads, not processes: only this process knows the environment")


def test_what_cannot_be_is_refused(capsys):
    assert main(["train", "CartPole-v1", "--algo", "dqn", "--workers", "2", "--workers-as", "processes"]) == 2
    assert "dqn trains with threads only: leave it out" in capsys.readouterr().err


def small_run(tmp_path, monkeypatch, algo="dqn"):
    monkeypatch.chdir(tmp_path)
    words = f"train CartPole-v1 --algo {algo} --steps 512 --run r --games 0 --no-film --no-tensorboard --quiet"
    assert main(words.split()) == 0
    return tmp_path / "r" / "run.json"


def test_what_cannot_be_in_a_run_that_goes_on_is_refused_and_leaves_it_as_it_was(tmp_path, monkeypatch, capsys):
    path = small_run(tmp_path, monkeypatch)
    before = path.read_bytes()
    assert main(["train", "--resume", "r", "--steps", "1024", "--workers-as", "processes"]) == 2
    assert "dqn trains with threads only" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_run_that_remembers_what_cannot_be_here_goes_on_with_threads(tmp_path, monkeypatch, capsys):
    path = small_run(tmp_path, monkeypatch)
    info = json.loads(path.read_text())
    info["after"]["workers_as"] = "processes"  # as on another system
    path.write_text(json.dumps(info))
    assert main(["train", "--resume", "r", "--steps", "1024"]) == 0
    assert "note: workers are threads: dqn trains with threads only" in capsys.readouterr().out


def test_a_single_worker_is_no_process_and_that_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "train CartPole-v1 --steps 1024 --workers 1 --workers-as processes --run r --games 0 --no-film"
    assert main([*words.split(), "--no-tensorboard"]) == 0
    assert "note: workers are threads: there is only one" in capsys.readouterr().out


def test_a_resume_counts_the_memory_of_the_processes(tmp_path, monkeypatch):
    path = small_run(tmp_path, monkeypatch, "ppo --workers 2")
    info = json.loads(path.read_text())
    needs = [reopen(path.parent, info, asked=asked)[3].memory for asked in (None, "processes")]
    assert needs[1] - needs[0] == PROCESS_BYTES


def test_a_value_that_cannot_be_sent_is_an_error_and_no_silence():
    here, there = Pipe()
    with here, there:
        answer(Near(there), object(), None, [])
        kind, value, _ = Near(here).receive()
    assert kind == "failed"
    assert "object" in str(unpacked(value))


def test_memory_of_the_processes_is_counted():
    asked = Request(env="CartPole-v1", workers=2)
    threads, processes = (prepare(dataclasses.replace(asked, workers_as=how)) for how in ("auto", "processes"))
    assert (threads.workers_as, processes.workers_as) == ("threads", "processes")
    assert processes.need.memory - threads.need.memory == PROCESS_BYTES


SCRIPT = """
import playfield
quiet = {"run": "a", "console": False, "env_timeout": 0, "num_envs": 2}
playfield.train("worker_envs:Hangs-v0", steps=4096, workers=2, workers_as="processes", **quiet)
"""  # without `if __name__ == "__main__"`


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def started(words, folder):
    child = subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: (folder / "a" / "metrics.csv").exists() and (folder / "a" / "metrics.csv").stat().st_size > 500)
    return child, children(child.pid)


def children(pid):
    return [Path("/proc") / child for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_no_worker_outlives_a_script_that_is_killed_even_where_it_hangs(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    words = [sys.executable, "-c", SCRIPT]
    script = subprocess.Popen(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
    with script:
        assert any(line == b"hangs now\n" for line in script.stdout)
        workers = children(script.pid)
        assert len(workers) == 1
        script.kill()
        until(lambda: not any(worker.exists() for worker in workers), 10.0)


def test_ctrl_c_saves_and_ends_all(tmp_path):
    words = "train CartPole-v1 --steps 5M --workers 2 --workers-as processes --run a --quiet --no-tensorboard"
    child, workers = started([sys.executable, "-m", "playfield", *words.split()], tmp_path)
    assert len(workers) == 1
    os.killpg(child.pid, signal.SIGINT)  # a terminal sends it to all
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "saved; go on with: playfield train --resume a" in said
    assert "Traceback" not in said
    assert not any(worker.exists() for worker in workers)


def test_a_worker_that_hangs_in_c_is_ended():
    pool = Pool(2)
    cfg = dataclasses.replace(SMALL, num_envs=2)
    try:
        with hang.limited(0.5), pytest.raises(EnvError, match=r"worker_envs:Hangs-v0 has not returned .* in hangs"):
            trained("ppo", "worker_envs:Hangs-v0", cfg, pool=pool, workers=2)
    finally:
        pool.close()
