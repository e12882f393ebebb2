"""What is said of a mistyped option or name: the right one, and no names that merely share some letters."""

import sys

import gymnasium
import pytest

import playfield
from playfield.cli import main
from playfield.errors import UsageError, nearest

DQNS = "c51, dqn, hlgauss, qrdqn and rainbow"
REPLAY = "c51, dqn, hlgauss, mrp, qrdqn and rainbow"
C = "CartPole-v1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", C, "--double"], f"has no option --double: it is one of {DQNS}, not of ppo (--algo NAME)"),
        (["train", C, "--batch-size", "64"], f"no option --batch-size: it is one of {REPLAY}"),
        (["train", C, "--buffer-size", "64"], f"no option --buffer-size: it is one of {REPLAY}"),
        (["train", C, "--algo", "dqn", "--clip-value"], "no option --clip-value: it is one of ppo, not of dqn"),
        (["train", C, "--epsilon", "0.1"], "sarsa, sarsa_lambda and td_lambda, not of ppo"),
        (["train", "Taxi-v4", "--clip", "0.1"], "it is one of ppo, not of qlearning (--algo NAME)"),
        (["train", C, "--lerning-rate", "1"], "did you mean --lr?"),
        (["train", C, "--zzzz", "1"], "see playfield train --help"),
        (["train", C, "--dir", "x"], "playfield train has no option --dir: did you mean --run?"),
        (["compare", "--run", "x"], "did you mean --dir?"),
        (["train", C, "--workers-as", "proceses"], "--workers-as proceses: did you mean processes?"),
        (["compare", C, "--store", "nfs"], "--store takes auto, shared or driver, not 'nfs'"),
        (["tune", C, "--over", "medin"], "--over medin: did you mean median?"),
        (["train", C, "--nodes", "two"], "--nodes takes a whole number from 1 to 256, not 'two'"),
        (["train", C, "--steps", "two"], "--steps takes a whole number, such as 1000000, 1M or 500k, not 'two'"),
        (["train", C, "dqn"], "what is 'dqn'? An algorithm is named with --algo dqn"),
        (["train", C, "dqnn"], "what is 'dqnn'? See playfield train --help"),
        (["eval", C, "--double"], "has no option --double: see playfield eval --help"),
        (
            ["compare", C, "ppo", "--steps", "2k"],
            "ppo is an algorithm, and environments come first: write --algo",
        ),
        (["compare", C, "--algo", "ppo,dqn", "--steps", "2k"], "several times: --algo ppo --algo dqn"),
        (["compare", C, "--algo", "ppo -lr 3", "--steps", "2k"], "has no option -lr: did you mean --lr?"),
        (["compare", C, "--algo", "ppo --double", "--steps", "2k"], f"it is one of {DQNS}, not of ppo"),
        (["tune", C, "--algo", "ppo -lr 3", "--steps", "2k"], "has no option -lr: did you mean --lr?"),
        (["compare", C, "--algo", "ppo,dqnn", "--steps", "2k"], "no algorithm called 'ppo,dqnn'"),
    ],
)
def test_words(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err


MINE = """
import gymnasium
from gymnasium.spaces import Box, Discrete
class Mine(gymnasium.Env):
    observation_space, action_space = Box(0, 1, (1,)), Discrete(2)
gymnasium.register("Dig-v0", entry_point=Mine)
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Taxi-v3", "did you mean Taxi-v4? "),
        ("taxi", "did you mean Taxi-v4? "),
        ("taxxi", "did you mean Taxi-v4"),
        ("frozen_lake", "did you mean FrozenLake-v1? "),
        ("LunarLander-v2", "did you mean LunarLander-v3? "),
        ("dig_site", "dig_site.py here is a module: name its environment too, as in dig_site:Name-v0"),
        ("Digg-v0", "if a module of yours registers it, write module:Digg-v0"),
        ("dig_site.py:Dig-v0", "a module is named without .py: dig_site:Dig-v0"),
        (
            "dig_sit:Dig-v0",
            "in this folder or where Python finds modules: did you mean dig_site?",
        ),
        ("no.such.one:Dig-v0", "there is no no in this folder"),
        ("needs:Dig-v0", "cannot be imported: No module named 'not_there' (needs.py line 1"),
        ("dig_site:Dig-v1", "no environment of dig_site called 'Dig-v1': did you mean Dig-v0?"),
        ("dig_site:Zebra-v1", "no environment of dig_site called 'Zebra-v1': choose from Dig-v0"),
        ("empty:Dig-v1", "(empty registers none, and has no such class or function)"),
    ],
)
def test_environments(name, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "dig_site.py").write_text(MINE)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "needs.py").write_text("import not_there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        assert main(["train", name, "--steps", "512"]) == 2
    finally:
        gymnasium.registry.pop("Dig-v0", None)
        for module in ("dig_site", "empty", "needs"):
            sys.modules.pop(module, None)
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for option, said in (
        ("double = true", f"it is one of {DQNS}, not of ppo"),
        ("leraning_rate = 0.1", "did you mean lr?"),
        ("learning = 0.1", "did you mean lr?"),
    ):
        preset, experiment = tmp_path / "p.toml", tmp_path / "e.toml"
        preset.write_text(f'algo = "ppo"\n[options]\n{option}\n')
        experiment.write_text(f'envs = "{C}"\nsteps = 2048\n[[algorithms]]\nalgo = "ppo"\n{option}\n')
        for words, line in ((["train", C, "--preset", "p.toml"], 3), (["compare", "e.toml"], 5)):
            assert main(words) == 2
            err = capsys.readouterr().err
            assert f"line {line}: no " in err
            assert said in err


def test_python():
    with pytest.raises(UsageError, match=f"no option called 'double': it is one of {DQNS}, not of ppo"):
        playfield.train(C, double=True)
    with pytest.raises(UsageError, match=f"no ppo option called 'double': it is one of {DQNS}"):
        playfield.train(C, config={"double": True})
    with pytest.raises(UsageError, match=r"no option called 'lerning_rate': did you mean lr\?"):
        playfield.train(C, lerning_rate=1)


def test_what_is_much_less_alike_than_the_best_is_left_out():
    assert nearest("ppoo", ["ppo", "pqn", "pong"]) == ["ppo"]
    assert nearest("figure-10", ["figure-10-4", "figure-10-3", "random"]) == ["figure-10-4", "figure-10-3"]
    assert nearest("zzz", ["ppo"]) == []
    assert nearest("srasa", ["sarsa", "sarsa_lambda", "random"])[0] == "sarsa"
    assert nearest("dnq", ["ppo", "dqn"]) == ["dqn"]
