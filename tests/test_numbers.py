"""How numbers are read: strictly, everywhere, in words as in Python; and what wrong values leave behind: nothing."""

import inspect
import math
import time

import numpy as np
import pytest

import playfield
from playfield.arguments import seeds
from playfield.cli import main
from playfield.errors import UsageError
from playfield.options import number
from playfield.training.request import FOUND, Request, sort_options

READ = [
    ("1", 1), ("007", 7), ("+5", 5), ("10k", 10_000), ("3M", 3_000_000), ("1.5k", 1500), ("1e6", 1_000_000),
    ("1_000_000", 1_000_000), ("1,000,000", 1_000_000), ("12,345", 12_345), ("2B", 2_000_000_000), ("1.0", 1),
]  # fmt: skip
LOOSE = [
    "1,5", "1,2,3", "0,001", "1,00", "1000,000", "1,0000", ",5", "5,", "1,000.5.1", "1__0", "_1", "1_", "", " ", ".",
    "1 000", "１２", "²", "٣", "1e", "0x10", "1kk", "k", "--5", "1e5_0", "twelve", "1.2.3",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), READ)
def test_whole_numbers(text, value):
    assert number("--steps", text, whole=True, commas=True) == value


@pytest.mark.parametrize(("text", "plain"), [("10.000", "10000"), ("1.000", "1000"), ("1.000.000", "1000000")])
def test_points_between_thousands_are_no_decimal_points(text, plain):
    with pytest.raises(UsageError, match=rf"--steps takes a whole number: write {plain} if"):
        number("--steps", text, whole=True, commas=True)
    with pytest.raises(UsageError, match=f"write {plain} if"):
        seeds("--seeds", text)
    if text.count(".") == 1:
        assert number("--lr", text, whole=False) == float(text)


@pytest.mark.parametrize("text", LOOSE)
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_loose_is_refused(text, whole):
    with pytest.raises(UsageError, match="--n takes a"):
        number("--n", text, whole=whole, commas=whole)


@pytest.mark.parametrize("text", ["1,000", "1,000.5", "0,001", "3m", "3b"])
def test_fractions_take_no_commas(text):
    with pytest.raises(UsageError, match="--lr takes a number, such as"):
        number("--lr", text, whole=False)


def test_a_number_of_5000_digits_is_one_short_line():
    with pytest.raises(UsageError, match="finite") as error:
        number("--steps", "9" * 5000, whole=True)
    assert len(str(error.value)) < 120


def test_seeds_are_a_count_or_a_list():
    assert seeds("--seeds", "3") == [1, 2, 3]
    assert seeds("--seeds", "3,7,9") == [3, 7, 9]
    assert seeds("--seeds", "5,") == [5]
    for text, why in (
        ("3,3", "seed 3 twice"),
        ("1,,2", "whole number"),
        ("1.5", "whole number"),
        ("0", "between 1"),
        ("1,000", "such as 1,2,3"),
        ("0,001", "such as 1,2,3"),
    ):
        with pytest.raises(UsageError, match=why):
            seeds("--seeds", text)


WORDS = [
    "train CartPole-v1 --lr 0,001", "train CartPole-v1 --seed 1,2", "train CartPole-v1 --seed 1,234",
    "train CartPole-v1 --steps 1,5", "train CartPole-v1 --steps ²", "train CartPole-v1 --minutes 1,5",
    "train CartPole-v1 --target-score 4,75", "train CartPole-v1 --steps 100 --run=",
    "train CartPole-v1 --sticky 0,25", "train CartPole-v1 --net mlp:width=1,5",
    "train breakout --net nature:width=1_,0",
    "compare CartPole-v1 --algo ppo --steps 100 --seeds 1,,2", "compare CartPole-v1 --algo ppo --steps 1,5",
    "eval breakout --games 1,5", "eval breakout --temperature 0,5", "eval breakout --checkpoint ²",
    "record breakout --mosaic 3", "record breakout --fps 1,5", "record breakout --out new/x.zzz",
    "nets --shape ８４x84x4", "lesson figure-10-1 --runs 1,5", "watch breakout --port 80,80", "train --resume=",
]  # fmt: skip


