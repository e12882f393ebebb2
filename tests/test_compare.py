"""A comparison: its words, its picture and table from runs that lie there, and that it goes on after any stop."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from compare_runs import write_label, write_run
from playfield.cli import main
from playfield.errors import DataError, UsageError
from playfield.experiments import compare, drawn, grid, progress
from playfield.experiments.job import Job
from playfield.show import plots
from playfield.show.compare_plot import Line, Panel, spread
from playfield.show.compare_plot import comparison as picture
from trained_here import trained_here  # noqa: F401 - a fixture

LABELS = ["dqn", "dqn --double true", "pqn"]
C, S = "CartPole-v1", ["--steps", "2k"]
MISTAKES = [
    ([], "no directory runs/compare"),
    (["CartPol-v1", "--algo", "dqn", *S], "did you mean CartPole-v1"),
    ([C, "--algo", "dqnn", *S], "did you mean dqn"),
    ([C, "--algo", "dqn --duble true", *S], "did you mean --double"),
    ([C, "--algo", "dqn --preset natur", *S], "did you mean nature"),
    ([C, "--algo", "dqn --double perhaps", *S], "true or false"),
    ([C, "--algo", "dqn --net nature", *S], "needs pixels"),
    ([C, "--algo", "dqn --seed 3", *S], "a comparison sets that itself"),
    ([C, "--algo", "dqn --minutes=3", *S], "a comparison sets that itself"),
    ([C, "--algo", "dqn true", *S], "then its options"),
    ([C, "--algo", "", *S], "takes an algorithm"),
    ([C, "--algo", "dqn '", *S], "No closing quotation"),
    ([C, "--algo", "dqn"], "how many steps"),
    ([C, "--algo", "dqn", "--algo", " dqn ", *S], "given twice"),
    ([C, C, "--algo", "dqn", *S], "given twice"),
    (["--algo", "dqn", *S], "which environments"),
    ([C, *S], "name what to train"),
    ([C, "--jobs", "2"], "name what to train"),
    ([C, "--algo", "dqn", "--seeds", "0", *S], "between 1"),
    ([C, "--algo", "dqn", "--sedes", "2", *S], "did you mean --seeds"),
    (
        [C, "--algo", "dqn", "--algo", "ppo", *S, "--", "--double", "true"],
        "ppo on CartPole-v1: playfield train has no",
    ),
    ([C, "--algo", "dqn", *S, "--", "pong"], "is no option"),
    ([C, "--algo", "dqn", *S, "--", "--run", "x"], "a comparison sets that itself"),
    ([C, "--algo", "ppo", *S, "--", "--nodes", "2"], "each training of a comparison is on one machine"),
    ([C, "--algo", "ppo --join h:1", *S], "each training of a comparison is on one machine"),
    ([C, "--algo", "dqn", *S, "--", "--workers-as", "processes"], "dqn trains with threads only: leave it out"),
    ([C, "--algo", "dqn", *S, "--out", "a.jpg"], ".png, .svg or .pdf"),
    ([C, "--algo", "dqn --lr 1e-3", "--algo", "dqn --lr=1e-3", *S], "would have the same directory"),
    (["breakout", "Breakout-v4", "--algo", "dqn", *S], "would have the same directory"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_mistake_is_reported_before_anything_starts(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_plan_is_seed_by_seed_and_own_options_come_last(tmp_path):
    kinds = grid.from_words([C], ["dqn --lr 3", "pqn"], ["--lr", "1", "--num-envs", "4"], [1, 2], 100)
    made = grid.plan(tmp_path, kinds)
    assert [(t.seed, t.directory.relative_to(tmp_path).as_posix()) for t in made] == [
        (1, "CartPole-v1/dqn-lr-3/1"),
        (1, "CartPole-v1/pqn/1"),
        (2, "CartPole-v1/dqn-lr-3/2"),
        (2, "CartPole-v1/pqn/2"),
    ]
    words = made[0].command()
    assert words.index("1") < words.index("3"), "the label's own option comes after the common one"
    assert words[words.index("--seed") + 1] == "1"


def test_runs_with_other_steps_or_options_are_not_mixed(tmp_path, capsys):
    write_label(tmp_path, C, "dqn", 0, 2, 5000, 100)
    asked = ["compare", C, "--algo", "dqn", "--dir", str(tmp_path), "--seeds", "2"]
    assert main([*asked, "--steps", "4k"]) == 2
    assert "use --steps 5000" in capsys.readouterr().err
    assert main([*asked, "--steps", "6k"]) == 2
    assert "--extend" in capsys.readouterr().err
    assert main([*asked, "--steps", "5k", "--", "--lr", "7e-3"]) == 2
    assert "with other options" in capsys.readouterr().err
    assert main([*asked, "--steps", "5k", "--", "--lr", "1e-3"]) == 0, "the default in other words"
    assert main([*asked, "--steps", "5k"]) == 0, "finished runs are kept, nothing is trained"
    write_run(tmp_path / C / "pqn" / "1", C, "pqn", 1, [(1, 1.0)], 5000)
    assert main(["compare", C, "--algo", "pqn", "--dir", str(tmp_path), "--steps", "5k"]) == 2
    assert "did not start" in capsys.readouterr().err
    (longer,) = (t for t in grid.plan(tmp_path, grid.from_words([C], ["dqn"], [], [1, 2], 6000)) if t.seed == 1)
    longer.check(extend=True)
    assert not longer.done()
    words = longer.command()
    assert words[:5] == ["train", "--resume", str(longer.directory), "--steps", "6000"]


# What is there -----------------------------------------------------------------------------------------


def test_rows_by_hand(tmp_path):
    """Two seeds, window 2; the common last step is 80, where seed 1 has games 3 and 5, and seed 2 holds 8 and 10."""
    home = tmp_path / C / "dqn"
    ended = {"steps": 128, "seconds": 0.256, "stop": "steps"}  # its last round went beyond
    games = [(10, 1.0), (50, 3.0), (80, 5.0), (100, 11.0)]
    write_run(home / "1", C, "dqn", 1, [*games, (120, 99.0)], 100, result=ended)
    write_run(home / "2", C, "dqn", 2, [(20, 8.0), (30, 10.0)], 100, result=None, reached=80)
    (row,) = compare.rows(compare.read(tmp_path, 2).curves, 2)
    assert row["step"] == 80
    assert row["scores"] == [4.0, 9.0]
    assert row["mean"] == 6.5
    half = 12.7062047 * 2.5  # t of one degree of freedom; s / sqrt(2) is half the difference
    assert (row["low"], row["high"]) == (0.0, pytest.approx(6.5 + half))  # no score of CartPole is below 0
    assert row["finished"] == [True, False]
    first = compare.read(tmp_path, 2).curves[0]
    assert (first.last, first.values[-1]) == (100, 8.0), "no game after the 100 steps that all have"
    assert row["steps_per_second"] == pytest.approx(500)
    assert row["label"] == "dqn", "without compare.json, the directory's name"
    assert "1 of 2 runs are not finished" in drawn.caption(compare.read(tmp_path, 2), 2)


def test_drawing_what_is_there(tmp_path, capsys):
    for env, level in ((C, 200), ("Acrobot-v1", -120), ("breakout", 9)):
        for place, label in enumerate(LABELS):
            write_label(tmp_path, env, label, place, 1 if env == "breakout" else 4, 5000, level)
    assert main(["compare", "--dir", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == ""
    assert [(r["env"], r["label"]) for r in told["rows"]] == list(
        itertools.product(["Acrobot-v1", C, "breakout"], LABELS)
    )
    assert told["rows"][0]["low"] < told["rows"][0]["mean"] < told["rows"][0]["high"]
    assert told["rows"][-1]["low"] is None
    with Image.open(tmp_path / "compare.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (700, 3 * 840, 3)
    for third in np.array_split(pixels, 3, axis=1):
        for color in plots.CYCLE[:3]:
            rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
            assert (third == rgb).all(-1).sum() > 100, "a line of every label in every panel"

    assert main(["compare", "breakout", "cartpole", "--dir", str(tmp_path), "--out", str(tmp_path / "b.png")]) == 0
    text = capsys.readouterr().out
    assert text.index("breakout") < text.index(C), "the order of the command"
    assert "dqn --double true" in text
    assert "Acrobot" not in text
    assert main(["compare", "pong", "--dir", str(tmp_path)]) == 2
    assert "no environment in these runs called 'pong'" in capsys.readouterr().err


def test_the_same_runs_give_the_same_bytes_and_every_change_shows(tmp_path):
    steps, scores = np.arange(50.0), np.random.default_rng(0).random((4, 50)).cumsum(1)

    def draw(foot="f", **changes):
        line = {"label": "a", "place": 0, "steps": steps, "scores": scores} | changes.pop("line", {})
        picture(tmp_path / "a.png", [Panel(**{"title": "t", "lines": [Line(**line)]} | changes)], foot=foot)
        return (tmp_path / "a.png").read_bytes()

    changes = [{}, {"title": "u"}, {"human": 5.0}, {"human": 5e5}, {"random": 5.0}, {"foot": "g"}]
    changes += [{"line": {"label": "b"}}, {"line": {"place": 1}}, {"line": {"place": 6}}]
    changes += [{"line": {"scores": scores[:n]}} for n in (1, 2, 3)]
    assert len({draw(**change) for change in changes}) == len(changes)
    assert draw() == draw()
    draw(title="$x_{", foot="$\\frac", line={"label": "$_"}, human=0.0)


def test_nothing_to_draw_and_damaged_runs(tmp_path):
    with pytest.raises(UsageError, match="no run with a finished game"):
        compare.read(tmp_path)
    for panels in ([], [Panel("t", [])], [Panel("t", [Line("a", 0, np.array([1.0]), np.array([[np.nan]]))])]):
        with pytest.raises(UsageError):
            picture(tmp_path / "a.png", panels, foot="")
    write_label(tmp_path, C, "dqn", 0, 1, 5000, 100)
    (tmp_path / C / "dqn" / "compare.json").write_text('{"label": 3}')
    with pytest.raises(DataError, match="damaged"):
        compare.read(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-50, 150), min_size=1, max_size=9))
def test_labels_keep_their_distance_their_order_and_the_panel(places):
    moved = spread(places, 10, 0, 100)
    assert min(moved) >= -1e-6
    assert max(moved) <= 100 + 1e-6
    order = sorted(range(len(places)), key=lambda i: places[i])
    for a, b in itertools.pairwise(order):
        assert moved[b] - moved[a] >= 10 - 1e-6
    if len(places) == 1 or min(places[b] - places[a] for a, b in itertools.pairwise(order)) > 10:
        inside = [min(max(p, 0), 100) for p in places]
        assert moved == pytest.approx(inside) or min(places) < 0 or max(places) > 100


def test_spread_by_hand():
    assert spread([50, 50], 10, 0, 100) == [45, 55]
    assert spread([50, 48, 90], 10, 0, 100) == [54, 44, 90]
    assert spread([1, 2], 10, 0, 100) == [0, 10]
    assert spread([], 10, 0, 100) == []
    assert spread([5, 6, 7], 100, 0, 100) == [0, 50, 100]


def test_time_left(tmp_path):
    a, b, c, d = (Job(env, label, (), 1, 1000, tmp_path) for env, label in ("xp", "xq", "yp", "zz"))
    steps = {a: (1000, 10.0), b: (0, 0.0), c: (500, 10.0), d: (0, 0.0)}
    left = progress.seconds_left
    assert left(dict.fromkeys(steps, (0, 0.0)), [a], [b], 1) is None
    assert left(steps, [c], [], 1) == pytest.approx(10)  # 500 at 50/s
    assert left(steps, [c], [b], 1) == pytest.approx(10 + 10)  # b as fast as a, in the same environment
    assert left(steps, [c], [d], 2) == pytest.approx((10 + 1000 / 75) / 2)  # d as all: 1500 in 20 s
    assert left(steps, [], [], 2) == 0


def test_the_table_of_trainings_shows_what_runs_and_then_what_ended_last(tmp_path):
    jobs = grid.plan(tmp_path, grid.from_words([C], ["ppo", "a2c"], [], [1, 2, 3], 1000))
    ppo, a2c = jobs[0], jobs[1]
    rows = "step,time/time_elapsed,rollout/ep_rew_mean\n250,2.5,17.25\n"
    for job in (ppo, a2c):
        job.directory.mkdir(parents=True)
        (job.directory / "metrics.csv").write_text(rows)
    made = progress.Progress(jobs)
    made.ended(a2c, 4)
    output = Console(width=110, file=io.StringIO())
    output.print(made.table([ppo], [jobs[2]], 75.0, height=12))
    lines = output.file.getvalue().splitlines()
    assert lines[0].split() == ["environment", "algorithm", "seed", "progress", "score", "steps/s", "left"]
    assert lines[1].split()[:3] == [C, "ppo", "1"]
    assert lines[1].split()[-5:] == ["25%", "17.2", "100", "7.5", "s"]
    assert lines[2].split()[:3] + lines[2].split()[-1:] == [C, "ppo", "2", "elsewhere"]
    assert lines[3].split()[:3] + lines[3].split()[-1:] == [C, "a2c", "1", "diverged"]
    assert "3 more" in lines[4]
    assert "8% of 6,000 steps" in lines[5]
    assert "about 1 min 15 s left" in lines[5]
    assert "0 of 6 runs" in lines[5]
    few = Console(width=110, file=io.StringIO())
    few.print(made.table([ppo], [], None, height=8))
    assert len(few.file.getvalue().splitlines()) == 4  # a low terminal has one row


# Going on ----------------------------------------------------------------------------------------------

LABEL, STEPS = "ppo --num-envs 4 --rollout-steps 32", 6_000
# What `playfield compare` does once it has checked the words, without the time that takes.
ALONE = (
    "import sys; from pathlib import Path; from playfield.experiments import grid as g, local as t; "
    "root = Path(sys.argv[1]);"
    f"plan = g.plan(root, g.from_words(['{C}'], ['{LABEL}'], [], [1], {STEPS})); "
    "g.save_labels(root, plan); t.run_jobs(plan, 1)"
)


def _start(root):
    """The jobs of a comparison in their own process, as soon as the first one has saved something."""
    run = root / C / grid.slug(LABEL) / "1"
    before = time.time()
    process = subprocess.Popen([sys.executable, "-c", ALONE, str(root)], stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        mark = run / "checkpoints" / "last"
        if mark.exists() and mark.stat().st_mtime > before:
            return process, run
        time.sleep(0.01)
    raise AssertionError(process.communicate()[1])


def test_a_comparison_that_was_killed_and_stopped_ends_as_one_that_was_not(tmp_path, capsys):
    import playfield

    process, run = _start(tmp_path)
    child = json.loads((run / "lock").read_text())["pid"]
    process.kill()
    process.communicate()
    for _ in range(600):
        if not (run / "lock").read_text():
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        raise AssertionError("the child outlived its parent")
    assert "result" not in json.loads((run / "run.json").read_text()), "the test was too slow to kill it"

    process, run = _start(tmp_path)
    process.send_signal(signal.SIGTERM)
    err = process.communicate()[1]
    assert "Interrupted: stopped by SIGTERM" in err
    assert (run / "lock").read_text() == "", "the child has saved and ended before its parent"
    assert "result" not in json.loads((run / "run.json").read_text())

    words = ["compare", C, "--algo", LABEL, "--seeds", "1", "--steps", str(STEPS), "--dir", str(tmp_path), "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert f"resuming {LABEL}" in err
    (row,) = json.loads(out)["rows"]
    assert row["step"] == STEPS
    assert row["runs"] == [str(run)]
    config = {"num_envs": 4, "rollout_steps": 32}
    alone = playfield.train(
        C, steps=STEPS, workers=1, config=config, run=tmp_path / "alone", games=0, console=False, tensorboard=False
    )
    assert json.loads((run / "run.json").read_text())["result"]["hash"] == alone.hash
    before = (run / "run.json").stat().st_mtime_ns
    assert main(words) == 0
    assert (run / "run.json").stat().st_mtime_ns == before, "a finished run is kept"


@pytest.mark.usefixtures("trained_here")
def test_one_that_fails_does_not_keep_the_others(tmp_path, capsys):
    words = ["compare", C, "--algo", "random", "--seeds", "2", "--steps", "500", "--dir", str(tmp_path)]
    (tmp_path / C / "random").mkdir(parents=True)
    (tmp_path / C / "random" / "1").write_text("in the way")
    assert main(words) == 5
    out, err = capsys.readouterr()
    assert "random on CartPole-v1, seed 1: " in err.splitlines()[-1]
    assert (tmp_path / C / "random" / "2" / "run.json").exists()
    assert "random" in out, "what is there is shown"
    (tmp_path / C / "random" / "1").unlink()
    assert main(words) == 0
    assert "      2" in capsys.readouterr().out


def test_a_run_that_diverges_is_counted_and_not_trained_again(tmp_path, capsys):
    label = "sarsa --alpha 1e30"
    words = ["compare", C, "--algo", label, "--algo", "random", "--seeds", "1", "--steps", "2000"]
    words += ["--dir", str(tmp_path), "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert f"{label} on CartPole-v1, seed 1: " in err.splitlines()[-1]
    told = json.loads((tmp_path / C / "sarsa-alpha-1e30" / "1" / "run.json").read_text())["diverged"]
    rows = {row["label"]: row for row in json.loads(out)["rows"]}
    assert rows["random"]["diverged"] == 0
    assert rows["random"]["finished"] == [True]
    assert rows["random"]["step"] == 2000, "one that diverged early does not cut the others"
    if label in rows:
        assert rows[label]["diverged"] == 1
    before = (tmp_path / C / "sarsa-alpha-1e30" / "1" / "run.json").stat().st_mtime_ns
    assert main(words) == 0
    assert told["why"] in capsys.readouterr().err
    assert (tmp_path / C / "sarsa-alpha-1e30" / "1" / "run.json").stat().st_mtime_ns == before
