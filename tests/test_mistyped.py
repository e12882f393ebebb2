"""What is said of a mistyped option or name: the right one, and no names that merely share some letters."""

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
        (["train", C, "dqn"], "what is 'dqn'? An algorithm is named with --algo dqn"),
        (["train", C, "dqnn"], "what is 'dqnn'? See playfield train --help"),
        (["eval", C, "--double"], "has no option --double: see playfield eval --help"),
        (
            ["compare", C, "ppo", "--steps", "2k"],
            "ppo is an algorithm, and environments come first: write --algo",
        ),
        (["compare", C, "--algo", "ppo,dqn", "--steps", "2k"], "several times: --algo ppo --algo dqn"),
        (["compare", C, "--algo", "ppo,dqnn", "--steps", "2k"], "no algorithm called 'ppo,dqnn'"),
    ],
)
def test_words(words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err


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
