"""What does not fit is told before anything is made: by train, by a resume, by a comparison of several at once."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import playfield
from playfield import compute
from playfield.cli import main
from playfield.compute import readable_size
from playfield.envs import make_envs
from playfield.envs.base import EnvSpec
from playfield.envs.family import family
from playfield.errors import DataError, UsageError
from playfield.replay import budget
from playfield.runs import catalog
from playfield.training import prepare
from playfield.training.prepare import Need, fit_together
from playfield.training.request import Request

SMALL = {"capacity": 2_000, "learning_starts": 256, "batch_size": 32}


@pytest.fixture
def free(monkeypatch):
    """Sets what memory is free, for all that ask."""

    def setter(count: int) -> None:
        monkeypatch.setattr(compute, "free_memory", lambda: count)

    return setter


# Sampling ----------------------------------------------------------------------------------------------

PEAK = """
import numpy as np, torch
from playfield.envs.base import EnvSpec
from playfield.algos._q_network import QNetwork
from playfield.replay.budget import sampling_bytes
torch.set_num_threads(1)
spec = EnvSpec("x", "atari", (84, 84, 4), "uint8", 4, ("a",) * 4, {{"stack": 4}})
net, n = QNetwork(spec, "{net}"), {n}
status = lambda name: 1024 * next(int(s.split()[1]) for s in open("/proc/self/status") if s.startswith(name))
with torch.no_grad():
    net(torch.zeros((2, 84, 84, 4), dtype=torch.uint8))
    before = status("VmRSS")
    obs, following = (torch.from_numpy(np.ones((n, 84, 84, 4), np.uint8)) for _ in range(2))
    net(following)
    parts = [obs[k::4] for k in range(4)]
