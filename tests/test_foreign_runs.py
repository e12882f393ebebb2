"""Files choose no code: a run directory from a stranger that names a module to import is refused, by every verb."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import playfield
from playfield.cli import main
from playfield.envs import trust
from playfield.errors import DataError, UsageError
from playfield.experiments.job import Job
from playfield.show.watch.game import Source
from trained_here import trained_here  # noqa: F401 - a fixture

MODULE = """
from pathlib import Path
import gymnasium as gym
import numpy as np

with open(Path(__file__).with_name("imported"), "a") as file:
    file.write("x")


class Line(gym.Env):
    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.t += 1
        return np.array([self.t / 5], np.float32), float(action), self.t == 5, False, {}

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


gym.register("Line-v0", entry_point=Line)
"""
QUIET = {"console": False, "tensorboard": False, "games": 0, "film": False}


def forget() -> None:
    """As a new process: the module was not imported, and nobody named it."""
    sys.modules.pop("a_line", None)
    gymnasium.registry.pop("Line-v0", None)
    trust._named.clear()


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "a_line.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    playfield.train("a_line:Line-v0", steps=256, run="r", config={"rollout_steps": 16}, **QUIET)
    forget()
    (tmp_path / "imported").unlink()
    yield Path("r")
    forget()


WORDS = {
    "eval": ["eval", "r", "--games", "1"],
    "eval a checkpoint": ["eval", "r/checkpoints/ckpt-000000000256", "--games", "1"],
    "eval at random": ["eval", "r", "--agent", "random", "--games", "1"],
    "record": ["record", "r", "--steps", "3", "--out", "f.gif"],
    "explain": ["explain", "r", "--moments", "1"],
    "resume": ["train", "--resume", "r", "--steps", "512", "--games", "0", "--quiet", "--no-tensorboard"],
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_no_verb_imports_a_module_that_only_a_file_names(words, run, capsys):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert main(words) == 3
    error = capsys.readouterr().err
    assert "a_line" in error
    assert "--trust" in error
    assert error.count("\n") == 1
    assert not Path("imported").exists()
    assert "a_line" not in sys.modules
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    if words[0] in ("eval", "train"):
        assert main([*words, "--trust"]) == 0
        assert Path("imported").exists()


def test_no_function_of_python_does(run):
    for use in (
        lambda **how: playfield.load_policy(run, **how),
        lambda **how: playfield.record(run, out=Path("f.gif"), steps=2, **how),
        lambda **how: Source(str(run), **how),
        lambda **how: playfield.train(resume=run, steps=320, **QUIET, **how),
    ):
        forget()
        with pytest.raises(DataError, match="a_line"):
            use()
        assert not Path("imported").exists()
        use(trust=True)  # loading a policy imports nothing yet; playing it does
        playfield.make_envs("a_line:Line-v0", 1)
        Path("imported").unlink()


def test_what_the_user_imported_or_named_is_no_choice_of_a_file(run):
    __import__("a_line")
    assert playfield.load_policy(run).spec.id == "a_line:Line-v0"
    forget()
    playfield.make_envs("a_line:Line-v0", 1)
    assert playfield.load_policy(run).spec.id == "a_line:Line-v0"


def test_a_module_that_is_imported_gives_no_leave_for_what_it_did_not_register(run):
    """`os:system` is no environment, although os is imported."""
    with pytest.raises(DataError, match="os:system"):
        trust.admit("os:system", named_by_user=False)


@pytest.mark.parametrize("key", ["algo", "net", "features"])
def test_no_other_name_in_run_json_is_imported(key, run):
    """Names of algorithms, networks and features are those of installed packages, never paths to import."""
    text = json.loads((run / "run.json").read_text())
    (text if key == "algo" else text["config"])[key] = "a_line:Line"
    (run / "run.json").write_text(json.dumps(text))
    for use in (lambda: playfield.load_policy(run, trust=True), lambda: playfield.train(resume=run, trust=True)):
        with pytest.raises(DataError):
            use()
    assert not Path("imported").exists()


def test_a_comparison_resumes_what_the_user_named_and_nothing_else(run):
    job = Job("a_line:Line-v0", "ppo", ("a_line:Line-v0", "--algo", "ppo"), 1, 512, run)
    assert "--trust" in job.command()
    text = json.loads((run / "run.json").read_text())
    text["spec"]["id"] = text["env"] = "another:Line-v0"
    (run / "run.json").write_text(json.dumps(text))
    assert "--trust" not in job.command()
    assert "--trust" not in Job("CartPole-v1", "ppo", ("CartPole-v1",), 1, 512, run).command()


GRID = 'envs = ["a_line:Line-v0"]\nalgorithms = ["ppo"]\nsteps = 512\nseeds = 1\ndir = "d"\n'


def test_no_file_of_an_experiment_names_an_import(run, capsys):
    """Neither one that a stranger has sent, nor the one beside his results."""
    Path("grid.toml").write_text(GRID)
    assert main(["compare", "grid.toml"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("playfield: grid.toml: environment 'a_line:Line-v0' is made by importing a_line")
    assert "--trust" in error
    assert error.count("\n") == 1
    assert not Path("imported").exists()
    assert not Path("d").exists()
    assert main(["compare", "grid.toml", "--trust"]) == 0
    assert Path("imported").exists()
    forget()
    Path("imported").unlink()
    beside = Path("d/experiment.toml")
    assert beside.read_text().startswith("# Written by `playfield compare`, which repeats it: playfield compare ")
    assert beside.read_text().partition("\n")[0].endswith("experiment.toml --trust")
    for words in (["compare", "d/experiment.toml"], ["compare", "d/experiment.toml", "--seeds", "2", "--dir", "e"]):
        assert main(words) == 3
    # what only reads the results imports nothing, and needs no leave
    for words in (["compare", "--dir", "d"], ["runs", "d"], ["runs", "d", "--env", "a_line:Line-v0"]):
        assert main(words) == 0
    with pytest.raises(UsageError, match="neither reference scores"):
        playfield.aggregate("d")
    assert not Path("imported").exists()
    assert not Path("e").exists()


def test_a_tuning_names_its_environment_on_the_command_line(run, capsys):
    """`tune.json` and a space choose none: another environment there is another tuning."""
    words = ["tune", "a_line:Line-v0", "--steps", "256", "--trials", "1", "--dir", "t", "--jobs", "1"]
    assert main(words) == 0
    forget()
    Path("imported").unlink()
    told = json.loads(Path("t/tune.json").read_text())
    told["env"] = told["words"][0] = "another:Line-v0"
    Path("t/tune.json").write_text(json.dumps(told))
    assert main(["tune", "--dir", "t"]) == 0
    assert main(["tune", "CartPole-v1", *words[2:], "--algo", "ppo"]) == 2
    assert "another:Line-v0" in capsys.readouterr().err
    assert not Path("imported").exists()


@pytest.mark.parametrize("own", ["--resume r", "--run=elsewhere", "--seed 4", "--trust", "--help", "--quiet"])
def test_words_of_an_algorithm_in_a_file_are_its_options_only(own, run, capsys):
    Path("grid.toml").write_text(f'envs = ["CartPole-v1"]\nsteps = 512\nseeds = 1\nalgorithms = ["ppo {own}"]\n')
    assert main(["compare", "grid.toml", "--dir", "d"]) == 2
    flag = own.replace("=", " ").split()[0]
    assert capsys.readouterr().err.startswith(f"playfield: grid.toml, line 4: {flag} in 'ppo {own}': an experiment")
    assert not Path("d").exists()


@pytest.mark.usefixtures("trained_here")
def test_labels_of_results_are_no_commands(tmp_path, capsys):
    """`compare.json` holds words of `train`; those that ask for more than options are other options."""
    words = ["compare", "CartPole-v1", "--algo", "ppo", "--steps", "256", "--seeds", "1", "--dir", str(tmp_path)]
    assert main(words) == 0
    file = tmp_path / "CartPole-v1/ppo/compare.json"
    told = json.loads(file.read_text())
    for more in (["--help"], ["--resume", "r"], ["--seed", "1"]):
        file.write_text(json.dumps({**told, "words": [*told["words"], *more]}))
        assert main([*words[:-4], "--seeds", "2", "--dir", str(tmp_path)]) == 2
        assert "has runs with other options" in capsys.readouterr().err


def test_children_of_a_comparison_do_not_search_the_current_folder(tmp_path):
    """A folder with a `random.py`, one's own or of a stranger, stood in for Python's in every child."""
    for name in ("random", "json", "numpy", "torch"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'a').close()\nraise SystemExit(9)\n")
    code = "from playfield.cli import main; raise SystemExit(main())"
    words = ["compare", "CartPole-v1", "--algo", "random", "--steps", "400", "--seeds", "1"]
    given = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run([sys.executable, "-P", "-c", code, *words], **given)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "imported").exists()


def test_every_child_is_started_without_the_current_folder():
    source = Path(playfield.__file__).parent
    starts = [
        line.strip()
        for path in source.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r'sys\.executable.*[ "]-m[ "]', line)
    ]
    assert len(starts) >= 7
    assert all(re.search(r'"-P", "-m"| -P -m ', line) for line in starts), starts
