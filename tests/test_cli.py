"""The command line: mistakes, help, and that nothing heavy loads before it is needed."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import time

import pytest

import playfield
from playfield import options
from playfield.cli import VERBS, main
from playfield.errors import UsageError
from playfield.runs import catalog


def run(*words: str, cwd=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "playfield", *words], capture_output=True, text=True, cwd=cwd)


MISTAKES = [
    (["tran"], "did you mean train"),
    (["train"], "which environment?"),
    (["train", "brekout"], "did you mean breakout"),
    (["train", "Brekout-v5"], "did you mean"),
    (["train", "breakout", "extra"], "what is 'extra'"),
    (["train", "breakout", "--algo", "pppo"], "did you mean ppo"),
    (["train", "breakout", "--lerning-rate", "1"], "did you mean --lr"),
    (["train", "breakout", "--rollot-steps=3"], "did you mean --rollout-steps"),
    (["train", "breakout", "--lr", "-1"], "at least 0"),
    (["train", "breakout", "--lr", "nan"], "takes a finite number"),
    (["train", "breakout", "--lr", "1e400"], "takes a finite number"),
    (["train", "breakout", "--lr"], "expected one argument"),
    (["train", "breakout", "--gamma", "1.5"], "between 0 and 1"),
    (["train", "breakout", "--num-envs", "0"], "at least 1"),
    (["train", "breakout", "--steps", "many"], "whole number"),
    (["train", "breakout", "--steps", "1.5"], "whole number"),
    (["train", "breakout", "--seed", "x"], "whole number"),
    (["train", "breakout", "--clip-value", "perhaps"], "true or false"),
    (["train", "breakout", "--sticky", "1"], "between 0 and 0.99"),
    (["train", "--resume", "nowhere"], "no run directory nowhere"),
    (["train", "breakout", "--resume", "nowhere"], "cannot be given with --resume"),
    (["train", "--resume", "nowhere", "--lr", "1"], "cannot be given with --resume"),
    (["train", "breakout", "--preset", "clenrl"], "did you mean cleanrl"),
    (["train", "breakout", "--net", "natur"], "did you mean nature"),
    (["eval", "nothing-like-it"], "no agent 'nothing-like-it'"),
    (["eval", "best"], "train one first"),
    (["eval"], "RUN"),
    (["eval", "breakout", "--games", "0"], "between 1"),
    (["record", "breakout", "--agent", "clever"], "takes only random"),
    (["record", "breakout", "--checkpoint", "bst"], "must be last, best or a step, not 'bst'"),
    (["eval", "brekaout-agent", "--checkpoint", "500"], "no agent 'brekaout-agent'"),
    (["record", "breakout", "--mosaic", "0"], "between 1 and 100"),
    (["games", "brekout"], "did you mean breakout"),
    (["bench", "pppo"], "did you mean ppo"),
    (["bench", "howto", "--env", "pong"], "no option --env"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_mistake_is_one_line_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []  # nothing half-made


@pytest.mark.parametrize(
    "words",
    [
        ["train", "breakout", "--preset", "fast"],
        ["train", "breakout", "--net", "natur"],
        ["train", "CartPole-v1", "--net", "nature"],
        ["train", "CartPole-v1", "--sticky", "0.25"],
        ["train", "breakout", "--steps", "100", "--minutes", "1"],
        ["train", "breakout", "--protocol", "clasic"],
        ["train", "breakout", "--colour", "red"],
        ["train", "breakout", "--workers", "3"],
        ["train", "breakout", "--minibatches", "7"],
        ["train", "breakout", "--device", "tpu"],
        ["train", "Pendulum-v1"],
    ],
    ids=" ".join,
)
def test_a_mistake_found_later_leaves_nothing_behind_either(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--quiet"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_of_every_verb_has_examples(capsys):
    assert main([]) == 0
    usage = capsys.readouterr().out
    for verb, fn in VERBS.items():
        assert f"  {verb}" in usage
        with pytest.raises(SystemExit) as stop:
            fn(["--help"])
        assert stop.value.code == 0
        assert f"playfield {verb}" in capsys.readouterr().out.split("examples:")[1]


HEAVY = ("torch", "numba", "gymnasium", "matplotlib", "av", "tensorboard", "ale_py")


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "brekout"],
        ["train", "breakout", "--lr", "x"],
        ["train", "breakout", "--algo", "dqn", "--optimizer", "rmspro"],
        ["train", "CartPole-v1", "--algo", "sarsa_lambda", "--trace", "dutchh"],
        ["train", "CartPole-v1", "--algo", "sarsa", "--correction", "0"],
    ],
)
def test_nothing_heavy_is_imported_for_help_and_early_mistakes(words):
    code = (
        "import sys, playfield.cli as c\n"
        f"try: c.main({words!r})\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_what_the_package_logs_is_told_on_standard_error(quiet, capsys, monkeypatch):
    def verb(words):
        logging.getLogger("playfield.anything").info("half a minute")
        logging.getLogger("playfield.anything").debug("details")
        return 0

    verb.lasting = False
    monkeypatch.setitem(VERBS, "games", verb)
    for _ in range(2):
        assert main(["games", *quiet]) == 0
        out, err = capsys.readouterr()
        assert (out, err) == ("", "" if quiet else "half a minute\n")


def test_nobody_listening_to_notices_does_not_end_the_work():
    code = (
        "import os, sys, logging, playfield.cli as c\n"
        "def verb(words):\n"
        "    logging.getLogger('playfield.x').info('half a minute')\n"
        "    print('went on')\n"
        "    return 7\n"
        "verb.lasting = False\n"
        "c.VERBS['games'] = verb\n"
        "reader, writer = os.pipe()\n"
        "os.close(reader)\n"
        "for stream in (os.fdopen(writer, 'w'), None):\n"
        "    sys.stderr = stream\n"
        "    print(c.main(['games']))\n"
        "os._exit(0 if not sys.stdout.flush() else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["went on", "7"] * 2


def test_the_module_and_the_version_work():
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.strip() == __import__("playfield").__version__


def test_a_mistake_ends_fast():
    start = time.perf_counter()
    done = run("train", "brekout")
    seconds = time.perf_counter() - start
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert seconds < 10  # a generous bound for a busy machine; the promise is 2 s


def test_json_is_pure(tmp_path):
    done = run("eval", "CartPole-v1", "--agent", "random", "--games", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["games"] == 2


@pytest.mark.parametrize(
    ("algo", "option", "wrong", "nearest"),
    [
        ("a2c", "optimizer", "adm", "adam"),
        ("dqn", "optimizer", "rmspro", "rmsprop"),
        ("pqn", "optimizer", "radm", "radam"),
        ("sarsa_lambda", "trace", "dutchh", "dutch"),
        ("td_lambda", "trace", "replacing", "accumulating"),
    ],
)
def test_what_is_none_of_the_choices_is_refused(algo, option, wrong, nearest, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "CartPole-v1", "--algo", algo, f"--{option}", wrong]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert repr(wrong) in told
    assert nearest in told
    with pytest.raises(UsageError, match=nearest):
        playfield.train("CartPole-v1", algo, config={option: wrong})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"lr": "x"}, "lr takes a number, not 'x'"),
        ({"lr": -1}, "--lr must be at least 0"),
        ({"lr": math.nan}, "--lr takes a finite number, not nan"),
        ({"gamma": 2.0}, "--gamma must be between 0 and 1"),
        ({"epsilon_steps": -5}, "--epsilon-steps must be at least 0"),
        ({"epsilon_steps": 5.5}, "epsilon_steps takes a whole number, not 5.5"),
        ({"batch_size": True}, "batch_size takes a whole number, not True"),
        ({"double": "false"}, "double takes True or False, not 'false'"),
        ({"optimizer": None}, "optimizer takes a string, not None"),
    ],
)
def test_values_from_python_are_checked_like_words(config, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        playfield.train("CartPole-v1", "dqn", config=config)
    assert list(tmp_path.iterdir()) == []


def test_every_preset_has_values_that_could_be_given():
    import dataclasses
    import importlib

    for algo in catalog.algorithms():
        for table in importlib.import_module(f"playfield.algos.{algo}").PRESETS.values():
            for cfg in table.values():
                catalog.check(algo, dataclasses.asdict(cfg))


@pytest.mark.parametrize("method", ["sarsa_lambda", "td_lambda"])
def test_an_experiment_checks_its_choices(method):
    with pytest.raises(UsageError, match="no trace called 'dutchh': did you mean dutch"):
        playfield.experiment(method, "random-walk", "onehot", seeds=range(1), episodes=1, trace="dutchh")


def test_a_preset_for_other_environments_is_no_misspelt_one(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "CartPole-v1", "--algo", "dqn", "--preset", "nature"]) == 2
    assert capsys.readouterr().err == "playfield: dqn preset nature is not for CartPole-v1: use default or sparse\n"


@pytest.mark.parametrize(
    ("text", "value"), [("10k", 10_000), ("3M", 3_000_000), ("1e6", 1_000_000), ("1,000", 1000), ("1_000", 1000)]
)
def test_numbers_may_be_written_as_people_write_them(text, value):
    assert options.number("--steps", text, whole=True, commas=True) == value


@pytest.mark.parametrize("text", ["", "k", "1.5", "-3", "inf", "nan", "0x10", "1e400", "--3"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(UsageError):
        options.number("--steps", text, whole=True)


def test_underscores_and_dashes_mean_the_same(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "breakout", "--num_envs", "0"]) == 2
    assert "--num-envs must be" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1e3", "-1", "-2.5", "-.5", "-1E+2", "-1_000", "-10k"])
def test_a_negative_number_may_follow_its_option(text):
    from playfield.cli.train import understand

    for words in (["--v-min", text], [f"--v-min={text}"], ["--v_min", text, "--quiet"]):
        wishes, _, _ = understand(["CartPole-v1", "--algo", "c51", *words])
        assert wishes["config"]["v_min"] == options.number("--v-min", text, whole=False, low=-1e12)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--lr", "-1e3"], "--lr must be at least 0"), (["--v-min", "-x"], "expected one argument")],
)
def test_what_follows_an_option_and_is_no_number_for_it(words, message):
    from playfield.cli.train import understand

    with pytest.raises(UsageError, match=message):
        understand(["CartPole-v1", "--algo", "c51", *words])


@pytest.mark.parametrize(
    ("algo", "words", "config"),
    [
        (
            "ppo",
            ["--learning-rate", "1e-3", "--n_steps=16", "--clip-range", "0.3"],
            {"lr": 1e-3, "rollout_steps": 16, "clip": 0.3},
        ),
        ("dqn", ["--buffer-size", "5k", "--exploration-final-eps", "0.1"], {"capacity": 5000, "epsilon_end": 0.1}),
        ("dqn", ["--priority-exponent", "0.6"], {"alpha": 0.6}),
        ("sarsa_lambda", ["--lambda", "0.5", "--step-size", "0.1"], {"lam": 0.5, "alpha": 0.1}),
        ("pqn", ["--lambda", "0.5"], {"q_lambda": 0.5}),
        ("dqn", ["--double"], {"double": True}),
        ("dqn", ["--double", "--no-dueling", "--steps", "5k"], {"double": True, "dueling": False}),
        ("dqn", ["--double", "false"], {"double": False}),
        ("dqn", ["--double=no", "--dueling", "on"], {"double": False, "dueling": True}),
    ],
)
def test_names_of_other_libraries_and_switches_without_values(algo, words, config):
    from playfield.cli.train import understand

    assert understand(["CartPole-v1", "--algo", algo, *words])[0]["config"] == config
    assert understand(["--algo", algo, *words, "CartPole-v1"])[0]["config"] == config


def test_a_switch_of_the_protocol_needs_no_value():
    from playfield.cli.train import understand

    assert understand(["breakout", "--no-life-loss", "--full-actions"])[0]["parts"] == {
        "life_loss": False,
        "full_actions": True,
    }


def test_an_alias_resumes_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume", "nowhere", "--total-timesteps", "5k"]) == 2
    assert "no run directory nowhere" in capsys.readouterr().err
    assert main(["train", "--resume", "nowhere", "--learning-rate", "1"]) == 2
    assert "--lr is part of the run" in capsys.readouterr().err