print(sampling_bytes(spec, "{net}", n), status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
@pytest.mark.parametrize(("net", "n"), [("nips", 1024), ("impala:width=0.5", 256)])
def test_the_estimate_for_sampling_is_what_it_takes(net: str, n: int) -> None:
    """Against the peak of a process that draws and looks as a rollout's updates do."""
    done = subprocess.run([sys.executable, "-c", PEAK.format(net=net, n=n)], capture_output=True, text=True)
    told, peak = map(int, done.stdout.split())
    assert peak < 1.1 * told, done.stderr
    assert told < 2 * peak


@pytest.mark.parametrize("net", ["nips", "nature:norm=layer", "impala:width=0.5", "mlp"])
def test_sampling_is_estimated_alike_with_and_without_weights(net: str, monkeypatch) -> None:
    """A large network is not made: its layers' sizes are found without weights."""
    shape, dtype = ((4,), "float32") if net == "mlp" else ((84, 84, 4), "uint8")
    spec = EnvSpec("x", "atari", shape, dtype, 4, ("a",) * 4, {"stack": 4})
    made = budget.sampling_bytes(spec, net, 3)
    if net == "nips":  # two observations; the first layer has the largest input and output, 16 x 20 x 20
        assert made == 3 * (2 * 84 * 84 * 4 + 4 * (84 * 84 * 4 + 2 * 16 * 20 * 20))
    monkeypatch.setattr(budget, "SMALL_NET", 0)
    assert budget.sampling_bytes(spec, net, 3) == made


def test_a_body_that_keeps_tensors_of_its_own_is_estimated_too(monkeypatch) -> None:
    class Own(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 64)
            self.factor = torch.ones(64)  # no parameter, no buffer: it stays where it was made

        def forward(self, obs):
            return super().forward(obs) * self.factor

    monkeypatch.setattr(budget.bodies, "make", lambda name, shape: Own())
    spec = EnvSpec("x", "vector", (4,), "float32", 2, ("a",) * 2, {})
    assert budget.sampling_bytes(spec, "own", 10) == 10 * (2 * 4 * 4 + 4 * (4 + 2 * 64))


def test_sampling_counts(free) -> None:
    """8 x 8 steps at an update every step, minibatches of 4,096: 262,144 transitions at once."""
    free(10 * 10**9)
    huge = {"train_period": 1, "batch_size": 4096, "learning_starts": 30_000, "capacity": 50_000}
    with pytest.raises(
        UsageError, match=r"sampled at once \(\d+\.\d\d GB\) needs .* 10\.00 GB are free: .*smaller --batch-size"
    ):
        prepare.prepare(Request("breakout", "dqn", workers=1, config=huge))
    small = prepare.prepare(Request("breakout", "dqn", workers=1, config={**huge, "batch_size": 64}))
    cfg = small.cfg
    assert cfg.sampled == 64 * 64
    env = make_envs("breakout", 1)
    alone = budget.replay_need(env, cfg.capacity, cfg.packed, cfg.alpha)[0]
    games = cfg.num_envs * family("atari").env_bytes
    assert small.need.memory == alone + budget.sampling_bytes(env.spec, cfg.net, cfg.sampled) + games
    sampled = budget.sampling_bytes(env.spec, cfg.net, cfg.sampled)
    assert sampled > 64 * 64 * 2 * 84 * 84 * 4
    assert f"{readable_size(sampled)} for sampling" in small.need.line
    env.close()


@pytest.mark.parametrize("algo", ["ppo", "sarsa_lambda"])
def test_emulators_count(free, algo: str) -> None:
    free(2 * 10**9)
    config = {"num_envs": 1600, "rollout_steps": 4}
    with pytest.raises(
        UsageError, match=r"1,600 environments of 2\.72 GB needs 2\.\d\d GB .* 2\.00 GB are free: lower --num-envs"
    ):
        prepare.prepare(Request("breakout", algo, workers=1, config=config))
    prepare.prepare(Request("CartPole-v1", algo, workers=1, config=config))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory")
def test_an_emulator_takes_what_is_counted() -> None:
    code = """
import numpy as np
from playfield.envs import make_envs
status = lambda: 1024 * next(int(s.split()[1]) for s in open("/proc/self/status") if s.startswith("VmRSS"))
one = make_envs("breakout", 1)
one.reset(np.zeros(1, int))
before, many = status(), make_envs("breakout", 24)
many.reset(np.arange(24))
print((status() - before) / 24)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 0.5 * family("atari").env_bytes < float(done.stdout) < 1.1 * family("atari").env_bytes, done.stderr


def test_workers_that_an_algorithm_cannot_use_are_told_by_it() -> None:
    with pytest.raises(UsageError, match="at most 1 worker: use --workers 1"):
        prepare.prepare(Request("CartPole-v1", "sarsa", workers=2))
    many = prepare.prepare(Request("breakout", "sarsa", config={"num_envs": 8}))  # where others would have two
    assert many.compute.workers == 1


# Going on ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("stopped") / "run"
    quiet = {"games": 0, "film": False, "tensorboard": False, "console": False}
    playfield.train("CartPole-v1", "dqn", run=run, steps=512, config=SMALL, workers=1, **quiet)
    return run


def test_a_resume_that_does_not_fit_changes_nothing(stopped, free, capsys) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    free(10_000)
    assert main(["train", "--resume", str(stopped), "--steps", "1k"]) == 2
    err = capsys.readouterr().err
    assert "a replay buffer of 2,000 observations" in err
    assert "and 10.0 kB are free" in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_a_resume_tells_what_it_takes(stopped) -> None:
    info = json.loads((stopped / "run.json").read_text())
    module, cfg, spec, need = prepare.reopen(stopped, info)
    assert (module.__name__, cfg.capacity, spec.id) == ("playfield.algos.dqn", 2_000, "CartPole-v1")
    assert need.line.startswith("2,000 observations, about 44.0 kB")
    with pytest.raises(DataError, match="not here: 'dqnn'"):
        prepare.reopen(stopped, {**info, "algo": "dqnn"})
    with pytest.raises(DataError, match=r"other options of dqn: lr"):
        prepare.reopen(stopped, {**info, "config": {k: v for k, v in info["config"].items() if k != "lr"}})
    with pytest.raises(DataError, match=f"{stopped} cannot go on.*no optimizer called 'adm'"):
        prepare.reopen(stopped, {**info, "config": {**info["config"], "optimizer": "adm"}})


# Several at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["--device", "gpu"], "dqn on CartPole-v1: no device called 'gpu': did you mean cpu?"),
        (["--workers", "3"], "--batch-size 64 must divide by the 3 workers"),
        (["--precision", "fp16"], "no precision called 'fp16'"),
        (["--workers", "2", "--batch-size", "63"], "must divide by the 2 workers"),
    ],
)
def test_a_comparison_checks_how_it_computes(own, message, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "CartPole-v1", "--algo", "dqn", "--steps", "2k", "--", *own]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_must_fit_as_many_times_as_it_trains_at_once(free, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["compare", "CartPole-v1", "--algo", "dqn", "--algo", "c51", "--steps", "2k", "--jobs", "4"]
    one = prepare.prepare(Request("CartPole-v1", "dqn")).need.memory
    free(int(3 * one / 0.9))  # c51's is as large, but for sampling
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "4 trainings at once take up to" in err
    assert err.rstrip().endswith(("use --jobs 2", "use --jobs 3"))
    assert err.count("\n") == 1
    free(int(one / 2))
    assert main(words) == 2
    assert "dqn on CartPole-v1: a replay buffer of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_largest_needs_may_come_together(free, tmp_path, monkeypatch) -> None:
    needs = [Need(m) for m in (1.0e9, 4.0e9, 2.0e9)]
    free(7 * 10**9)
    fit_together(needs, 2, tmp_path)  # 6 of 6.3
    with pytest.raises(UsageError, match=r"3 trainings at once take up to 7\.00 GB of memory.* 7\.00 GB.*--jobs 2"):
        fit_together(needs, 8, tmp_path)
    free(5 * 10**9)
    with pytest.raises(UsageError, match="--jobs 1"):
        fit_together(needs, 2, tmp_path)
    monkeypatch.setattr(prepare, "free_disk", lambda place: 10**9)
    mapped = [dataclasses.replace(need, memory=0.0, disk=0.5e9) for need in needs]
    with pytest.raises(UsageError, match=r"2 trainings at once take up to 1\.00 GB of disk.*--jobs 1"):
        fit_together(mapped, 2, tmp_path)


# Options that exclude each other -----------------------------------------------------------------------


def test_packed_and_mapped_exclude_each_other(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "breakout", "--algo", "dqn", "--packed", "true", "--mmap", "true", "--steps", "64"]) == 2
    err = capsys.readouterr().err
    assert "--packed and --mmap exclude each other, leave one out" in err
    assert err.count("\n") == 1
    with pytest.raises(UsageError, match="--packed and --mmap exclude"):
        playfield.train("breakout", "dqn", steps=64, config={"packed": True, "mmap": True})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preset", [{"packed": True}, {"mmap": True}])
@pytest.mark.parametrize("given", ["packed", "mmap"])
def test_what_is_given_wins_over_the_preset(preset, given, monkeypatch) -> None:
    entry = catalog.entry("dqn")
    values = {o.name: o.default for o in entry.options} | {"packed": False, **preset}
    changed = dataclasses.replace(entry, presets={"vector": {"default": values}})
    monkeypatch.setattr(catalog, "entry", lambda name: changed)
    cfg = prepare.configure(Request("CartPole-v1", "dqn", config={given: True}))[1]
    assert (cfg.packed, cfg.mmap) == (given == "packed", given == "mmap")
    cfg = prepare.configure(Request("CartPole-v1", "dqn", config={given: False}))[1]
    assert (cfg.packed, cfg.mmap) == ("packed" in preset and given != "packed", "mmap" in preset and given != "mmap")
