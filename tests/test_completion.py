"""Completion in the shell: what is offered, quickly, and in real shells where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from playfield.cli import VERBS, main
from playfield.cli.completion import SHELLS, offer
from playfield.runs import catalog


@pytest.mark.parametrize(
    ("words", "some", "none"),
    [
        ([""], ["train", "eval", "completion", "--help"], ["breakout"]),
        (["tr"], ["train"], ["eval"]),
        (["train", ""], ["breakout", "CartPole-v1"], ["--steps"]),
        (["train", "brea"], ["breakout"], ["pong"]),
        (["train", "pong", "--"], ["--steps", "--clip", "--no-film", "--film"], ["--capacity"]),
        (["train", "pong", "--algo", "dqn", "--"], ["--capacity", "--double", "--no-double"], ["--clip"]),
        (["train", "--algo", "d"], ["dqn"], ["ppo"]),
        (["train", "--algo", "=", "d"], ["dqn"], ["ppo"]),
        (["train", "--algo", "="], ["dqn", "ppo"], []),
        (["train", "--algo=d"], ["--algo=dqn"], ["--algo=ppo"]),
        (["train", "--algo", "c51", "--preset", ""], ["default", "paper"], ["cleanrl"]),
        (["train", "--algo", "dqn", "--double", ""], ["true", "false"], []),
        (["train", "--device", "c"], ["cpu", "cuda"], ["auto"]),
        (["train", "--net", ""], ["nature", "impala"], []),
        (["eval", ""], ["best", "last", "breakout"], ["CartPole-v1"]),
        (["eval", "breakout", "--gr"], ["--greedy"], ["--games"]),
        (["record", "breakout", "--show", ""], ["plain", "net", "bars", "all"], []),
        (["lesson", "figure"], ["figure-10-1", "figure-12-10"], ["dqn"]),
        (["lesson", "cartpole-sarsa", "--"], ["--gamma", "--runs"], []),
        (["nets", ""], ["mlp", "nature"], []),
        (["bench", ""], ["ppo", "dqn"], []),
        (["completion", ""], ["bash", "zsh", "fish"], []),
    ],
)
def test_what_is_offered(words, some, none):
    found = offer(words)
    assert set(some) <= set(found)
    assert not set(none) & set(found)
    assert all(word.startswith(words[-1]) for word in found) or words[-1] == "="


@pytest.mark.parametrize(
    "words",
    [["record", "breakout", "--out", ""], ["nope", ""], ["train", "--algo", "nope", ""], ["autoencoder", ""], ["x"]],
)
def test_nothing_is_offered_where_nothing_is_known_and_the_shell_offers_files(words):
    assert offer(words) == []


def test_every_option_of_every_command_is_offered():
    for verb in VERBS:
        found = offer([verb, "--"])
        assert "--help" in found, verb


def test_runs_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "CartPole-v1" / "ppo" / "1"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    assert "runs/CartPole-v1/ppo/1" in offer(["eval", "ru"])
    assert "runs/CartPole-v1/ppo/1" in offer(["train", "--resume", ""])


def test_it_imports_nothing_heavy():
    code = (
        "import sys; from playfield.cli import main;"
        "main(['completion', '--offer', 'train', 'pong', '--algo', 'dqn', '']);"
        "assert not {'torch', 'numba', 'gymnasium', 'matplotlib', 'tensorboard', 'ale_py'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "breakout" in done.stdout.split()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_shell(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert subprocess.run([shell, "-n", script], capture_output=True, check=False).returncode == 0


def test_bash_completes(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "playfield").write_text(f'#!/bin/sh\nexec {sys.executable} -m playfield "$@"\n')
    (tmp_path / "playfield").chmod(0o755)
    test = (
        f"PATH={tmp_path}:$PATH; . {tmp_path}/script; COMP_WORDS=(playfield train pong --algo q); COMP_CWORD=4; "
        '_playfield; printf "%s\\n" "${COMPREPLY[@]}"; complete -p playfield'
    )
    done = subprocess.run(["bash", "-c", test], capture_output=True, text=True, check=True)
    expected = sorted(name for name in catalog.algorithms() if name.startswith("q"))
    assert done.stdout.split("\n")[: len(expected)] == expected
    assert "-F _playfield playfield" in done.stdout


def test_mistakes(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert "completion is for bash, zsh, fish" in capsys.readouterr().err
    assert main(["completion"]) == 2
