"""Commands that the program prints are executed; options that it names in any message exist."""

from __future__ import annotations

import ast
import contextlib
import functools
import re
import shlex
from pathlib import Path

import pytest

import playfield
from playfield import lessons
from playfield.cli import VERBS, main
from playfield.cli.parser import Parser, parser_of
from playfield.cli.train import understand
from playfield.runs import catalog
from playfield.runs.info import read_info
from playfield.training.directory import kept, last_good
from playfield.training.request import Request

SOURCES = Path(playfield.__file__).parent
COMMAND = re.compile(r"playfield [a-z]+(?: [^\n`;()]+?)??(?=\.? [A-Z]|\.?$|[\n`;()]| \()", re.M)
PARSED = ("watch",)  # would not end by itself


def commands(text: str) -> list[list[str]]:
    """The words of all commands of playfield in a text, without `playfield`."""
    return [shlex.split(found)[1:] for found in COMMAND.findall(text)]


def trained(*words: str) -> str:
    """What a training prints, which ends well."""
    said: list[str] = []
    options, _, _ = understand(["CartPole-v1", *words] if "--resume" not in words else list(words))
    options["console"] = False
    playfield.train(say=said.append, **options)
    return "\n".join(said)


def execute(text: str) -> list[str]:
    """Execute all commands in `text`, each of which must end well; returns their verbs."""
    verbs = []
    for words in commands(text):
        verbs.append(words[0])
        if words[0] in PARSED:
            parser_of(VERBS[words[0]]).parse(words[1:])
        else:
            assert main(words) == 0, words
    return verbs


def test_the_commands_at_the_end_of_a_training_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = trained("--algo", "random", "--steps", "2", "--games", "2", "--run", "my run")
    assert execute(text) == ["watch", "eval", "record", "train"]
    logdir = shlex.split(re.search("tensorboard --logdir .*", text)[0])[2]
    assert list(Path(logdir).glob("events.out.tfevents.*"))


def test_a_training_of_less_than_a_rollout_is_made_longer_by_the_printed_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = trained("--algo", "ppo", "--steps", "2", "--games", "0", "--run", "r")
    longer = commands(text)[-1]
    assert longer[:3] == ["train", "--resume", "r"]
    done = read_info(Path("r"))["result"]["steps"]
    assert main(longer) == 0
    assert read_info(Path("r"))["result"]["steps"] > done


def test_a_target_that_was_reached_is_removed_by_the_printed_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, steps in (("a", "2000"), ("b", "1")):
        words = ("--algo", "random", "--steps", steps, "--games", "0", "--target-score", "0", "--target-games", "1")
        text = trained(*words, "--run", name)
        assert "--target-score none" in text
        done = read_info(Path(name))["result"]["steps"]
        assert execute(text)[-1] == "train"
        assert read_info(Path(name))["result"]["steps"] > done


def test_nothing_is_advised_or_planned_that_was_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--algo", "random", "--steps", "64")
    text = trained(*words, "--no-tensorboard", "--no-film", "--games", "1", "--run", "a")
    assert "tensorboard" not in text
    assert "then games" in text
    assert "then games and film" not in text
    text = trained(*words, "--games", "0", "--run", "b")
    assert "then games" not in text
    assert "then games and film" in trained(*words, "--games", "1", "--run", "c")


def test_a_resume_makes_what_the_start_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained("--algo", "random", "--steps", "64", "--games", "3", "--no-film", "--no-tensorboard", "--run", "r")
    text = trained("--resume", "r", "--steps", "3000")
    assert "over 3 full games" in text
    assert not list(Path("r").glob("films/*"))
    assert not list(Path("r").glob("events*"))
    text = trained("--resume", "r", "--steps", "5000", "--games", "1", "--tensorboard")
    assert "over 1 full games" in text
    assert list(Path("r").glob("events*"))
    assert read_info(Path("r"))["after"] == {
        "games": 1,
        "film": False,
        "tensorboard": True,
        "workers_as": "auto",
    }


