"""What `playfield compare` says of several environments together: which score, on which scale, in which format."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import playfield
from compare_runs import runs, write_label, write_run
from playfield.cli import main
from playfield.errors import UsageError
from playfield.experiments import chosen, compare, drawn, summary, tables
from playfield.experiments.aggregate import iqm
from playfield.show import plots

C, A, B = "CartPole-v1", "Acrobot-v1", "breakout"
HARD = 'dqn --x a|b_c&50%{"q"}~^\\<*'


def shown(root, capsys, *words):
    assert main(["compare", "--dir", str(root), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


TWO = {
    "dqn": {C: [100.0, 200.0, 300.0], B: [1.7, 30.5, 16.1]},
    "pqn": {C: [250.0, 250.0], B: [59.3, 1.7]},
}


def test_aggregates_by_hand(tmp_path, capsys):
    """On CartPole 0 to 500 is 0 to 1; on Breakout random play, 1.7, is 0 and a human, 30.5, is 1."""
    runs(tmp_path, TWO)
    told = shown(tmp_path, capsys)["aggregates"]
    assert told["environments"] == [C, B]
    assert told["scores"]["dqn"] == [[0.2, 0.0], [0.4, 1.0], [0.6, pytest.approx(0.5)]]
    assert told["scores"]["pqn"] == [[0.5, pytest.approx(2.0)], [0.5, 0.0]]
    one, two = told["rows"]
    assert (one["algorithm"], one["seeds"], one["tasks"]) == ("dqn", 3, 2)
    assert one["iqm"] == pytest.approx((0.2 + 0.4 + 0.5 + 0.6) / 4)
    assert one["median"] == pytest.approx((0.4 + 0.5) / 2)
    assert one["mean"] == pytest.approx(2.7 / 6)
    assert one["optimality_gap"] == pytest.approx(1 - 2.7 / 6)
    assert two["optimality_gap"] == pytest.approx((0.5 + 0.5 + 0 + 1) / 4), "above 1 does not count"
    assert two["iqm"] == pytest.approx(0.5)
    # On CartPole 2 of 3 of dqn are below 250, on Breakout 59.3 beats three, and 1.7 ties one.
    assert two["improvement"] == pytest.approx((4 / 6 + 3.5 / 6) / 2)
    assert one["iqm_low"] <= one["iqm"] <= one["iqm_high"]
    over = shown(tmp_path, capsys, "--baseline", "pqn")["aggregates"]["rows"][0]
    assert over["improvement"] == pytest.approx(1 - two["improvement"])
    text = " ".join(told["notes"])
    for words in (
        "2 or 3 seeds per algorithm", "last 100 training games at the same step", "Wang et al. 2016", "(0 to 500)",
        "2,000 draws, seed 0", "time_limit 500", "sticky 0",
    ):  # fmt: skip
        assert words in text


def test_one_environment_is_aggregated_when_asked(tmp_path, capsys):
    runs(tmp_path, {"dqn": {C: [100.0, 200.0]}})
    assert shown(tmp_path, capsys)["aggregates"] is None
    assert shown(tmp_path, capsys, "--aggregate")["aggregates"]["rows"][0]["iqm"] == pytest.approx(0.3)
    assert main(["compare", "--dir", str(tmp_path), "--aggregate"]) == 0
    assert "IQM" in capsys.readouterr().out


def test_what_is_not_on_all_environments_is_left_out_and_named(tmp_path, capsys):
    more = {"c51": {C: [1.0]}, "a2c": {C: [1.0, None], B: [None, 1.0]}, "ppo": {C: [5.0, 6.0], B: [7.0]}}
    runs(tmp_path, TWO | more)
    told = shown(tmp_path, capsys)["aggregates"]
    assert [row["algorithm"] for row in told["rows"]] == ["dqn", "pqn", "ppo"]
    assert told["seeds"]["ppo"] == [1]
    assert told["rows"][2]["iqm_low"] is None
    assert "c51 is not among the aggregates: it has no scores on breakout." in told["notes"]
    assert "a2c is not among the aggregates: no seed has scores on all environments." in told["notes"]
    assert "ppo: without seed 2, not on all environments." in told["notes"]


def test_an_environment_without_a_scale_is_named(tmp_path, capsys, monkeypatch):
    runs(tmp_path, TWO)
    monkeypatch.setattr(summary.family("atari").__class__, "reference_scores", lambda *_: (None, None))
    told = shown(tmp_path, capsys)
    assert told["aggregates"] is None
    assert "breakout has neither reference scores" in told["no_aggregates"]
    assert main(["compare", "--dir", str(tmp_path), "--aggregate"]) == 2
    assert "breakout has neither" in capsys.readouterr().err
    assert main(["compare", "--dir", str(tmp_path), "--table", "md"]) == 0
    assert "breakout has neither" in capsys.readouterr().out


def test_another_mode_of_a_game_has_no_scale(tmp_path, capsys):
    runs(tmp_path, TWO)
    path = tmp_path / B / "pqn" / "1" / "run.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"protocol": info["protocol"] | {"mode": 4}}))
    told = shown(tmp_path, capsys)
    assert "runs of breakout play another mode" in told["no_aggregates"]


def test_a_score_outside_the_possible_ones_is_not_normalised(tmp_path):
    runs(tmp_path, {"dqn": {C: [100.0, 700.0]}})
    with pytest.raises(UsageError, match=r"dqn has a score on CartPole-v1 outside the possible 0 to 500"):
        playfield.aggregate(tmp_path)


def test_from_python(tmp_path, capsys):
    runs(tmp_path, TWO)
    found = playfield.aggregate(tmp_path, baseline="pqn")
    told = shown(tmp_path, capsys, "--baseline", "pqn")["aggregates"]
    assert found.rows() == told["rows"], "the same numbers, with the same seed"
    assert found.tasks == (C, B)
    same = playfield.aggregate(found.scores, list(found.tasks), baseline="pqn")
    assert same.rows() == found.rows()
    assert playfield.aggregate({"a": np.eye(4)}).statistics["a"]["iqm"].value == iqm(np.eye(4))
    with pytest.raises(UsageError, match="no directory"):
        playfield.aggregate(tmp_path / "none")


# Formats ---------------------------------------------------------------------------------------------------------


def table(root, capsys, kind, *words):
    assert main(["compare", "--dir", str(root), "--table", kind, *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


ENDS = ("", "_low", "_high")


@pytest.fixture
def hard(tmp_path, monkeypatch):
    """Two labels, one of them with every character that a format could take for its own."""
    runs(tmp_path, {HARD: TWO["dqn"], "pqn": TWO["pqn"]})
    return tmp_path


def test_csv_is_one_table(hard, capsys):
    lines = list(csv.reader(io.StringIO(table(hard, capsys, "csv"))))
    assert tuple(lines[0]) == tables.CSV_COLUMNS
    assert {len(line) for line in lines} == {len(tables.CSV_COLUMNS)}
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert len(rows) == 4 + 2 * (4 + 1)
    assert {row["algorithm"] for row in rows} == {HARD, "pqn"}
    told = shown(hard, capsys)
    by_env = [float(row["value"]) for row in rows if row["table"] == "environment"]
    assert by_env == [row["mean"] for row in told["rows"]]
    for row in rows:
        if row["statistic"] == "IQM":
            (same,) = [r for r in told["aggregates"]["rows"] if r["algorithm"] == row["algorithm"]]
            assert [float(row[k]) for k in ("value", "low", "high")] == [
                same[f"iqm{e}"] for e in ("", "_low", "_high")
            ]
        if row["versus"]:
            (pair,) = [p for p in told["aggregates"]["improvement"] if p["x"] == row["algorithm"]]
            assert (float(row["value"]), row["versus"]) == (pair["value"], pair["y"])
        assert "last 100 training games" in row["note"]
        assert "time_limit 500" in row["note"]


def test_latex_is_well_formed(hard, capsys):
    text = table(hard, capsys, "latex")
    assert text.isascii()
    plain = re.sub(r"\\[{}&%$#_]", "", text)  # escaped
    assert plain.count("{") == plain.count("}")
    assert not set('~^<>|"#%_') & set(re.sub(r"\\\w+", "", plain))
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 2
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.S):
        rows = [line for line in body.splitlines() if line.strip().startswith(("dqn", "pqn", "Cart", "break", "env"))]
        assert rows
        for row in rows:
            assert row.endswith(r" \\")
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
    assert "dqn -{}-x a\\textbar{}b\\_c\\&50\\%" in text, "two hyphens are no dash"
    assert plain.count("$") % 2 == 0


def test_markdown_is_well_formed(hard, capsys):
    text = table(hard, capsys, "md")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    counts = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    assert counts == [7] * 6 + [8] * 4
    assert r"a\|b\_c&50%" in text
    assert "Normalised score:" in text


def test_numbers_below_zero_have_a_minus_in_latex():
    assert tables.latex_escaped("-12.5 to -3 on Acrobot-v1, 1e-4, --lr") == (
        r"$-$12.5 to $-$3 on Acrobot-v1, 1e-4, -{}-lr"
    )


# Which score -----------------------------------------------------------------------------------------------------


def evaluations(root, env, label, seed, rows):
    folder = root / env / label / str(seed) / "eval"
    folder.mkdir()
    lines = [f"{step},{mean},{mean},{mean},{mean},5" for step, mean in rows]
    (folder / "evaluations.csv").write_text("\n".join(["step,mean,median,min,max,games", *lines, ""]))


PAGE = Path(__file__).parent.parent / "docs" / "howto" / "statistics.md"
COMMANDS = re.findall(r"^playfield (compare .*)$", PAGE.read_text("utf-8"), re.M)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs as the page speaks of them; one was trained, so that it has a best checkpoint."""
    folder = tmp_path_factory.mktemp("page")
    labels = ["ppo", "pqn", "dqn --no-double"]
    root = folder / "runs" / "compare"
    runs(root, {label: {C: [100.0, 150.0], A: [-90.0, -200.0]} for label in labels}, eval_games=5)
    for run in root.glob("*/*/*/run.json"):
        evaluations(
            root, run.parts[-4], run.parts[-3], run.parts[-2], [(100, 120.0 if run.parts[-4] == C else -80.0)]
        )
    run = folder / "one" / "runs" / "compare" / C / "pqn" / "1"
    playfield.train(C, "pqn", steps=2048, seed=3, run=run, games=0, quiet=True, film=False, tensorboard=False)
    return folder


