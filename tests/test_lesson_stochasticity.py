"""The lesson on randomness: how alike games are, by an independent count; its verdicts by hand; all of it once."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from playfield import lessons
from playfield.cli import main
from playfield.envs import make_envs
from playfield.lessons import _alike, _deep
from playfield.lessons import stochasticity as lesson
from playfield.lessons._deep import Setting, Trained
from playfield.play.policy import RandomPolicy
from playfield.runs.info import read_info


def naive_prefix(a: list[int], b: list[int]) -> int:
    count = 0
    while count < len(a) and count < len(b) and a[count] == b[count]:
        count += 1
    return count


def test_how_alike_games_are_against_a_plain_loop():
    rng = np.random.default_rng(3)
    games = [rng.integers(2, size=rng.integers(3, 12)) for _ in range(7)]
    games += [games[0].copy(), games[1][:2]]  # one again, and one that is the beginning of another
    found, shares = [], {k: [] for k in (1, 2, 3, 5, 12)}
    for i in range(len(games)):
        for j in range(i):
            same = naive_prefix(games[i].tolist(), games[j].tolist())
            found.append(same / max(len(games[i]), len(games[j])))
            for k, equal in shares.items():
                equal.append(
                    games[i][:k].tolist() == games[j][:k].tolist() and min(len(games[i]), len(games[j])) >= k
                )
    assert _alike.alike(games) == pytest.approx(np.mean(found))
    expected = [np.mean(equal) for equal in shares.values()]
    np.testing.assert_allclose(_alike.equal_share(games, np.array([*shares])), expected)


def test_the_same_games_are_alike_and_games_that_differ_at_once_are_not():
    game = np.array([1, 2, 3, 0])
    assert _alike.alike([game] * 9) == 1.0
    assert _alike.alike([np.array([k, 1, 1]) for k in range(9)]) == 0.0
    assert _alike.alike([game, game[:2]]) == 0.5  # the longer one counts


class Always:
    """Fires, then goes right: one sequence by heart."""

    temperature, label = 1.0, "always"

    def __init__(self, spec) -> None:
        self.spec = spec

    def choose(self, obs, uniform=None):
        return np.full(len(obs), 2)

    act = choose


@pytest.fixture(scope="module")
def spec():
    env = make_envs("breakout", 1, protocol="v5")
    made = env.spec
    env.close()
    return made


def test_nothing_is_random_but_the_agent_and_its_first_steps(spec):
    """An agent that does the same always plays nine equal games, whatever the seed; random first steps end that."""
    games = _alike.play(Always(spec), 9, cap=200, seed=5).games
    assert len({(game.score, game.length) for game in games}) == 1
    assert _alike.alike([game.actions for game in games]) == 1.0
    after = _alike.play(Always(spec), 9, cap=200, random_steps=20).games
    assert all((game.actions[20:] == 2).all() for game in after)
    assert len({tuple(game.actions[:20].tolist()) for game in after}) == 9
    fewer = _alike.play(Always(spec), 9, cap=200, random_steps=5).games  # the same random numbers
    assert [g.actions[:5].tolist() for g in fewer] == [g.actions[:5].tolist() for g in after]


def test_the_film_is_of_that_game(spec):
    """Its spec has no no-ops, sticky actions or random skip, and the cap."""
    protocol = _alike.deterministic(RandomPolicy(spec), 1200).spec.protocol
    assert (protocol["noop"], protocol["sticky"], protocol["skip"], protocol["cap"]) == (0, 0.0, 4, 1200)
    assert "skip_min" not in protocol


PUBLISHED_KEPT = (225 / 268, 175 / 268, 45 / 355, 40 / 355, 203 / 158, 222 / 158)


def trained(runs: int, steps: int = 300_000) -> list[Trained]:
    setting = [Setting(name, {}) for name in lesson.PROTOCOLS]
    return [Trained(one, [Path("r")] * runs, [_curve()] * runs) for one in setting]


def _curve():
    class Curve:
        seconds = 10.0

    return Curve()


def scores(means: list[list[float]], runs: int = 3, cut: list[list[int]] | None = None) -> lesson.Scores:
    """Scores with these means, spread a little over runs and three games each, of which so many were cut off."""
    spread = 1 + 0.02 * (np.arange(runs) - (runs - 1) / 2)[:, None] + np.array([-0.01, 0.0, 0.01])
    raw = np.array(means, float)[:, :, None, None] * spread
    ended_late = np.zeros((3, 3)) if cut is None else np.array(cut, float)
    return lesson.Scores(raw, np.repeat(ended_late[:, :, None], runs, axis=2))


def test_the_published_matrix_passes_all_claims_and_one_of_robust_agents_none():
    rows = lesson.kept_rows(scores(lesson.PUBLISHED.tolist()), True)
    shares = [row for row in rows if row.measure.startswith("share") and "less" not in row.setting]
    assert [row.published for row in shares] == pytest.approx(PUBLISHED_KEPT)
    assert [row.ours for row in shares] == pytest.approx(PUBLISHED_KEPT)
    assert [row.verdict for row in rows] == ["-", "-", "pass", "-", "-", "-", "pass", "pass"]
    assert rows[2].measure == "share of its score kept on v4"
    assert (rows[6].published, rows[6].ours) == pytest.approx((203 / 158 - 45 / 355,) * 2)
    even = lesson.kept_rows(scores([[50, 50, 50]] * 3), True)
    assert [row.verdict for row in even] == ["-", "-", "differs", "-", "-", "-", "differs", "differs"]
    assert {row.verdict for row in lesson.kept_rows(scores(lesson.PUBLISHED.tolist()), False)} == {"-"}
    one = lesson.kept_rows(scores(lesson.PUBLISHED.tolist(), runs=1), True)
    assert {row.verdict for row in one} == {"-", "too few runs"}


def test_an_agent_that_only_never_presses_fire_has_not_lost_its_score():
    """It keeps 90 % of it on v4, where FIRE is pressed for it, and waits on v5."""
    waits = [[268, 225, 175], [320, 355, 30], [203, 222, 158]]
    rows = lesson.kept_rows(scores(waits), True)
    assert (rows[2].ours, rows[2].verdict) == (pytest.approx(320 / 355), "differs")


def test_agents_that_score_nothing_have_no_share():
    rows = lesson.kept_rows(scores([[0, 0, 0]] * 3), True)
    assert [row.verdict for row in rows] == ["-"] * 7 + ["differs"]
    assert rows[2].plain()["ours"] is None


def test_the_nine_scores_stand_beside_those_of_the_how_to_without_a_verdict():
    """Its hyper-parameters were others, whatever the steps."""
    rows = lesson.matrix_rows(trained(3), scores(lesson.PUBLISHED.tolist()))
    assert {row.verdict for row in rows} == {"-"}
    assert [row.published for row in rows] == lesson.PUBLISHED.flatten().tolist()
    assert [row.ours for row in rows] == pytest.approx(lesson.PUBLISHED.flatten().tolist())
    single = lesson.matrix_rows(trained(1), scores(lesson.PUBLISHED.tolist(), 1))
    assert single[0].low < 268 < single[0].high  # of its games


STALLS = [[0, 0, 0], [0, 0, 2], [0, 0, 1]]  # two of three games of an agent of `classic` on v5


def test_what_most_stalled_games_say_is_not_judged():
    there = lesson.PUBLISHED.tolist()
    rows = lesson.kept_rows(scores(there, cut=STALLS), True)  # on v5, of which nothing is judged
    assert [rows[k].verdict for k in (2, 6, 7)] == ["pass", "pass", "pass"]
    rows = lesson.kept_rows(scores(there, cut=[[0, 0, 3], [2, 0, 2], [0, 0, 0]]), True)
    assert [rows[k].verdict for k in (2, 6, 7)] == ["-", "-", "pass"]
    rows = lesson.kept_rows(scores(there, cut=[[0, 0, 0], [0, 0, 0], [0, 0, 2]]), True)
    assert [rows[k].verdict for k in (2, 6, 7)] == ["pass", "-", "-"]
    rows = lesson.cut_rows(scores(there, cut=STALLS))
    assert [row.ours for row in rows] == np.array(STALLS).flatten().tolist()
    assert (rows[5].setting, rows[5].measure) == ("trained on classic", "of 3 games on v5, cut off")


def memory(alike: float, left: list[float]) -> lesson.Memory:
    spread = np.array([0.98, 1.0, 1.02])
    return lesson.Memory(alike * spread, 40 * spread[:, None] * np.array(left)[None] ** spread[:, None], [])


def test_memorising_is_judged_by_likeness_and_by_what_random_steps_leave():
    by_heart, robust = memory(0.9, [1, 0.3, 0.1, 0.05]), memory(0.02, [1, 1, 0.95, 0.9])
    rows = lesson.memory_rows([robust, by_heart, robust], True)
    assert [row.verdict for row in rows[-2:]] == ["pass", "pass"]
    assert rows[-1].ours == pytest.approx(robust.left[:, 2].mean() - by_heart.left[:, 2].mean())
    assert by_heart.left[1].tolist() == pytest.approx([1, 0.3, 0.1, 0.05])
    rows = lesson.memory_rows([by_heart, robust, by_heart], True)
    assert [row.verdict for row in rows[-2:]] == ["differs", "differs"]
    by_seed = {row.measure: row.ours for row in rows if row.setting == "trained on classic"}
    assert by_seed["score after 100 random steps"] == pytest.approx(robust.scores[:, 3].mean())


@pytest.fixture
def quick(monkeypatch):
    """Few and short games."""
    for name, value in {"GAMES": 1, "ALIKE": 4, "CAP": 100, "FIRST": (0, 30), "FILM": 2}.items():
        monkeypatch.setattr(lesson, name, value)


def run_here(jobs, parallel, share, quiet):
    """The trainings in this process: to start three takes seconds (`test_lesson_ablations.py` starts them apart)."""
    assert quiet
    for job in jobs:
        if not job.done():
            with contextlib.redirect_stdout(io.StringIO()):
                assert main(job.command()) == 0
    return []


WORDS = ["lesson", "stochasticity", "--steps", "64", "--runs", "1", "--num-envs", "2", "--rollout-steps", "16"]


def test_it_trains_plays_and_films_and_again_plays_nothing_twice(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_deep.local, "run_jobs", run_here)
    played_apart, real = [], _alike.play

    def play(policy, games, cap, random_steps=0, seed=0):
        played_apart.append((games, random_steps, seed))
        return real(policy, games, cap, random_steps, seed)

    monkeypatch.setattr(_alike, "play", play)
    assert main([*WORDS, "--json", "--gif"]) == 0
    assert played_apart == [(4, steps, seed) for seed in (1, 1001, 2001) for steps in (0, 30)]
    told, err = capsys.readouterr()
    assert not err
    first = json.loads(told)
    assert {row["verdict"] for row in first["rows"]} <= {"-"}
    assert [row["published"] for row in first["rows"][:9]] == lesson.PUBLISHED.flatten().tolist()
    runs = sorted(Path("runs/lessons/stochasticity-64/breakout").glob("*/1"))
    infos = [read_info(run) for run in runs]
    assert [info["protocol"]["name"] for info in infos] == ["classic", "v4", "v5"]
    assert all(info["config"]["num_envs"] == 2 for info in infos)
    for run, info in zip(runs, infos, strict=True):
        played = {path.name for path in (run / "eval").iterdir()}
        others = set(lesson.PROTOCOLS) - {info["protocol"]["name"]}
        start = f"last-t1-seed{1000 * lesson.PROTOCOLS.index(info['protocol']['name']) + 1}-1"
        assert played == {f"{start}.json", *(f"{start}-{name}.json" for name in others)}
        told = {json.loads(path.read_text("utf-8"))["protocol"]["name"] for path in (run / "eval").iterdir()}
        assert told == set(lesson.PROTOCOLS), info["protocol"]["name"]
    with Image.open("lessons/stochasticity.gif") as film:
        assert film.n_frames <= 2
        assert film.size[0] > 2 * 300  # two games side by side
    monkeypatch.setattr(lesson, "evaluate_and_save", lambda *_, **__: pytest.fail("played again"))
    monkeypatch.setattr(_deep.grid, "save_labels", lambda *_: pytest.fail("trained again"))
    again = lessons.run("stochasticity", steps=64, runs=1, num_envs=2, rollout_steps=16)
    assert again.plain()["rows"] == first["rows"]
    assert again.data["alike"] == first["alike"]


def test_games_of_another_checkpoint_are_played_anew(quick, tmp_path, monkeypatch):
    """A run that was trained on since, or a damaged file, is not taken for what is asked."""
    asked = []

    def evaluate_and_save(run, which, games, seed, protocol):
        asked.append((seed, protocol))

        class Found:
            scores, cut = (7.0,), 1

        return Found()

    monkeypatch.setattr(lesson, "evaluate_and_save", evaluate_and_save)
    monkeypatch.setattr(lesson, "read_info", lambda run: {"result": {"steps": 64}})
    (tmp_path / "eval").mkdir()
    file = tmp_path / "eval" / "last-t1-seed1-1-v5.json"
    good = {"policy": "r, step 64, sampled", "protocol": {"name": "v5"}, "scores": [3.0], "cut": 0}
    for told, expected in (
        (good, (3.0, 0)),
        ({**good, "policy": "r, step 640, sampled"}, (7.0, 1)),
        ({**good, "policy": "r, step 32, sampled"}, (7.0, 1)),
        ({**good, "protocol": {"name": "classic"}}, (7.0, 1)),
        ({**good, "scores": [3.0, 4.0]}, (7.0, 1)),
        ({**good, "cut": 2}, (7.0, 1)),
        ({}, (7.0, 1)),
        ([], (7.0, 1)),
    ):
        file.write_text(json.dumps(told), "utf-8")
        found, cut = lesson.games_under(tmp_path, "v5", 1, 1)
        assert (*found.tolist(), cut) == expected, told
    file.write_text("{", "utf-8")
    assert lesson.games_under(tmp_path, "v5", 1, 1)[0].tolist() == [7.0]
    assert asked == [(1, "v5")] * 8


def test_an_agent_that_diverged_before_it_was_saved_is_left_out(quick, tmp_path, monkeypatch, capsys):
    """Of `classic`, whose agent would be filmed; the others are played, and nothing ends the lesson."""
    monkeypatch.chdir(tmp_path)

    def run_jobs(jobs, parallel, share, quiet):
        run_here(jobs, parallel, share, quiet)
        for job in jobs:
            if job.directory.parent.name.startswith("classic"):
                info = json.loads((job.directory / "run.json").read_text("utf-8"))
                del info["result"]
                info["diverged"] = {"step": 0, "why": "for a test"}
                (job.directory / "run.json").write_text(json.dumps(info), "utf-8")
                shutil.rmtree(job.directory / "checkpoints")
        return []

    monkeypatch.setattr(_deep.local, "run_jobs", run_jobs)
    assert main([*WORDS, "--json", "--gif"]) == 0
    told = json.loads(capsys.readouterr().out)
    ours = {(row["setting"], row["measure"]): row["ours"] for row in told["rows"]}
    assert {ours["trained on classic", f"score on {name}"] for name in lesson.PROTOCOLS} == {None}
    assert None not in {ours["trained on v5", f"score on {name}"] for name in lesson.PROTOCOLS}
    assert (told["alike"]["classic"], len(told["alike"]["v4"])) == ([None], 1)
    assert sum("classic: 1 of 1 diverged before an agent was saved" in note for note in told["notes"]) == 1
    assert not list(Path("lessons").glob("*.gif"))
    assert "film" not in told["files"]
