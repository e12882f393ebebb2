"""What a newcomer reads first: plans and numbers that say something, errors that name the way out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import playfield
from playfield.cli import main
from playfield.cli.verbs import VERBS
from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.experiments import tune_results
from playfield.lessons._progress import Reporter
from playfield.runs.logger import EVALUATIONS
from playfield.show import games, tune_plots
from playfield.training.plan import LINES

QUIET = ["--games", "0", "--no-film", "--no-tensorboard"]


SMALL = ["train", "CartPole-v1", "--num-envs", "2", "--rollout-steps", "16", "--minibatches", "1"]


def test_evaluations_at_most_once_a_rollout_are_planned_so_and_few_are_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        *SMALL,
        "--steps",
        "1600",
        "--epochs",
        "1",
        "--run",
        "r",
        "--eval-every",
        "10",
        "--eval-games",
        "1",
        *QUIET,
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    said = "every 32 steps, not 10: once a rollout is the most: 50 times, 1 game each; 20 are printed, "
    assert f" evaluated  {said}eval/evaluations.csv has all\n" in out
    printed = [int(n) for n in re.findall(r"^evaluation at step (\d[\d,]*)", out.replace(",", ""), re.M)]
    assert printed[0] == 32
    assert printed[-1] == 1600
    assert len(printed) <= LINES + 2
    assert len((tmp_path / "r" / EVALUATIONS).read_text().splitlines()) == 51


@pytest.mark.parametrize(
    ("every", "said"),
    [
        ("64", "every 64 steps: 2 times, 3 games each\n"),
        ("50", "every 50 steps, after the rollout of 32 steps that reaches them: 3 times, 3 games each\n"),
        ("1k", "every 1,000 steps, after the rollout of 32 steps that reaches them: 0 times, 3 games each\n"),
    ],
)
def test_the_plan_counts_evaluations(every, said, tmp_path, capsys):
    words = [*SMALL, "--steps", "160"]
    run = tmp_path / "r"
    assert main([*words, "--run", str(run), "--eval-every", every, "--eval-games", "3", *QUIET]) == 0
    out = capsys.readouterr().out
    assert f" evaluated  {said}" in out
    (count,) = re.findall(r"(\d+) times", said)
    rows = (run / EVALUATIONS).read_text().splitlines()[1:] if (run / EVALUATIONS).exists() else []
    assert len(rows) == int(count) == out.count("evaluation at step")


@pytest.mark.parametrize(
    ("env", "states", "said"),
    [("FrozenLake-v1", [16], "16"), ("Taxi-v4", [500], "500"), ("Blackjack-v1", [32, 11, 2], "32 x 11 x 2 = 704")],
)
def test_environments_of_named_states_are_told_by_their_number(env, states, said, capsys):
    games.print_game(env)
    out = capsys.readouterr().out
    assert re.search(rf"states +{said} *\n", out)
    assert "observation size" not in out
    games.print_game(env, json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["states"] == states
    made = make_envs(env, 1)
    assert told["obs_size"] == made.spec.obs_shape[0] == sum(states)
    made.close()


def test_numbers_keep_their_observation_size(capsys):
    games.print_game("CartPole-v1")
    assert re.search(r"observation size +4 ", capsys.readouterr().out)


def test_the_limit_of_steps_is_named_as_it_was_given(capsys):
    assert main(["eval", "breakout", "--max-steps", "5"]) == 2
    assert "leave out --max-steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["figure-10-3", "--steps", "3"], ["preprocessing", "--faithful"], ["random-agent", "--runs", "2"]]
)
def test_a_mistake_in_a_lesson_is_one_line(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["lesson", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


class Terminal:
    """Takes what is written to it."""

    def __init__(self, terminal):
        self.text, self.terminal = "", terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize("terminal", [False, True])
def test_no_time_left_before_it_is_known(terminal):
    now, stream = [0.0], Terminal(terminal)
    reporter = Reporter("a lesson", stream, lambda: now[0])
    reporter.parts(1)
    tell = reporter.part("")
    now[0] = 11.0
    tell(0, 100)
    assert "0%" in stream.text
    assert "left" not in stream.text
    now[0] = 22.0
    tell(50, 100)
    reporter.close()
    assert "22 s left" in stream.text or terminal


@pytest.mark.parametrize(("count", "said"), [(5, "From 5 trials, too few to rely on."), (20, None)])
def test_the_picture_of_importances_says_where_trials_are_too_few(count, said, tmp_path, monkeypatch):
    class Trial:
        state, value, params = "finished", 1.0, {"lr": 0.1}

        def __init__(self, number):
            self.number = number

    class Study:
        def trials(self):
            return [Trial(n) for n in range(count)]

        def importances(self):
            return {"lr": 1.0}

    class Settings:
        algo, env, unit, higher, space = "ppo", "CartPole-v1", "score", True, {}

        def objective(self):
            return "mean score"

    feet = []
    for name in ("history", "slices"):
        monkeypatch.setattr(tune_plots, name, lambda *a: None)
    monkeypatch.setattr(tune_plots, "importances", lambda out, found, foot: feet.append(foot))
    tune_results.pictures(tmp_path, Settings(), Study())
    assert feet == [f"ppo on CartPole-v1: mean score. {said}" if said else "ppo on CartPole-v1: mean score."]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("compare", ["`playfield compare`", "`playfield.aggregate`", "`playfield.runs`"]),
        ("tune", ["`playfield tune`", "`playfield.runs`"]),
        ("eval", ["`playfield.evaluate`"]),
        ("lode_policy", ["did you mean playfield.load_policy?"]),
    ],
)
def test_a_name_that_python_does_not_have_is_answered(name, said):
    with pytest.raises(AttributeError) as caught:
        getattr(playfield, name)
    for text in said:
        assert text in str(caught.value)
    assert not hasattr(playfield, "__wrapped__")


def test_every_name_that_is_told_exists():
    told = " ".join(playfield._COMMANDS.values())
    for name in re.findall(r"`playfield\.([a-z_]+)`", told):
        assert hasattr(playfield, name)
    assert playfield._COMMANDS.keys() <= VERBS.keys()
    from playfield.datasets.collect import collect  # as it is told
    from playfield.lessons import run
    from playfield.show.explain import explain

    assert all(map(callable, (collect, run, explain)))
    assert set(playfield.__all__) | {"runs"} == set(dir(playfield))


def test_a_file_of_another_name_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("p").write_text('algo = "ppo"\n')
    for name in ("./p", "p", "best.tml"):
        assert main(["train", "CartPole-v1", "--steps", "10", "--preset", name]) == 2
        assert "must end in .toml" in capsys.readouterr().err
        with pytest.raises(UsageError, match=r"must end in \.toml"):
            playfield.train("CartPole-v1", steps=10, preset=name)
    assert main(["train", "CartPole-v1", "--steps", "10", "--preset", "lang"]) == 2
    assert "toml" not in capsys.readouterr().err
    assert main(["compare", "p"]) == 2
    assert "must end in .toml" in capsys.readouterr().err
