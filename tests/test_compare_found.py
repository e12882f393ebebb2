"""Which runs are compared, at which step, and which evaluation counts: all of it is said."""

from __future__ import annotations

import json
import os
import shutil

import pytest

import playfield
from compare_runs import write_run
from playfield.cli import main
from playfield.errors import UsageError
from playfield.experiments import chosen, compare, job

C, A = "CartPole-v1", "Acrobot-v1"


def run(folder, seed=1, last=1000, total=1000, env=C, score=7.0, algo="dqn", **more):
    result = {"steps": total, "seconds": 1.0, "stop": "steps"} if last >= total else None
    write_run(
        folder, env, algo, seed, [(last // 2, score), (last, score)], total, result=result, reached=last, **more
    )


def shown(root, capsys, *words):
    assert main(["compare", "--dir", str(root), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_at_any_depth_are_found_and_links_are_not_followed(tmp_path, capsys):
    for seed, place in enumerate(("a", "b/c", "d/e/f/g/h", "i/j/k/l/m/n/o/p"), 1):
        run(tmp_path / "runs" / place, seed)
    run(tmp_path / "elsewhere" / "1", 9)
    os.symlink(tmp_path / "elsewhere", tmp_path / "runs" / "link")
    os.symlink(tmp_path / "runs", tmp_path / "runs" / "b" / "round")
    (row,) = shown(tmp_path / "runs", capsys)["rows"]
    assert row["seeds"] == [1, 2, 3, 4]
    assert shown(tmp_path / "runs" / "a", capsys)["rows"][0]["seeds"] == [1], "a run itself"


def test_trainings_of_tunings_are_left_out_unless_their_folder_is_named(tmp_path, capsys):
    run(tmp_path / C / "dqn" / "1")
    for trial in range(3):
        run(tmp_path / "tune" / "ppo" / "trials" / str(trial) / "1", score=trial)
    (tmp_path / "tune" / "ppo" / "tune.json").write_text("{}")
    (tmp_path / "tune" / "ppo" / "trials" / "2" / "1" / "run.json").write_text("damaged")
    told = shown(tmp_path, capsys)
    assert [row["runs"] for row in told["rows"]] == [[str(tmp_path / C / "dqn" / "1")]]
    assert len(told["left_out"]) == 3
    assert str(tmp_path / "tune" / "ppo") in told["left_out"][0]["why"]
    assert main(["compare", "--dir", str(tmp_path)]) == 0
    assert "Left out: 3 runs of tunings." in capsys.readouterr().out
    with pytest.raises(
        UsageError, match=r"but a training of the tuning in .*ppo: to compare those, name that folder"
    ):
        compare.read(tmp_path / "tune")
    shutil.rmtree(tmp_path / "tune" / "ppo" / "trials" / "2")
    assert shown(tmp_path / "tune" / "ppo", capsys)["rows"]


def test_the_run_that_limits_the_comparison_is_named(tmp_path, capsys):
    for seed in (1, 2, 3):
        run(tmp_path / "dqn" / str(seed), seed, total=50_000, last=50_000)
    run(tmp_path / "dqn" / "4", 4, total=50_000, last=1000)
    run(tmp_path / "acrobot" / "1", env=A, total=2000, last=2000)
    told = shown(tmp_path, capsys)
    short = str(tmp_path / "dqn" / "4")
    assert told["compared_at"] == {
        A: {"step": 2000, "longest": 2000, "limited_by": []},
        C: {"step": 1000, "longest": 50_000, "limited_by": [short]},
    }
    sentence = f"Scores on {C} are compared at step 1,000 of 50,000, since {short} has come no further."
    for more in ([], ["--table", "md"]):
        assert main(["compare", "--dir", str(tmp_path), *more]) == 0
        out = capsys.readouterr().out
        assert " ".join(sentence.split()) in " ".join(out.replace("\\", "").split())
        assert f"Scores on {A}" not in out
    run(tmp_path / "dqn" / "5", 5, total=50_000, last=20_000)
    assert compare.read(tmp_path).notes[0].endswith(f"{short} has come no further, nor has another one.")
    run(tmp_path / "dqn" / "6", 6, total=50_000, last=10_000)
    assert compare.read(tmp_path).notes[0].endswith(f"{short} has come no further, nor have 2 others.")


def test_nearly_the_same_step_needs_no_word(tmp_path):
    run(tmp_path / "1", 1, total=1000, last=960)
    run(tmp_path / "2", 2)
    assert compare.read(tmp_path).notes == []


def evaluated(folder, steps, mean, games, other=""):
    """`other`: what the file's name says of rules that are not those of the training."""
    (folder / "eval").mkdir(exist_ok=True)
    told = {"mean": mean, "games": games, "ci95": None, "policy": f"dqn, seed 1, step {steps:,}, sampled"}
    (folder / "eval" / f"last-t1-seed0-{games}{other}.json").write_text(json.dumps(told))


def test_the_evaluation_at_the_end_of_a_run_counts(tmp_path, capsys):
    for seed, mean in ((1, 30.0), (2, 50.0), (3, 5.0)):
        run(tmp_path / str(seed), seed, eval_games=4)
        evaluated(tmp_path / str(seed), 1000, mean, 30)
    rows = ["step,mean,median,min,max,games", "400,1.0,1,1,1,4", "990,2.0,1,1,1,4", ""]
    (tmp_path / "2" / "eval" / "evaluations.csv").write_text("\n".join(rows))
    rows = ["step,mean,median,min,max,games", "1000,6.0,1,1,1,4", ""]
    (tmp_path / "3" / "eval" / "evaluations.csv").write_text("\n".join(rows))
    told = shown(tmp_path, capsys, "--score", "eval")
    assert told["rows"][0]["scores"] == [30.0, 50.0, 6.0]
    assert "4 or 30 evaluation games" in told["score"]["note"]
    assert "step 1,000)" in told["score"]["note"]


@pytest.mark.parametrize(
    "other",
    ["-v5", "-sticky0.25", "-v5-sticky0.1", "-difficulty1-mode4", "-max500", "-randomsteps30", "-v5-randomsteps5"],
)
def test_scores_under_other_rules_are_never_taken_for_the_own_ones(other, tmp_path, capsys):
    """Neither with more games than the own evaluation has, nor where there is no other."""
    run(tmp_path / "1", 1)
    evaluated(tmp_path / "1", 1000, 99.0, 100, other)
    assert job.evaluation(tmp_path / "1", 1000) is None
    assert playfield.list_runs(tmp_path)[0]["scored"] == "training"
    assert main(["compare", "--dir", str(tmp_path), "--score", "eval"]) == 2
    assert "1 has no evaluation" in capsys.readouterr().err
    evaluated(tmp_path / "1", 1000, 30.0, 30)
    assert job.evaluation(tmp_path / "1", 1000)["mean"] == 30.0
    (record,) = playfield.list_runs(tmp_path)
    assert (record["scored"], record["score"], record["games"]) == ("evaluation", 30.0, 30)
    assert shown(tmp_path, capsys, "--score", "eval")["rows"][0]["scores"] == [30.0]


def test_the_evaluation_of_an_earlier_checkpoint_or_of_a_run_that_goes_on_does_not(tmp_path, capsys):
    run(tmp_path / "1", 1)
    evaluated(tmp_path / "1", 500, 30.0, 30)  # it was made longer since
    assert main(["compare", "--dir", str(tmp_path), "--score", "eval"]) == 2
    assert "games at the end" in capsys.readouterr().err
    run(tmp_path / "2", 2, last=500)
    evaluated(tmp_path / "2", 500, 30.0, 30)
    with pytest.raises(UsageError, match="2 has no evaluation"):
        chosen.choose(compare.read(tmp_path / "2").curves, "eval", 100)


def test_an_environment_without_a_finished_game_is_left_out_and_not_unknown(tmp_path):
    """As after a first look at many games with few steps each."""
    run(tmp_path / "1")
    found = compare.read(tmp_path)
    found = compare.Found(found.curves, (compare.LeftOut(tmp_path / "a", A, "dqn", "no game", "without a game"),))
    kept = compare.choose(found, [A, C], [])
    assert [c.env for c in kept.curves] == [C]
    assert [x.env for x in kept.left_out] == [A]
    with pytest.raises(UsageError, match="none of these runs has a finished game"):
        compare.choose(found, [A], [])
    with pytest.raises(UsageError, match="no environment in these runs called 'breakout'"):
        compare.choose(found, ["breakout"], [])
