"""Which runs a comparison pools: those that differ in nothing but the seed, one for each seed; all else is told."""

from __future__ import annotations

import copy
import json

import pytest

import playfield
from compare_runs import write_run
from playfield.cli import main
from playfield.experiments import compare, drawn, replicates
from playfield.show import compare_plot
from playfield.training.plan import info_for
from playfield.training.prepare import prepare
from playfield.training.request import Request

C = "CartPole-v1"
GAMES = [(10, 1.0), (50, 3.0), (80, 5.0)]


def info_of(env=C, **asked):
    """What the `run.json` of such a training holds."""
    ready = prepare(Request(env=env, **asked))
    return json.loads(
        json.dumps(info_for(ready.request, ready.cfg, ready.spec, ready.compute, asked.get("steps", 100)))
    )


@pytest.fixture(scope="module")
def plain():
    return info_of(algo="pqn")


def put(root, name, info, seed, games=GAMES, **more):
    env, algo = info["env"], info["algo"]
    own = {k: v for k, v in info.items() if k not in ("env", "algo", "seed", "steps", "fingerprint")}
    steps = more.pop("steps", info["steps"])
    return write_run(root / env / name, env, algo, seed, games, steps, **{**own, **more})


def changed(info, **parts):
    """The info with `option__lr=0.1` in its part `option`, and so on."""
    made = copy.deepcopy(info)
    for key, value in parts.items():
        *path, name = key.split("__")
        place = made
        for step in path:
            place = place.setdefault(step, {})
        place[name] = value
    return made