def test_hints_of_mistakes_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trained("--algo", "random", "--steps", "2", "--games", "0", "--run", "my run")
    capsys.readouterr()
    hints = []
    for words in (
        ["train", "CartPole-v1", "--run", "my run"],
        ["train"],
        ["lesson", "--about"],
        ["eval", "no-run"],
        ["eval", "CartPole-v1"],
        ["replay", "my run"],
        ["compare"],
        ["compare", "CartPole-v1", "--steps", "5", "--algo", "dqn", "--dir", "my run", "--seeds", "1"],
    ):
        assert main(words) == 2
        hints += commands(capsys.readouterr().err)
    assert ["train", "--resume", "my run"] in hints
    for words in hints:
        parser = parser_of(VERBS[words[0]], words[1:])
        with pytest.raises(SystemExit) if "--help" in words else contextlib.nullcontext():
            parser.parse([word.rstrip(",.") for word in words[1:]])


def test_what_is_kept_of_a_training_that_ended_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = Request("CartPole-v1")
    assert last_good(Path("no such run")) == kept(Path("no such run"), asked.env, asked) == "nothing had been saved"
    trained("--algo", "random", "--steps", "64", "--games", "0", "--run", "my run")
    step, where = re.fullmatch(
        "the last good checkpoint, of step ([0-9,]+), is in (.*)", last_good(Path("my run"))
    ).groups()
    assert (Path(where) / f"ckpt-{int(step.replace(',', '')):012d}").is_dir()
    assert main(["eval", "my run", "--checkpoint", step, "--games", "1"]) == 0
    assert commands(kept(Path("my run"), asked.env, asked)) == [["train", "--resume", "my run"]]


@functools.cache
def flags(verb: str) -> frozenset[str]:
    """All options of a command, over all algorithms."""
    parsers: list[Parser] = [parser_of(VERBS[verb])]
    if verb == "train":
        parsers = [parser_of(VERBS[verb], ["--algo", algo]) for algo in catalog.algorithms()]
    if verb == "lesson":
        parsers = [parser_of(VERBS[verb], [name]) for name in lessons.names()]
    if verb in ("compare", "tune"):
        parsers.append(parser_of(VERBS["train"]))
    known = {flag for parser in parsers for flag in parser.actions_by_flag()}
    return frozenset(known | {f"--no-{flag[2:]}" for flag in known})


def texts() -> list[tuple[str, str]]:
    """(file and line, text) of every string in the package but docstrings; what is filled in later is `1`."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = documented | {
            id(v) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for v in node.values
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(v.value) if isinstance(v, ast.Constant) else "1" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                text = node.value
            else:
                continue
            found.append((f"{path.relative_to(SOURCES)}:{node.lineno}", text))
    return found


def test_every_command_in_the_package_has_a_verb_and_options_that_exist():
    seen = 0
    for where, text in texts():
        for verb, rest in re.findall(r"playfield ([a-z]+)((?: [^\s`;,)\"']+(?<!\.))*)", text):
            if verb not in VERBS or (verb == "games" and "``" in text):
                continue
            for flag in re.findall(r"(?<= )--[a-z][a-z-]*", rest):
                seen += 1
                assert flag in flags(verb) | {"--help"}, (where, verb, flag)
    assert seen > 60


def test_every_option_that_a_message_names_exists():
    known = frozenset().union(*(flags(verb) for verb in VERBS if verb != "completion"))
    known |= {"--help", "--version", "--logdir"}
    slurm = {
        "job-name",
        "array",
        "cpus-per-task",
        "mem",
        "gres",
        "output",
        "open-mode",
        "requeue",
        "signal",
    }  # sbatch
    slurm |= {"me", "noheader", "states", "format"}  # of squeue; those above are sbatch's
    for where, text in texts():
        if where.startswith(("bench/", "cli/completion")):
            continue
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+[a-z](?![\w-])", text):
            others = {"experiments/slurm": slurm, "cli/compare": {"state"}}.get(where.partition(".py")[0], ())
            assert flag in known or flag[2:] in others, (where, flag, text[:80])
