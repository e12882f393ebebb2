"""Memory of linear methods: the estimate is what is allocated, and what does not fit is refused beforehand."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest

from playfield import compute
from playfield.cli import main
from playfield.errors import UsageError
from playfield.linear import budget
from playfield.linear.coders import coder_for
from playfield.linear.many import METHODS, experiment
from playfield.linear.problems import PROBLEMS
from playfield.training.prepare import prepare
from playfield.training.request import Request

SHARED = ("w", "critic", "epsilon")


@pytest.fixture
def free(monkeypatch):
    """Sets the free memory."""
    return lambda count: monkeypatch.setattr(compute, "free_memory", lambda: count)


def coder(text: str, problem: str = "cartpole"):
    p = PROBLEMS[problem]
    return coder_for(text, *(np.array(b) for b in (p.low, p.high, p.tiled)))


@pytest.mark.parametrize("algo", METHODS)
@pytest.mark.parametrize("text", ["tilings:tilings=8,tiles=4", "fourier:order=4", "iht:tilings=16,size=1024"])
def test_the_estimate_is_what_is_allocated(algo, text):
    """Against the bytes of the arrays themselves, but for a few numbers."""
    module, seen = importlib.import_module(f"playfield.algos.{algo}"), coder(text)
    cfg = module.Config(**({"n_step": 64} if algo == "sarsa" else {}))
    sizes = {name: a.nbytes for name, a in module.memory(2, seen, cfg)._asdict().items()}
    shared = sum(size for name, size in sizes.items() if name in SHARED)
    made = shared, sum(sizes.values()) - shared
    assert 8 * np.array(cfg.numbers(2, seen)) == pytest.approx(made, abs=100)


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (["--algo", "sarsa_lambda", "--num-envs", "64"], "fewer features or a smaller --num-envs"),
        (["--algo", "sarsa", "--n-step", "100_000_000"], "fewer features or a smaller --n-step"),
        (["--algo", "td_lambda"], "use fewer features"),
    ],
)
def test_a_training_that_does_not_fit_is_refused_in_one_line(words, mend, free, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    free(1_000_000)
    features = ["--features", "tilings:tilings=16,tiles=50"]
    assert main(["train", "MountainCar-v0", *words, *features, "--steps", "1000"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("playfield: learning with ")
    assert " of memory, and 1.0 MB are free: use " in error
    assert mend in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_estimate_counts_parallel_environments():
    ready = prepare(Request("MountainCar-v0", "sarsa_lambda", config={"num_envs": 3}))
    size = coder(ready.cfg.features, "mountain-car-gym").size
    assert ready.need.memory == pytest.approx(16 * 3 * size * (1 + 2 * 3), rel=0.01)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("iht:tilings=1000000,tiles=1000000", "1,000,000 tilings .*: use fewer"),
        ("tilings:tilings=1000000", "1,000,000 tilings .*: use fewer"),
        ("iht:tilings=60000,tiles=1000000,size=65536", r"10\^\d\d tiles: use fewer tiles"),
        ("iht:tilings=5000", "use fewer tilings, or size=65536"),
        ("fourier:order=1000000", r"10\^\d\d features: lower it"),
    ],
)
def test_numbers_too_large_for_the_machine_are_plain_errors(text, why):
    with pytest.raises(UsageError, match=why):
        coder(text)
    coder("iht:tilings=5000,size=65536")


@pytest.mark.parametrize(
    "more",
    [{"seeds": range(10**12)}, {"episodes": 10**12}, {"n_step": 10**12}, {"seeds": range(10), "n_step": 10**12}],
)
def test_an_experiment_that_does_not_fit_is_refused(more):
    with pytest.raises(UsageError, match=r"features needs .* GB are free: use less of") as caught:
        experiment("sarsa", "mountain-car", "tilings", **{"seeds": [1], "episodes": 3, **more})
    assert ("n_step" in str(caught.value)) == ("n_step" in more)


def test_the_estimate_counts_runs(free):
    """A thousand runs return a thousand times the weights, but only the running ones have traces."""
    seen, cfg = coder("iht:size=4096"), importlib.import_module("playfield.algos.sarsa_lambda").Config()
    one, many = (budget.experiment_bytes(cfg, 2, seen, runs, 10, threads=1) for runs in (1, 1000))
    assert pytest.approx((many - one) / 999, rel=0.01) == 8 * (2 * 2 * 4096 + 2 * 8192)
    free(many // 2)
    with pytest.raises(UsageError, match="1,000 runs of 10 episodes with 4,096 features"):
        budget.experiment_bytes(cfg, 2, seen, 1000, 10, threads=1)


@pytest.mark.parametrize("features", ["fourrier", "iht:tilings=1000000,tiles=1000000"])
def test_mistakes_in_features_are_reported_before_torch_is_imported(features: str) -> None:
    code = (
        "import sys\nfrom playfield.cli import main\n"
        f"assert main(['train', 'MountainCar-v0', '--algo', 'sarsa', '--features', '{features}']) == 2\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