def test_the_evaluation_that_is_shown_is_the_nearest_and_not_the_best(tmp_path, capsys):
    runs(tmp_path, {"dqn": {C: [100.0, 200.0]}}, eval_games=5)
    evaluations(tmp_path, C, "dqn", 1, [(50, 400.0), (96, 30.0), (112, 90.0)])
    evaluations(tmp_path, C, "dqn", 2, [(50, 400.0), (102, 50.0)])
    told = shown(tmp_path, capsys, "--score", "eval", "--aggregate")
    assert told["rows"][0]["scores"] == [30.0, 50.0]
    assert told["aggregates"]["rows"][0]["iqm"] == pytest.approx(0.08)
    assert "5 evaluation games" in told["score"]["note"]
    assert "step 96 to 102" in told["score"]["note"]
    assert "evaluation games" in table(tmp_path, capsys, "md", "--score", "eval")


def test_a_run_without_that_score_is_named(tmp_path, capsys):
    runs(tmp_path, {"dqn": {C: [100.0, 200.0]}})
    evaluations(tmp_path, C, "dqn", 1, [(50, 400.0)])
    assert main(["compare", "--dir", str(tmp_path), "--score", "eval"]) == 2
    assert f"{tmp_path / C / 'dqn' / '2'} has no evaluation" in capsys.readouterr().err
    assert main(["compare", "--dir", str(tmp_path), "--score", "best"]) == 2
    assert "dqn/1 and 1 more have no best checkpoint" in capsys.readouterr().err


