"""An algorithm or a network body of another package: one file that an entry point names, known to every command."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from playfield.algos import ppo, sarsa
from playfield.cli import main
from playfield.errors import UsageError
from playfield.runs import algorithm, catalog

THEIRS = ("theirs", "half", "no_such_module")  # packages that the tests below install
ALGORITHM = '''
"""REINFORCE with a linear softmax policy: whole rollouts, discounted returns, no baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from playfield.envs.base import EnvSpec
from playfield.nets import bodies
from playfield.nets.learner import Learner, load_weights
from playfield.options import Count, Fraction, NetName
from playfield.algos._actor_critic import ActorCritic, collect, load_network, make_rollouts
from playfield.runs import algorithm


@dataclass(frozen=True)
class Config(algorithm.Config):
    """Hyper-parameters of this REINFORCE."""

    num_envs: Count = 4
    """Number of parallel environments."""
    rollout_steps: Count = 64
    """Steps per environment per rollout."""
    lr: float = 0.01
    """Learning rate."""
    gamma: Fraction = 0.99
    """Discount factor."""
    net: NetName = "small"
    """Network body."""

    def fit(self, spec: EnvSpec) -> Config:
        bodies.check(self.net, spec.obs_shape)
        return self

    def schedule(self, steps: int) -> list[str]:
        return [f"nothing changes in {steps} steps"]


PRESETS = {"atari": {"default": Config()}, "vector": {"default": Config(), "fast": Config(lr=0.05)}}


def network(spec: EnvSpec, cfg: Config) -> ActorCritic:
    return ActorCritic(spec, cfg.net, shared=True)


def train(run: Any, cfg: Config) -> None:
    with run.seeded():
        net = network(run.spec, cfg)
    adam = lambda params: torch.optim.Adam(params, cfg.lr)
    learner = run.track("learner", Learner(net, adam, run.compute, 1.0))
    rollouts = make_rollouts(run, cfg.num_envs, cfg.rollout_steps)
    for _ in run.steps(cfg.batch):
        for k, r in enumerate(rollouts):
            collect(learner.replicas[k], r, False)
        run.record(rollouts)

        def loss(k: int, replica: nn.Module):
            r = rollouts[k]
            returns, total = np.zeros_like(r.rewards), np.zeros(r.rewards.shape[1], np.float32)
            for t in reversed(range(r.steps)):
                total = r.rewards[t] + cfg.gamma * total * ~(r.terminated[t] | r.truncated[t])
                returns[t] = total
            index = np.arange(returns.size)
            logits, _ = replica(r.flat("obs", index))
            taken = logits.log_softmax(-1).gather(1, r.flat("actions", index)[:, None]).squeeze(1)
            weight = torch.from_numpy((returns - returns.mean()).reshape(-1))
            value = -(taken * weight).sum() / cfg.batch
            return value, float(value.detach())

        parts, _ = learner.update(loss, cfg.lr)
        run.log({"train/loss": sum(parts)}, updates=1)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Any:
    return load_network(lambda: network(spec, cfg), weights, device)
'''

BODY = '''
from torch import nn

from playfield.nets.bodies import Body
from playfield.nets.layers import Vector


def small(shape: tuple[int, ...], *, units: int = 16) -> Body:
    """One small layer."""
    return Body(Vector(), nn.Linear(shape[0], units), nn.Tanh(), out_features=units)
