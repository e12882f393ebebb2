"""What takes long says so within seconds, and what would take hours for no use is refused."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import playfield
from playfield.errors import UsageError
from playfield.runs.console import Console
from playfield.training import plan, prepare, train, waiting
from playfield.training.request import Request


class States(gymnasium.Env):
    """`n` named states, or a vector or a picture of `shape`."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, n: int = 0, shape: tuple[int, ...] = (), dtype: str = "float32", seconds: float = 0.0) -> None:
        box = gymnasium.spaces.Box(0, 255 if dtype == "uint8" else 1, tuple(shape) or (1,), np.dtype(dtype).type)
        self.observation_space = gymnasium.spaces.Discrete(n) if n else box
        self.seconds = seconds

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        time.sleep(self.seconds)
        return self.observation_space.sample(), 1.0, self.t == 4, False, {}


def asked(algo: str, **arguments) -> Request:
    name, given = train.named(States, arguments)
    return Request(env=name, algo=algo, env_kwargs=given)


@pytest.mark.parametrize("algo", ["ppo", "a2c", "pqn", "dqn", "c51", "qrdqn", "rainbow", "hlgauss"])
def test_a_network_takes_no_million_states(algo):
    with pytest.raises(UsageError, match=rf"1,000,000 named states, and a network of {algo} .*--algo qlearning"):
        prepare.check(asked(algo, n=10**6))


def test_what_a_network_or_a_table_takes():
    for request in (
        asked("qlearning", n=10**6),
        asked("ppo", n=1000),
        asked("dqn", shape=[210 * 160 * 3], dtype="uint8"),
        asked("ppo", shape=[300, 300, 3], dtype="uint8"),  # a picture
    ):
        prepare.check(request)
    with pytest.raises(UsageError, match=r"1,000,000 numbers in an observation, .* let a wrapper make them fewer"):
        prepare.check(asked("ppo", shape=[1000, 1000]))


def test_it_is_refused_before_torch_is_loaded(tmp_path):
    (tmp_path / "wide.py").write_text(
        "import gymnasium\nclass Wide(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Discrete(10**6)\n    action_space = gymnasium.spaces.Discrete(2)\n"
    )
    code = (
        "import sys\nfrom playfield.cli import main\nassert main(['train', 'wide:Wide', '--steps', '2000']) == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["wide.py"]


def test_the_lines_come_ever_more_seldom_until_there_is_something_to_see(monkeypatch):
    monkeypatch.setattr(waiting, "PAUSES", (0.01, 0.03))
    said: list[str] = []
    enough = threading.Event()

    def line(time: str) -> str | None:
        if len(said) == 3:
            enough.set()
            return None
        return f"after {time}"

    with waiting.Waiting(said.append, line):
        assert enough.wait(10)
    assert len(said) == 3
    assert all(text.startswith("after ") for text in said)
    assert not [t for t in threading.enumerate() if t.name == "playfield-waiting"]
    with waiting.Waiting(said.append, line):
        pass
    assert len(said) == 3


def test_a_training_tells_its_step_until_its_first_numbers(monkeypatch):
    monkeypatch.setattr(waiting, "PAUSES", (0.0, 0.01))
    stream = io.StringIO()
    sinks = SimpleNamespace(console=Console("x", 100, stream))
    run, cfg = SimpleNamespace(step=40, total_steps=100), SimpleNamespace(batch=1024)
    with waiting.under_way(sinks, run, cfg):
        while stream.getvalue().count("\n") < 2:
            time.sleep(0.001)
        sinks.console.log(41, {"rollout/ep_rew_mean": 1.0})
        time.sleep(0.05)
        before = stream.getvalue()
        time.sleep(0.05)
        assert stream.getvalue() == before
    first = before.partition("\n")[0]
    assert (
        first == "step 40 of 100 after 0.0 s: the first numbers come after the first 1,024 steps and what is learnt "
        "from them"
    )
    quiet = SimpleNamespace(console=Console("x", 100, stream, quiet=True))
    with waiting.under_way(quiet, run, cfg):
        time.sleep(0.03)
    assert stream.getvalue() == before


def test_a_slow_environment_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(waiting, "PAUSES", (0.05, 10.0))
    monkeypatch.chdir(tmp_path)
    how = {"config": {"rollout_steps": 8, "num_envs": 4}, "tensorboard": False, "games": 0, "film": False}
    playfield.train(States, steps=32, env_kwargs={"n": 4, "seconds": 0.01}, **how)
    assert "the first numbers come after the first 32 steps" in capsys.readouterr().out
    playfield.train(States, steps=32, env_kwargs={"n": 4, "seconds": 0.01}, quiet=True, **how)
    assert capsys.readouterr().out == ""


def test_one_rollout_is_enough_to_measure_where_it_takes_long(monkeypatch):
    """A measurement must not take as long as the training."""
    ready = prepare.prepare(asked("ppo", n=4))
    rollouts = []

    def rollouts_of(run, cfg):
        for n in range(50):
            rollouts.append(n)
            now[0] += 30.0
            run.step += cfg.batch
            run.on_rollout(run)

    now = [0.0]
    monkeypatch.setattr(plan.time, "perf_counter", lambda: now[0])
    module = SimpleNamespace(train=rollouts_of)
    speed = plan.measure_speed(module, ready.cfg, ready.spec, ready.compute, 1)
    assert len(rollouts) == 2
    assert speed == pytest.approx(ready.cfg.batch / 30)