def test_a_best_checkpoint_plays_fresh_games_once(trained, tmp_path, capsys, monkeypatch):
    shutil.copytree(trained / "one" / "runs" / "compare", tmp_path, dirs_exist_ok=True)
    run = tmp_path / C / "pqn" / "1"
    told = shown(tmp_path, capsys, "--score", "best", "--games", "4")
    best = json.loads((run / "checkpoints" / "best" / "best.json").read_text())
    policy = playfield.load_policy(run, which="best")
    fresh = playfield.evaluate(policy, 4, seed=3 + chosen.FRESH)
    assert told["rows"][0]["scores"] == [fresh.scores.mean()]
    assert told["rows"][0]["scores"] != [best["score"]], "the training score that it was chosen by"
    assert "4 fresh games of the best checkpoint, which was chosen by its training score" in told["score"]["note"]
    assert "not those of the training" in told["score"]["note"]
    assert chosen.FRESH > 0

    def no_more(*_, **__):
        raise AssertionError("the games are kept")

    monkeypatch.setattr(chosen, "evaluate_and_save", no_more)
    assert shown(tmp_path, capsys, "--score", "best", "--games", "4")["rows"] == told["rows"]
    (kept,) = (run / "eval").glob("best-*.json")
    kept.write_text(kept.read_text().replace(f"step {best['step']:,}", "step 7"))
    with pytest.raises(AssertionError, match="the games are kept"):
        main(["compare", "--dir", str(tmp_path), "--score", "best", "--games", "4"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json", "--table", "md"], "two outputs"),
        (["--games", "3"], "--games is for --score best"),
        (["--table", "html"], "--table"),
        (["--score", "max"], "--score"),
        (["--baseline", "dqnn"], "did you mean dqn"),
    ],
)
def test_mistakes(words, message, tmp_path, capsys):
    runs(tmp_path, TWO)
    assert main(["compare", "--dir", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "compare.png").exists()


# Curves and pictures ---------------------------------------------------------------------------------------------


def test_curves_by_hand(tmp_path):
    """Games at 40 and 100 steps, at 500 steps per second; one game in the mean."""
    for seed, (first, last) in enumerate([(100.0, 200.0), (300.0, 400.0)], 1):
        write_run(tmp_path / C / "dqn" / str(seed), C, "dqn", seed, [(40, first), (100, last)], 100)
    curves = compare.read(tmp_path, 1).curves
    found = summary.summarise(curves, chosen.choose(curves, "final", 1))
    (steps,), (time,) = summary.curves_of(found), summary.curves_of(found, "seconds")
    assert (steps.at[0], steps.at[-1]) == (40, 100)
    assert (steps.value[0], steps.value[-1]) == (pytest.approx(0.4), pytest.approx(0.6))
    assert (time.at[0], time.at[-1]) == pytest.approx((0.08, 0.2))
    assert (time.value == steps.value).all()
    assert (steps.low[0], steps.high[0]) == pytest.approx((0.2, 0.6))


def test_a_run_that_diverged_does_not_cut_the_curve_of_time(tmp_path):
    write_run(tmp_path / C / "dqn" / "1", C, "dqn", 1, [(40, 100.0), (1000, 200.0)], 1000)
    why = {"diverged": {"step": 60, "why": "x"}, "result": None, "reached": 60}
    write_run(tmp_path / C / "dqn" / "2", C, "dqn", 2, [(40, 10.0), (50, 10.0)], 1000, **why)
    curves = compare.read(tmp_path, 1).curves
    found = summary.summarise(curves, chosen.choose(curves, "final", 1))
    (time,) = summary.curves_of(found, "seconds")
    assert time.at[-1] == pytest.approx(2.0)
    assert time.value[-1] == pytest.approx((200 + 10) / 2 / 500)


KINDS = ["intervals", "profiles", "steps", "time", "improvement", "scores"]


def test_the_pictures(tmp_path, capsys):
    """One algorithm is left out of the aggregates: the others keep their colours."""
    labels = ["c51", "dqn", "pqn --x $_{"]
    for env, level in ((C, 200), (B, 9)):
        for place, label in enumerate(labels):
            if (env, label) != (B, "c51"):
                write_label(tmp_path, env, label, place, 3, 5000, level)
    assert drawn.label_places(compare.read(tmp_path).curves) == {label: i for i, label in enumerate(labels)}
    found = []
    for _ in range(2):
        told = shown(tmp_path, capsys, "--pictures", "--out", str(tmp_path / "p.svg"))
        assert told["pictures"] == [str(tmp_path / f"p-{kind}.svg") for kind in KINDS]
        found.append({kind: (tmp_path / f"p-{kind}.svg").read_text() for kind in KINDS})
    assert found[0] == found[1], "the same runs give the same bytes"
    for kind, text in found[0].items():
        caption = " ".join(re.sub(r"<[^>]*>", " ", text).split())
        for words in ("2 environments, 3 seeds per algorithm", "time_limit 500", "sticky 0", "Normalised score"):
            assert words in caption, kind
        assert "c51 is not among the aggregates" in caption
        assert ("bootstrap percentile" in caption) == (kind != "scores")
        colors = [color.lower() in text.lower() for color in plots.CYCLE[:3]]
        assert colors == [False, True, True], f"{kind}: the colours of the algorithms"


def test_one_algorithm_with_one_seed_has_pictures(tmp_path, capsys):
    runs(tmp_path, {"dqn": {C: [100.0]}})
    told = shown(tmp_path, capsys, "--pictures")
    assert [path.rpartition("compare-")[2] for path in told["pictures"]] == [
        f"{kind}.png" for kind in KINDS if kind != "improvement"
    ]


@pytest.mark.parametrize("command", [c for c in COMMANDS if "--algo" not in c])
def test_a_command_of_the_page_runs(command, trained, monkeypatch, capsys):
    words = shlex.split(command)
    best = "best" in words
    monkeypatch.chdir(trained / "one" if best else trained)
    assert main(["4" if best and word == "100" else word for word in words]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert ("4 fresh games" if best else "Normalised score: ") in out


def test_the_page_has_these_commands_and_explains_every_picture():
    text = PAGE.read_text("utf-8")
    assert len(COMMANDS) == 9
    assert all(f"`paper-{kind}.pdf`" in text for kind in KINDS)


@pytest.mark.parametrize(("seeds", "said"), [(2, True), (4, True), (5, False)])
def test_few_seeds_are_said_to_make_intervals_too_narrow(seeds, said, tmp_path):
    for place, label in enumerate(("dqn", "pqn")):
        write_label(tmp_path, "CartPole-v1", label, place, seeds, 2000, 100 + 50 * place)
    curves = compare.read(tmp_path).curves
    notes = summary.summarise(curves, chosen.choose(curves, "final", 100)).notes
    assert any("too narrow: use 5 or more" in note for note in notes) == said
