"""How users give their environments: names without a version, modules, classes, functions, objects, arguments."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import playfield
from playfield.cli import main
from playfield.envs import arguments, make_from, objects, protocol_line
from playfield.envs.names import resolve
from playfield.errors import DataError, EnvError, UsageError
from playfield.runs.info import read_info, spec_from

QUICK = {"steps": 512, "games": 1, "film": False, "console": False, "tensorboard": False, "num_envs": 2}
QUICK |= {"rollout_steps": 32}
MINE = """
import gymnasium, numpy as np
from gymnasium import spaces
class Mine(gymnasium.Env):
    metadata = {"render_modes": []}
    observation_space, action_space = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed); self.t = 0
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), float(action), self.t == 5, False, {}
gymnasium.register("Mine-v0", entry_point=Mine)
gymnasium.register("Mine-v1", entry_point=Mine)
"""


class Line(gymnasium.Env):
    """Ends after `length` steps."""

    metadata: ClassVar = {"render_modes": []}
    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, length: int = 5) -> None:
        self.length, self.t = length, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t / self.length, np.float32), 1.0, self.t == self.length, False, {}


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry, makers = dict(gymnasium.registry), dict(objects.makers)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(registry)
    objects.makers.clear()
    objects.makers.update(makers)
    sys.modules.pop("mine", None)


def first_game(env) -> int:
    env.reset(np.arange(env.num_envs))
    return next(t for t in range(1, 600) if env.step(np.zeros(env.num_envs, int)).episodes)


# Names -----------------------------------------------------------------------------------------------


def test_ids_without_a_version():
    for name in ("Walk-v1", "Walk-v10", "Walk-v9", "GridWalk", "Walk-van-v1"):
        gymnasium.register(name, entry_point=Line)
    assert resolve("GridWalk").id == "GridWalk"
    found = resolve("Walk")
    assert (found.id, found.note) == ("Walk-v10", "Walk means Walk-v10, the newest version that is registered.")
    assert resolve("FrozenLake").id == "FrozenLake-v1"
    assert resolve("blackjack").kind == "atari"
    with pytest.raises(UsageError, match="did you mean"):
        resolve("Walkk")


def test_a_module_in_the_current_folder(tmp_path, capfd):
    """The command line is started as a console script: the current folder is not where Python looks."""
    (tmp_path / "mine.py").write_text(MINE)

    def script(*words):
        code = f"import sys; from playfield.cli import main; sys.exit(main({words}))"
        return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)

    done = script("train", "mine:Mine", "--steps", "512", "--games", "0", "--no-film", "--run", "a")
    assert done.returncode == 0, done.stderr
    assert "mine:Mine means Mine-v1, the newest version" in done.stderr
    info = read_info(Path("a"))
    assert (info["env"], "registered_by" in info) == ("mine:Mine-v1", False)
    assert main(["eval", "a", "--games", "1"]) == 3
    assert "add --trust" in capfd.readouterr().err
    done = script("eval", "a", "--trust", "--games", "1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("def broken(:\n", 6, "SyntaxError: invalid syntax (mine.py line 1)"),
        (
            "import gymnasium\n\nraise RuntimeError('no\\nlicence')\n",
            6,
            "RuntimeError: no licence (mine.py line 3",
        ),
        ("import sys\nsys.exit(0)\n", 6, "it called sys.exit(0) (mine.py line 2, in"),
        ("import nothing_like_it\n", 2, "No module named 'nothing_like_it' (mine.py line 1, in"),
        ("x = 1\n", 2, "no Gymnasium environment called 'Mine'"),
        ("Mine = dict\n", 6, "mine:Mine made a dict, not an environment of Gymnasium"),
        ("def Mine():\n    import sys\n    sys.exit()\n", 6, "it called sys.exit() (mine.py line 3, in Mine)"),
    ],
)
def test_a_module_that_fails_is_told_in_one_line(tmp_path, capsys, text, code, words):
    (tmp_path / "mine.py").write_text(text)
    assert main(["train", "mine:Mine", "--steps", "512"]) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_debug_shows_the_traceback(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.py").write_text("raise RuntimeError('no licence')\n")
    assert main(["train", "mine:Mine", "--debug"]) == 6
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("PLAYFIELD_DEBUG", "1")
    assert main(["train", "mine:Mine"]) == 6
    assert "Traceback" in capsys.readouterr().err


# Objects ---------------------------------------------------------------------------------------------


def wrapped(length: int = 4) -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Line(100), length)


@pytest.mark.parametrize(
    ("thing", "name", "length"),
    [
        (Line, f"{__name__}:Line", 5),
        (wrapped, f"{__name__}:wrapped", 4),
        (lambda: Line(3), "__main__:lambda", 3),
        (functools.partial(Line, length=7), "__main__:Line", 7),
    ],
)
def test_classes_and_functions(thing, name, length):
    env = playfield.make_envs(thing, 2)
    assert env.spec.id == name
    assert first_game(env) == length
    assert first_game(make_from(env.spec, 2)) == length


def test_objects_are_made_again_by_their_spec():
    gymnasium.register("Line-v0", entry_point=Line, max_episode_steps=50, kwargs={"length": 9})
    env = playfield.make_envs(gymnasium.make("Line-v0"), 2)
    assert env.spec.protocol == {"env": "Line-v0", "time_limit": 50}
    env = playfield.make_envs(gymnasium.make("Line-v0", length=6, max_episode_steps=4), 2)
    assert env.spec.protocol == {"env": "Line-v0", "time_limit": 4, "kwargs": {"length": 6}}
    assert first_game(env) == first_game(make_from(env.spec, 1)) == 4
    cut = gymnasium.wrappers.TimeLimit(gymnasium.make("Line-v0"), 3)
    assert first_game(playfield.make_envs(cut, 2)) == 3
    env = playfield.make_envs(gymnasium.wrappers.ClipReward(gymnasium.make("Line-v0"), 0, 0.5), 2)
    env.reset(np.arange(2))
    assert (env.spec.id, env.step(np.zeros(2, int)).reward[0]) == ("__main__:Line-v0-ClipReward", 0.5)
    assert playfield.make_envs(gymnasium.make("CartPole-v1"), 1).spec.kind == "classic"


def test_another_object_of_the_same_name_is_another_environment():
    first = playfield.make_envs(lambda: Line(3), 1).spec
    second = playfield.make_envs(lambda: Line(4), 1).spec
    assert (first.id, second.id) == ("__main__:lambda", "__main__:lambda-2")
    assert (first_game(make_from(first, 1)), first_game(make_from(second, 1))) == (3, 4)


def test_what_cannot_be_made_again_is_refused():
    one = Line()
    with pytest.raises(UsageError, match=r"object \(Line\) has no spec.*give its class, or a function"):
        playfield.train(one)
    with pytest.raises(UsageError, match="makes the same environment again and again"):
        playfield.make_envs(lambda: one, 2)
    with pytest.raises(UsageError, match="not a vector of them"):
        playfield.make_envs(gymnasium.make_vec("CartPole-v1", 2), 2)
    with pytest.raises(UsageError, match=r"an environment is an id such as CartPole-v1, a class.*not 5"):
        playfield.train(5)
    with pytest.raises(EnvError, match="made a int, not an environment"):
        playfield.make_envs(lambda: 5, 1)


def test_a_run_of_an_object_is_opened_where_the_object_is_given(tmp_path):
    result = playfield.train(lambda: Line(3), run=tmp_path / "run", **QUICK)
    assert result.evaluation["mean"] == 3.0
    assert playfield.train(resume=result.directory, steps=1024, games=0, film=False, console=False).steps == 1024
    objects.makers.clear()
    with pytest.raises(DataError, match="was given as a Python object: run its code and give it to playfield"):
        playfield.load_policy(result.directory)


def test_a_run_says_who_registered_its_environment(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(MINE)
    code = "import sys; sys.path.insert(0, ''); import mine, playfield; playfield.train('Mine-v1', run='run', **%r)"
    subprocess.run([sys.executable, "-c", code % QUICK], check=True, capture_output=True)
    assert read_info(Path("run"))["registered_by"] == "mine"
    assert main(["eval", "run", "--games", "1"]) == 3
    assert "Mine-v1 is not registered here: mine registers it. Import mine first" in capsys.readouterr().err
    assert "mine" not in sys.modules
    assert main(["eval", "run", "--games", "1", "--trust"]) == 0


# Arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["is_slippery=false", "map_name=8x8"], {"is_slippery": False, "map_name": "8x8"}),
        (["a=False", "b=None", "c=0.5", "d=3", 'e="3"', "f=[1, 2]", "g=x=y", "h="],
         {"a": False, "b": None, "c": 0.5, "d": 3, "e": "3", "f": [1, 2], "g": "x=y", "h": ""}),
        (['{"desc": ["SF", "FG"]}'], {"desc": ["SF", "FG"]}),
        (["x=NaN", "y=1e3"], {"x": "NaN", "y": 1000.0}),
    ],
)  # fmt: skip
def test_words_of_arguments(words, found):
    assert arguments.parse(words) == found
    assert arguments.parse(arguments.words(found)) == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["is_slippery"], "takes NAME=VALUE, such as is_slippery=false, not 'is_slippery'"),
        (["a=1", "a=2"], "--env-kwargs a is given twice"),
        (["{'a': 1}"], "is no JSON"),
        (["8x=1"], "has a name such as is_slippery, not '8x'"),
        (["render_mode=human"], "render_mode is chosen by playfield"),
    ],
)
def test_wrong_words_of_arguments(words, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        arguments.parse(words)


def test_arguments_are_part_of_a_run(tmp_path, capsys):
    words = ["train", "FrozenLake-v1", "--algo", "dqn", "--steps", "300", "--learning-starts", "200", "--games", "2"]
    words += ["--no-film", "--run", "run", "--env-kwargs", "is_slippery=false", "map_name=8x8"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "time_limit 100, is_slippery false, map_name 8x8" in out
    info = read_info(Path("run"))
    assert info["protocol"]["kwargs"] == {"is_slippery": False, "map_name": "8x8"}
    assert "--env-kwargs is_slippery=false map_name=8x8" in info["command"]
    assert main(["train", "--resume", "run", "--steps", "400", "--games", "0", "--no-film"]) == 0
    assert main(["eval", "run", "--games", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["protocol"]["kwargs"]["map_name"] == "8x8"
    env = make_from(spec_from(info), 1)
    assert env.spec.obs_shape[0] == 64
    assert env._envs[0].env.unwrapped.desc.shape == (8, 8)
    assert "kwargs" not in protocol_line(env.spec.protocol)


def test_arguments_in_python():
    env = playfield.make_envs("FrozenLake-v1", 1, is_slippery=False)
    assert env.spec.protocol["kwargs"] == {"is_slippery": False}
    env = playfield.make_envs("FrozenLake-v1", 1, env_kwargs={"desc": np.array(["SF", "FG"])})
    assert env.spec.obs_shape == (4,)
    env = playfield.make_envs("CartPole-v1", 2, env_kwargs={"max_episode_steps": 20})
    assert (env.spec.kind, env.spec.protocol["time_limit"]) == ("gymnasium", 20)
    assert make_from(env.spec, 1).spec.protocol["time_limit"] == 20
    assert first_game(playfield.make_envs(Line, 1, length=8)) == 8


@pytest.mark.parametrize(
    ("env", "given", "message"),
    [
        ("FrozenLake-v1", {"slippery": True}, "unexpected keyword argument 'slippery'"),
        ("FrozenLake-v1", {"desc": object()}, "the argument desc is a object, which a run cannot store"),
        ("breakout", {"frameskip": 1}, "breakout takes settings of a protocol"),
        ("CartPole-v1-pixels", {"sutton_barto_reward": True}, "takes either obs or arguments"),
        ("FrozenLake-v1", 5, "env_kwargs takes a dictionary"),
    ],
)
def test_wrong_arguments_are_one_line(env, given, message):
    with pytest.raises(UsageError, match=message):
        playfield.train(env, env_kwargs=given)


def test_a_wrong_argument_on_the_command_line(capsys):
    assert main(["train", "FrozenLake-v1", "--env-kwargs", "slippery=1"]) == 2
    err = capsys.readouterr().err
    assert ("slippery" in err, err.count("\n")) == (True, 1)