def test_runs_with_the_same_seed_are_one_and_other_options_another_line(plain, tmp_path, capsys):
    """Five times seed 1 with two learning rates was one line of "5 seeds", with an interval."""
    for i in range(3):
        put(tmp_path, f"pqn/{i}", plain, 1)
    slow = changed(plain, config__lr=0.1)
    put(tmp_path, "pqn/3", slow, 1)
    put(tmp_path, "elsewhere/1", slow, 2)
    assert main(["compare", "--dir", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(r["label"], r["seeds"]) for r in told["rows"]] == [("pqn", [1]), ("pqn, lr 0.1", [1, 2])]
    assert told["rows"][0]["low"] is None, "no interval over one seed"
    first = tmp_path / C / "pqn" / "0"
    assert told["left_out"] == [
        {"run": str(tmp_path / C / "pqn" / n), "why": f"the same settings and seed as {first}"} for n in "12"
    ]
    assert main(["compare", "--dir", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "Left out: 2 runs with the settings and the seed of another." in text
    assert f"{tmp_path / C / 'pqn' / '2'}: the same settings and seed as {first}" in text.replace("\n", "")


def test_the_picture_says_what_was_left_out(plain, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(drawn, "comparison", lambda out, panels, **texts: given.update(texts, panels=panels))
    put(tmp_path, "pqn/1", plain, 1)
    put(tmp_path, "pqn/2", plain, 1)
    put(tmp_path, "pqn/3", plain, 2, games=[])
    drawn.plot(compare.read(tmp_path), tmp_path / "a.png")
    foot = given["foot"].splitlines()
    assert foot[0].startswith("Line: mean over 1 seed ")
    told = "Left out: 1 run without a finished game; 1 run with the settings and the seed of another."
    assert foot[-1] == told
    assert [(line.label, line.scores.shape[0]) for line in given["panels"][0].lines] == [("pqn", 1)]
    compare_plot.comparison(tmp_path / "a.png", given["panels"], foot=given["foot"])


def test_of_runs_with_one_seed_the_finished_and_longest_one_counts(plain, tmp_path):
    put(tmp_path, "a/1", plain, 1, games=GAMES[:1], result=None, reached=20)
    put(tmp_path, "a/2", plain, 1, games=GAMES[:2], result=None, reached=60)
    put(tmp_path, "a/3", plain, 2, games=GAMES[:2], result=None, reached=60)
    put(tmp_path, "a/4", plain, 2)
    found = compare.read(tmp_path)
    assert [c.directory.name for c in found.curves] == ["2", "4"]
    assert sorted(x.directory.name for x in found.left_out) == ["1", "3"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config__gamma": 0.9}, "gamma 0.9"),
        ({"config__optimizer": "rmsprop"}, "optimizer rmsprop"),
        ({"config__anneal": False}, "anneal false"),
        ({"protocol__time_limit": 200, "spec__protocol__time_limit": 200}, "time-limit 200"),
        ({"spec__obs_dtype": "uint8"}, "obs-dtype uint8"),
        ({"steps": 2000}, "steps 2,000"),
        ({"extensions": [{"at": 60, "from": 80, "to": 100}]}, "extended at 60 to 100"),
        ({"compute__precision": "bf16"}, "precision bf16"),
        ({"playfield": "9.9"}, "playfield 9.9"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_defines_results_makes_another_line_and_is_named(plain, tmp_path, change, words):
    put(tmp_path, "pqn/1", plain, 1)
    other = changed(plain, **change)
    put(tmp_path, "pqn/2", other, 2)
    curves = compare.read(tmp_path).curves
    assert len({c.label for c in curves}) == 2
    (label,) = (c.label for c in curves if c.seed == 2)
    assert label == f"pqn, {words}"


def test_a_run_that_began_from_other_weights_is_no_replicate(plain, tmp_path):
    """The weights count, not the name of the run that they were copied from."""

    def begun(run, digit):
        record = {"run": run, "step": 64, "hash": digit * 64, "env": C, "algo": "pqn", "seed": 1}
        return changed(plain, init_from=record)

    assert replicates.same(begun("a", "1")) == replicates.same(begun("b", "1"))
    assert len({replicates.same(info) for info in (plain, begun("a", "1"), begun("a", "2"))}) == 3
    for seed, info in enumerate((plain, begun("a", "1"), begun("b", "1"), begun("a", "2")), 1):
        put(tmp_path, f"pqn/{seed}", info, seed)
    found = [(c.seed, c.label) for c in compare.read(tmp_path).curves]
    one, two = (f"pqn, init-from {digit * 16}" for digit in "12")
    assert sorted(found) == [(1, "pqn, init-from none"), (2, one), (3, one), (4, two)]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"compute__workers": 2},
        {"versions__torch": "9"},
        {"versions__gymnasium": "9"},  # CartPole is playfield's own
        {"spec__action_names": ["a", "b"]},
        {"preset": "none"},
        {"extensions": [{"at": 60, "what": "target", "from": None, "to": {"score": 9, "games": 9}}]},
        {"save_seconds": 1.0},
    ],
    ids=str,
)
def test_what_does_not_define_results_makes_no_other_line(plain, tmp_path, change):
    put(tmp_path, "pqn/1", plain, 1)
    put(tmp_path, "pqn/2", changed(plain, **change), 2)
    assert {c.label for c in compare.read(tmp_path).curves} == {"pqn"}


def test_the_version_of_gymnasium_counts_for_its_environments_and_of_ale_for_atari():
    info = info_of("Taxi-v4", algo="random")
    assert replicates.same(info) != replicates.same(changed(info, versions__gymnasium="9"))
    atari = info_of("breakout", algo="random")
    assert replicates.same(atari) != replicates.same(changed(atari, protocol__ale_py="9"))
    sticky = info_of("breakout", algo="random", parts={"sticky": 0.25})
    assert replicates.labels([(None, atari), (None, sticky)]) == ["random, sticky 0", "random, sticky 0.25"]


def test_labels_name_options_presets_and_what_makes_the_difference(plain):
    def names(*infos):
        return replicates.labels([(None, info) for info in infos])

    assert names(plain) == ["pqn"]
    assert names(changed(plain, config__lr=0.1)) == ["pqn, lr 0.1"], "also where it is alone"
    nature = info_of("breakout", algo="dqn", preset="nature", config={"lr": 1e-3})
    assert names(nature) == ["dqn, preset nature, lr 0.001"]
    sarsa = info_of(algo="sarsa")
    assert names(sarsa) == ["sarsa"], "its step size was left open by its preset"
    assert names(sarsa, changed(sarsa, config__alpha=0.5))[1] == "sarsa, alpha 0.5"
    given = changed(sarsa, config__alpha=0.5, command="playfield train CartPole-v1 --algo sarsa --alpha 0.5")
    assert names(given) == ["sarsa, alpha 0.5"]
    many = {f"config__{name}": 3 for name in ("num_envs", "rollout_steps", "epochs", "minibatches", "gamma", "lr")}
    one, two = changed(plain, **many), changed(plain, **{**many, "config__q_lambda": 0.5})
    first, second = names(one, two)
    assert second.startswith("pqn, q-lambda 0.5, "), "the difference comes first"
    assert second.endswith(", 3 more")
    assert first != second
    acrobot = info_of("Acrobot-v1", algo="pqn", config={"lr": 0.1})
    assert names(plain, acrobot) == ["pqn", "pqn, lr 0.1"], "by the presets of each environment"
    assert replicates.labels([("mine", plain), ("mine", changed(plain, playfield="9"))]) == [
        f"mine, playfield {plain['playfield']}",
        "mine, playfield 9",
    ]


def test_labels_of_a_comparison_stay_and_split_where_versions_differ(plain, tmp_path):
    put(tmp_path, "dqn/1", plain, 1)
    put(tmp_path, "dqn/2", changed(plain, playfield="9"), 2)
    put(tmp_path, "other/1", changed(plain, config__lr=0.1), 1)
    put(tmp_path, "loose/1", changed(plain, config__lr=0.1), 2)
    for place, (name, label) in enumerate([("dqn", "pqn"), ("other", "pqn --lr 0.1")]):
        told = {"label": label, "place": place, "words": []}
        (tmp_path / C / name / "compare.json").write_text(json.dumps(told))
    found = compare.read(tmp_path)
    assert [(c.label, c.seed) for c in found.curves] == [
        (f"pqn, playfield {plain['playfield']}", 1),
        ("pqn, playfield 9", 2),
        ("pqn --lr 0.1", 1),
        ("pqn --lr 0.1", 2),
    ]
    chosen = compare.choose(found, [], ["pqn"])
    assert [c.seed for c in chosen.curves] == [1, 2], "both groups trained under that label"


def test_two_labels_for_the_same_settings_are_told(plain, tmp_path):
    for place, (name, label) in enumerate([("a", "pqn"), ("b", "pqn --lr 0.002")]):
        put(tmp_path, f"{name}/1", plain, 1)
        told = {"label": label, "place": place, "words": []}
        (tmp_path / C / name / "compare.json").write_text(json.dumps(told))
    found = compare.read(tmp_path)
    assert found.left_out == ()
    assert found.notes == ["On CartPole-v1, pqn and pqn --lr 0.002 have the same settings."]
    assert compare.choose(found, [C], ["pqn"]).notes == []


def test_a_real_run_is_known_and_one_edited_by_hand_is_left_out(tmp_path):
    for seed in (1, 2):
        playfield.train(
            C, "random", steps=400, seed=seed, run=tmp_path / C / "random" / str(seed), games=0, console=False
        )
    found = compare.read(tmp_path)
    assert [(c.label, c.seed) for c in found.curves] == [("random", 1), ("random", 2)]
    path = found.curves[1].directory / "run.json"
    info = json.loads(path.read_text())
    info["seed"] = 3
    path.write_text(json.dumps(info))
    (left,) = compare.read(tmp_path).left_out
    assert left.directory == path.parent
    assert "changed by hand" in left.why