@pytest.mark.parametrize("words", WORDS)
def test_words_that_are_no_number_are_one_line_and_leave_nothing(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert time.monotonic() - start < 20, "no training was started"
    assert list(tmp_path.iterdir()) == []


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["train", LONG], ["train", "--resume", LONG], ["train", "CartPole-v1", "--run", LONG], ["eval", LONG],
        ["record", LONG], ["record", "breakout", "--out", f"{LONG}.gif"], ["watch", LONG], ["explain", LONG],
        ["replay", LONG], ["compare", "--dir", LONG], ["compare", LONG], ["collect", LONG], ["preprocess", LONG],
        ["autoencoder", LONG], ["nets", LONG], ["lesson", LONG], ["games", LONG], ["bench", LONG], [LONG],
    ],
)  # fmt: skip
def test_names_of_300_characters(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("playfield: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_with_odd_digits_are_no_run_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/CartPole-v1/random/²").mkdir(parents=True)
    (tmp_path / "runs/CartPole-v1/random" / ("9" * 200)).mkdir()
    (tmp_path / "runs/CartPole-v1/random/4").mkdir()
    result = playfield.train("CartPole-v1", "random", steps=64, games=0, quiet=True, tensorboard=False)
    assert result.directory.name == "5"


NUMBERS = [-5, 1.5, math.nan, math.inf, "3", True, [1], {}, object(), 10**400, b"1"]
WRONG = {
    "steps": [*NUMBERS, 0], "minutes": [-1, 0, math.nan, math.inf, "1", True, 10**400], "seed": [*NUMBERS, 2**53],
    "save_seconds": [-1, math.nan, math.inf, "60", True], "keep": [*NUMBERS, 0], "games": NUMBERS,
    "workers": NUMBERS, "target_score": [math.nan, -math.inf, "475", [1]], "target_games": [*NUMBERS, 0],
    "device": ["tpu", 3, ""], "precision": ["fp16", 3], "preset": ["nope", 3], "algo": ["nope", 3, 5.0, b"ppo"],
    "protocol": ["v9", 3], "view": ["nope", 3], "config": [5, "lr=1", [1], {3: 4}, {"nope": 1}, {"lr": "1e-3"}],
    "parts": [5, {3: 4}, {"nope": 1}], "run": ["", " ", ".", 5, LONG, b"x"], "tensorboard": [1, "no", 0.0],
    "console": [2, "yes"], "film": [1, "no"], "env": [3, "", None, [], "nope", b"CartPole-v1", LONG],
    "resume": ["", 5, "nope", LONG], "lr": ["0.001", -1, math.nan, True, None], "nope": [1], "sticky": [2, "0,5"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(n, value, id=f"{n}-{i}") for n, values in WRONG.items() for i, value in enumerate(values)],
)
def test_wrong_arguments_of_train_are_named_and_leave_nothing(name, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {"env": "breakout" if name in ("sticky", "view", "protocol") else "CartPole-v1"}
    if name != "console":
        arguments["quiet"] = True
    if name == "resume":
        del arguments["env"]
    if name not in ("steps", "minutes"):
        arguments["steps"] = 256
    if name == "target_games":
        arguments["target_score"] = 475.0
    with pytest.raises(UsageError) as error:
        playfield.train(**{**arguments, name: value})
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 900
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda p: playfield.load_policy(p, 99), lambda p: playfield.load_policy(p, "x"),
        lambda p: playfield.load_policy(p, temperature="x"),
        lambda p: playfield.load_policy(p, temperature=math.nan),
        lambda p: playfield.load_policy(p, device="tpu"), lambda p: playfield.load_policy(p, seed=-1),
        lambda p: playfield.load_policy(None), lambda p: playfield.load_policy(""),
        lambda p: playfield.load_policy(5), lambda p: playfield.load_policy(LONG[:200]),
        lambda p: playfield.evaluate(5), lambda p: playfield.evaluate("no"),
        lambda p: playfield.evaluate(p, games=0), lambda p: playfield.evaluate(p, games=1.5),
        lambda p: playfield.evaluate(p, seed=-1), lambda p: playfield.evaluate(p, num_envs=-1),
        lambda p: playfield.evaluate(p, threads="2"), lambda p: playfield.make_envs(None),
        lambda p: playfield.make_envs("CartPole-v1", 0), lambda p: playfield.make_envs("CartPole-v1", 1.5),
        lambda p: playfield.make_envs("CartPole-v1", 1, threads="x"), lambda p: playfield.record(p, games=0),
        lambda p: playfield.record(p, steps=1.5), lambda p: playfield.record(p, mosaic=3),
        lambda p: playfield.record(p, fps=math.nan), lambda p: playfield.record(p, out="new/x.zzz"),
        lambda p: playfield.record(p, style="nope"), lambda p: playfield.open_replay(""),
        lambda p: playfield.open_replay(p),
    ],
)  # fmt: skip
def test_wrong_arguments_of_other_functions(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        call("breakout")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seeds", 5), ("seeds", "12"), ("seeds", []), ("seeds", [1.5]), ("seeds", [-1]), ("seeds", range(-2, 3)),
        ("seeds", None), ("episodes", 0), ("episodes", 1.5), ("episodes", True), ("max_steps", -1),
        ("max_steps", math.nan), ("threads", -1), ("alpha", "0.1"),
    ],
)  # fmt: skip
def test_wrong_arguments_of_experiment(name, value):
    arguments = {"seeds": range(1), "episodes": 1, name: value}
    with pytest.raises(UsageError):
        playfield.experiment("sarsa", "mountain-car", "tilings", **arguments)