'''

ENTRY_POINTS = """
[playfield.algorithms]
reinforce = theirs.reinforce

[playfield.nets]
small = theirs.bodies:small
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder as `pip install` of another package would leave it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "theirs").mkdir()
    (folder / "theirs" / "__init__.py").write_text("")
    (folder / "theirs" / "reinforce.py").write_text(ALGORITHM)
    (folder / "theirs" / "bodies.py").write_text(BODY)
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


def process(site: Path, cwd: Path, *words: str, code: int = 0) -> str:
    """What the command line prints, run in a new process where the other package is installed."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "playfield", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


def playfield(site: Path, cwd: Path, *words: str, code: int = 0) -> str:
    """The same in this process, which takes seconds less."""
    said, before = io.StringIO(), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.syspath_prepend(site)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            ended = main(list(words))
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in THEIRS:
            del sys.modules[name]
    importlib.invalidate_caches()
    assert ended == code, said.getvalue()
    return said.getvalue()


def test_an_algorithm_in_one_file_trains_resumes_is_evaluated_and_explained(site, tmp_path):
    quiet = ("--no-film", "--no-tensorboard", "--games", "2", "--quiet")
    shown = process(site, tmp_path, "train", "CartPole-v1", "--algo", "reinforce", "--help")
    assert "Learning rate. [0.01]" in " ".join(shown.split())
    process(site, tmp_path, "train", "CartPole-v1", "--algo", "reinforce", "--steps", "1024", "--run", "a", *quiet)
    info = json.loads((tmp_path / "a" / "run.json").read_text())
    assert info["schedule"] == "nothing changes in 1024 steps"
    assert info["config"]["net"] == "small"
    playfield(site, tmp_path, "train", "--resume", "a", "--steps", "2048", *quiet)
    assert json.loads((tmp_path / "a" / "run.json").read_text())["result"]["steps"] == 2048
    assert json.loads(playfield(site, tmp_path, "eval", "a", "--games", "2", "--json"))["games"] == 2
    playfield(site, tmp_path, "explain", "a", "--moments", "1", "--method", "gradient")
    assert (tmp_path / "a" / "explain" / "explain.html").exists()


def test_its_mistakes_are_found_like_those_of_any_algorithm(site, tmp_path):
    def mistake(*words: str) -> str:
        return playfield(site, tmp_path, "train", "CartPole-v1", "--algo", *words, code=2)

    assert "did you mean reinforce?" in mistake("reinforc")
    assert "--gamma must be between 0 and 1, not 2" in mistake("reinforce", "--gamma", "2")
    assert "no reinforce preset called 'fst': did you mean fast" in mistake("reinforce", "--preset", "fst")
    assert list(tmp_path.iterdir()) == []


def test_which_packages_an_algorithm_and_its_body_come_from(site, monkeypatch):
    monkeypatch.syspath_prepend(site)
    for body, packages in (("small:units=8", {"theirs": "1.0"}), ("nature:width=2", {}), ("auto", {})):
        assert catalog.providers("ppo", ppo.Config(net=body)) == packages
    assert catalog.providers("sarsa", sarsa.Config()) == {}
    theirs = algorithm.load("reinforce").Config(net="mlp")
    for name in [name for name in sys.modules if name.partition(".")[0] in THEIRS]:
        del sys.modules[name]
    assert catalog.providers("reinforce", theirs) == {"theirs": "1.0"}


def test_a_body_of_another_package(site, tmp_path):
    assert "One small layer." in playfield(site, tmp_path, "nets", "--shape", "4")
    words = ("--net", "small:units=8", "--steps", "1024", "--run", "b", "--games", "1", "--no-film", "--quiet")
    playfield(site, tmp_path, "train", "CartPole-v1", *words)
    assert json.loads((tmp_path / "b" / "config.json").read_text())["net"] == "small:units=8"
    error = playfield(site, tmp_path, "train", "CartPole-v1", "--net", "small:unit=8", code=2)
    assert "did you mean units?" in error


def test_a_package_that_cannot_be_imported_is_named(site, tmp_path):
    broken = tmp_path / "site"
    info = broken / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[playfield.algorithms]\nbroken = no_such_module\n")
    error = playfield(broken, tmp_path, "train", "CartPole-v1", "--algo", "broken", code=2)
    assert "algorithm broken (no_such_module) cannot be imported" in error


@pytest.mark.parametrize("name", ["../algos/ppo", "_actor", "__init__", "", ".ppo", "ppo.py"])
def test_a_path_is_no_algorithm(name):
    with pytest.raises(UsageError, match="no algorithm called"):
        algorithm.load(name)


def test_a_broken_body_of_another_package_disables_no_other(tmp_path):
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[playfield.nets]\nbrokennet = no_such_module:body\n")
    quiet = ("--steps", "256", "--games", "0", "--no-film", "--no-tensorboard", "--quiet")
    playfield(tmp_path, tmp_path, "train", "CartPole-v1", "--net", "mlp:width=2", "--run", "a", *quiet)
    assert "nature" in playfield(tmp_path, tmp_path, "nets")
    error = playfield(tmp_path, tmp_path, "train", "CartPole-v1", "--net", "brokennet", code=2)
    assert "net brokennet (no_such_module:body) cannot be imported" in error


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "has no Config and no PRESETS and no train and no load"),
        ("class Config: ...\nPRESETS = {}\ndef train(run, cfg): ...\ndef load(*a): ...", "is no subclass of"),
    ],
)
def test_a_module_that_is_no_algorithm_is_named(source, message, tmp_path):
    info = tmp_path / "half-1.0.dist-info"
    info.mkdir()
    (tmp_path / "half.py").write_text(source)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[playfield.algorithms]\nhalf = half\n")
    error = playfield(tmp_path, tmp_path, "train", "CartPole-v1", "--algo", "half", code=2)
    assert message in error
    assert error.count("\n") == 1