def test_numpys_numbers_are_numbers():
    request = Request("CartPole-v1", steps=np.int64(10), seed=np.uint8(3), save_seconds=np.float32(1.5))
    assert request.steps == 10
    assert [type(v) for v in (request.steps, request.seed, request.save_seconds)] == [int, int, float]
    with pytest.raises(UsageError, match="steps takes a whole number"):
        Request("CartPole-v1", steps=np.float64(10))


NUMPYS = {
    "steps": np.int64(512),
    "seed": np.uint8(3),
    "lr": np.float32(0.001),
    "num_envs": np.int32(4),
    "anneal": np.bool_(False),
    "keep": np.int64(2),
    "save_seconds": np.float32(5),
    "target_score": np.float64(400),
    "target_games": np.int64(50),
    "eval_every": np.int64(256),
    "eval_games": np.int64(1),
    "workers": np.int64(1),
    "games": np.int64(1),
    "env_timeout": np.float32(30),
    "film": np.bool_(False),
    "tensorboard": np.bool_(False),
    "console": np.bool_(False),
    "algo": np.str_("ppo"),
}


def test_a_run_of_numpys_numbers_is_that_of_pythons(tmp_path, monkeypatch):
    """Files of a run are JSON, which takes Python's numbers only."""
    monkeypatch.chdir(tmp_path)
    first = playfield.train("CartPole-v1", **NUMPYS)
    second = playfield.train("CartPole-v1", **{name: value.item() for name, value in NUMPYS.items()})
    assert (first.steps, first.hash) == (second.steps, second.hash)
    again = playfield.train(resume=first.directory, steps=np.int64(1024), keep=np.int64(1), games=np.int64(0))
    assert again.steps == 1024
    lake = playfield.make_envs("FrozenLake-v1", np.int64(1), env_kwargs={"is_slippery": np.bool_(False)})
    assert lake.spec.protocol["kwargs"] == {"is_slippery": False}
    assert playfield.make_envs("breakout", 1, sticky=np.float32(0.5)).spec.protocol["sticky"] == 0.5
    assert playfield.evaluate(first.directory, games=np.int64(1), seed=np.int64(2)).games


def test_options_by_their_names_on_the_command_line_and_in_other_libraries():
    found = sort_options(
        "dqn", {"config": {"batch_size": 16}}, {"learning_rate": 1e-3, "sticky": 0.25, "double": True}
    )
    assert found == {"config": {"batch_size": 16, "lr": 1e-3, "double": True}, "parts": {"sticky": 0.25}}
    with pytest.raises(UsageError, match="lr is given twice"):
        sort_options("dqn", {}, {"learning_rate": 1e-3, "lr": 1e-3})
    with pytest.raises(UsageError, match="did you mean lr"):
        sort_options("ppo", {}, {"lrr": 1e-3})
    with pytest.raises(UsageError, match="total_timesteps is called steps here"):
        sort_options("ppo", {}, {"total_timesteps": 5})


def test_trains_signature_names_every_field_of_a_request():
    known = set(inspect.signature(playfield.train).parameters) - {"resume", "trust", "say", "quiet", "more"}
    assert known == {field.name for field in Request.__dataclass_fields__.values()} - FOUND
    with pytest.raises(UsageError, match="no option called 'preset_file': did you mean preset"):
        sort_options("ppo", {}, {"preset_file": {}})


def test_lr_reaches_the_run_and_quiet_is_quiet(tmp_path, capfd):
    result = playfield.train(
        "CartPole-v1", steps=128, lr=0.25, num_envs=2, games=1, film=False, run=tmp_path / "r", quiet=True
    )
    assert playfield.play.agent.read_info(result.directory)["config"]["lr"] == 0.25
    assert capfd.readouterr() == ("", "")
