"""Experiments as TOML files: what they say, what is wrong with them, and the resolved file that repeats them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare_runs import write_run
from playfield.cli import main
from playfield.cli.train import understand
from playfield.errors import DataError, UsageError
from playfield.experiments import file, grid
from playfield.experiments.grid import Kind
from playfield.experiments.ready import Ready, meaning
from playfield.runs import catalog
from playfield.runs.toml_file import toml_value
from trained_here import trained_here  # noqa: F401 - a fixture

GRID = """
envs = ["CartPole-v1", "Acrobot-v1"]
seeds = [3, 7]
steps = {"CartPole-v1" = "1k", "Acrobot-v1" = 2000}
dir = "runs/classic"
jobs = 2

[options]
num_envs = 4

[evaluation]
games = 5
every = 500

[[algorithms]]
algo = "ppo"

[[algorithms]]
algo = "dqn --double"
label = "double DQN"
envs = ["CartPole-v1"]
learning-rate = 1e-3   # as Stable-Baselines3 calls it
dueling = true
seeds = 3
steps = 1500
games = 0
"""


def write(path, text):
    path.write_text(text)
    return path


def test_what_a_file_says(tmp_path):
    found = file.read(write(tmp_path / "grid.toml", GRID))
    assert (str(found.directory), found.jobs) == ("runs/classic", 2)
    shared = ("--num-envs=4", "--eval-every=500")
    ppo = ("--algo", "ppo", *shared)
    where = f"{tmp_path / 'grid.toml'}, line "
    assert found.kinds == (
        Kind("CartPole-v1", "ppo", ppo, (3, 7), 1000, None, 5, where + "16"),
        Kind("Acrobot-v1", "ppo", ppo, (3, 7), 2000, None, 5, where + "16"),
        Kind(
            "CartPole-v1",
            "double DQN",
            ("--algo", "dqn", *shared, "--double", "--lr=0.001", "--dueling=true"),
            (1, 2, 3),
            1500,
            None,
            0,
            where + "19",
        ),
    )


def test_a_list_of_labels_and_minutes(tmp_path):
    text = 'envs = "CartPole-v1"\nalgorithms = ["ppo", "dqn --double"]\nminutes = 2\n'
    one, two = file.read(write(tmp_path / "a.toml", text)).kinds
    assert (one.label, two.label, two.words) == ("ppo", "dqn --double", ("--algo", "dqn", "--double"))
    assert (one.steps, one.minutes, one.seeds) == (None, 2.0, grid.FIRST_SEEDS)


ONE = 'envs = ["CartPole-v1"]\nsteps = 1000\n'
MISTAKES = [
    ("sedes = 3\n" + ONE + 'algorithms = ["ppo"]', "line 1: no setting of an experiment called 'sedes'"),
    (ONE, "it names no algorithms"),
    (ONE + 'algorithms = ["pppo"]', "line 3: no algorithm called 'pppo': did you mean ppo"),
    (ONE + '[[algorithms]]\nalgo = "dqn"\nduble = true', "no option of dqn called 'duble': did you mean double"),
    (ONE + '[[algorithms]]\nalgo = "ppo"\nlr = 1\n[[algorithms]]\nalgo = "dqn"\nlr = "x"', "line 8: lr "),
    (ONE + '[[algorithms]]\nalgo = "ppo"\nclip = -1', "line 5"),
    (ONE + '[[algorithms]]\nalgo = "ppo"\nlr = [1, 2]', "line 5"),
    (ONE + '[[algorithms]]\nalgo = "ppo"\nseeds = 1.5', "line 5: seeds takes"),
    (ONE + '[[algorithms]]\nalgo = "ppo"\nseeds = [1, 1]', "seed 1 twice"),
    (ONE + '[[algorithms]]\nname = "ppo"', "needs a name"),
    (ONE + 'algorithms = ["ppo", "ppo"]', "is there twice"),
    (ONE + 'minutes = 3\nalgorithms = ["ppo"]', "not both"),
    ('envs = ["CartPole-v1"]\nalgorithms = ["ppo"]', "give steps"),
    ('envs = ["CartPol-v1"]\nsteps = 9\nalgorithms = ["ppo"]', "line 1: "),
    ('envs = ["CartPole-v1"]\nsteps = {Acrobot-v1 = 5}\nalgorithms = ["ppo"]', "steps says nothing of CartPole-v1"),
    ('envs = []\nsteps = 9\nalgorithms = ["ppo"]', "line 1: envs takes"),
    (ONE + 'dir = 5\nalgorithms = ["ppo"]', "line 3: dir takes"),
    (ONE + 'algorithms = ["ppo"]\n[evaluation]\ngmes = 3', "did you mean games"),
    (ONE + 'algorithms = ["ppo"]\n[options]\nnum_evs = 3', "did you mean num_envs"),
    (ONE + '[[algorithms]]\nalgo = "dqn"\nworkers_as = "processes"', "dqn trains with threads only"),
    (ONE + '[[algorithms]]\nalgo = "ppo"\nworkers_as = "process"', "line 5: no workers as called"),
    (ONE + 'algorithms = ["ppo --nodes 2"]', "each training of an experiment is on one machine"),
    (ONE + '[[algorithms]]\nalgo = "ppo"\nlabel = "a\\nb"', "one line"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_mistakes_name_file_and_line(text, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "grid.toml", text)
    assert main(["compare", "grid.toml"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "grid.toml" in told
    assert told.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["grid.toml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.toml"], "there is no file none.toml"),
        (["grid.toml", "CartPole-v1"], "says what is trained"),
        (["grid.toml", "--algo", "ppo"], "says what is trained"),
        (["grid.toml", "--", "--lr", "1"], "says what is trained"),
    ],
)
def test_words_beside_a_file(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "grid.toml", GRID)
    assert main(["compare", *words]) == 2
    assert said in capsys.readouterr().err


def test_no_toml_is_damaged_data(tmp_path):
    with pytest.raises(DataError, match="is no TOML"):
        file.read(write(tmp_path / "grid.toml", "envs = ["))


def ready(root):
    return Ready(root, lambda words: understand(words)[0], lambda line: None)


@pytest.mark.parametrize("algo", catalog.algorithms())
def test_a_resolved_file_asks_for_the_very_same_training(algo, tmp_path):
    """Every option of every algorithm, written out and read again, is the one that was chosen."""
    made = ready(tmp_path)
    kind = Kind("CartPole-v1", algo, ("--algo", algo), (1, 2), 1000, None, 3)
    try:
        made.prepare([kind])
    except UsageError as error:  # an algorithm for other problems
        pytest.skip(str(error))
    text = file.resolved(tmp_path, {kind: made.of(kind.train_words)}, None)
    (again,) = file.read(write(tmp_path / "experiment.toml", text)).kinds
    assert (again.env, again.label, again.seeds, again.steps, again.games) == ("CartPole-v1", algo, (1, 2), 1000, 3)
    assert len(again.words) > len(kind.words)
    made.prepare([again])
    assert meaning(made.of(kind.train_words)) == meaning(made.of(again.train_words))
    assert made.same(kind, again.train_words)
    earlier = "".join(line for line in text.splitlines(True) if not line.startswith("workers"))
    assert earlier.count("\n") == text.count("\n") - 2, "what an earlier version wrote has no workers in it"
    (before,) = file.read(write(tmp_path / "earlier.toml", earlier)).kinds
    assert made.same(kind, before.train_words)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("CartPole-v1", ["ppo", "--lr=linear:1e-3..0", "--clip=exp:0.2,rate=0.5", "--ent-coef=cosine:0.01..0"]),
        ("CartPole-v1", ["dqn", "--lr=exp:1e-3,rate=0.1,per=1000", "--epsilon=linear:1..0.05"]),
        ("CartPole-v1", ["pqn", "--epsilon=steps:0=1,0.5=0.1"]),
        ("CartPole-v1", ["pqn", "--epsilon=0.1"]),
        ("CartPole-v1", ["sarsa_lambda", "--epsilon=piecewise:0=1,1=0"]),
        ("CartPole-v1", ["ppo", "--device=cpu", "--env-timeout=5", "--eval-every=500", "--eval-games=7"]),
        ("CartPole-v1", ["ppo", "--workers=2", "--workers-as=processes"]),
        ("FrozenLake-v1", ["qlearning", "--env-kwargs", "is_slippery=false", "map_name=8x8"]),
        ("freeway", ["pqn", "--mode=1", "--difficulty=1", "--life-loss=true", "--net=nips", "--view=mono"]),
        ("CartPole-v1", ["ppo", "--preset=mine.toml", "--gamma=0.9"]),
    ],
)
def test_what_was_given_survives_the_resolved_file(env, words, tmp_path, monkeypatch):
    """Also a second time, when its lines are kept beside new ones."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.toml", 'algo = "ppo"\npreset = "cleanrl"\n[options]\nlr = 0.0008\ngamma = 0.98\n')
    made = ready(tmp_path)
    kind = Kind(env, "one", ("--algo", *words), (1,), 1000)
    made.prepare([kind])
    first = file.read(write(tmp_path / "1.toml", file.resolved(tmp_path, {kind: made.of(kind.train_words)}, None)))
    (tmp_path / "mine.toml").unlink()  # a colleague does not have it
    second = file.read(write(tmp_path / "2.toml", file.resolved(tmp_path, {}, first)))
    given = made.of(kind.train_words)
    for found in (first, second):
        again = found.kinds[0].train_words
        made.prepare(found.kinds)
        assert meaning(made.of(again)) == meaning(given)
        for name in (
            "device",
            "workers_as",
            "env_timeout",
            "eval_every",
            "eval_games",
            "protocol",
            "view",
            "env_kwargs",
            "parts",
        ):
            assert str(getattr(made.of(again).request, name)) == str(getattr(given.request, name)), name


def test_a_resolved_atari_file_keeps_its_protocol(tmp_path):
    made = ready(tmp_path)
    words = ("--algo", "ppo", "--sticky=0.25", "--protocol=v5", "--view=mono,trim")
    kind = Kind("breakout", "ppo", words, (1,), 1000)
    made.prepare([kind])
    read = file.read(write(tmp_path / "e.toml", file.resolved(tmp_path, {kind: made.of(kind.train_words)}, None)))
    assert made.same(kind, read.kinds[0].train_words)
    assert "sticky 0.25" in read.plays["breakout", "ppo"]
    other = Kind("breakout", "ppo", ("--algo", "ppo"), (1,), 1000)
    assert not made.same(other, read.kinds[0].train_words)


def test_other_options_are_not_the_same(tmp_path):
    made = ready(tmp_path)
    kind = Kind("CartPole-v1", "ppo", ("--algo", "ppo"), (1,), 1000)
    for words in (["--lr", "0.5"], ["--precision", "bf16"], ["--preset", "cleanrl"], ["--lr", "-5"], ["x"]):
        assert not made.same(kind, ["CartPole-v1", "--workers", "1", "--algo", "ppo", *words])
    assert not made.same(kind, ["Acrobot-v1", "--workers", "1", "--algo", "ppo"])
    assert made.same(kind, ["CartPole-v1", "--workers", "1", "--algo", "ppo", "--preset", "default"])


@given(
    st.recursive(
        st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
        max_leaves=8,
    )
)
def test_values_are_written_as_toml_reads_them(value):
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


SMALL = """
envs = ["CartPole-v1"]
seeds = 1
steps = 600
dir = "out"
[options]
num_envs = 2
rollout_steps = 16
[evaluation]
games = 5
[[algorithms]]
algo = "ppo"
"""


@pytest.mark.usefixtures("trained_here")
def test_a_file_is_trained_resolved_repeated_and_extended(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "small.toml", SMALL)
    assert main(["compare", "small.toml", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["seeds"] == [1]
    run = tmp_path / "out/CartPole-v1/ppo-num-envs-2-rollout-steps-16/1"
    if not run.exists():
        (run,) = (tmp_path / "out").glob("CartPole-v1/*/1")
    assert len(list((run / "eval").glob("*.json"))) == 1
    first = json.loads((run / "run.json").read_text())["result"]["hash"]
    # A colleague has only the resolved file.
    resolved = (tmp_path / "out" / "experiment.toml").read_text()
    assert "gae_lambda = 0.95" in resolved
    assert 'playfield = "' in resolved
    write(tmp_path / "theirs.toml", resolved)
    assert main(["compare", "theirs.toml", "--dir", "again"]) == 0
    (other,) = (tmp_path / "again").glob("CartPole-v1/*/1")
    assert json.loads((other / "run.json").read_text())["result"]["hash"] == first
    # In place nothing is trained again, though its words are others; and seeds are added.
    before = (run / "run.json").stat().st_mtime_ns
    assert main(["compare", "theirs.toml"]) == 0
    assert main(["compare", "small.toml", "--seeds", "1,4", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["seeds"] == [1, 4]
    assert (run / "run.json").stat().st_mtime_ns == before
    assert "seeds = [1, 4]" in (tmp_path / "out" / "experiment.toml").read_text()
    # A seed more, alone: the file beside the results repeats all that lies there, and no seed that was never begun.
    assert main(["compare", "small.toml", "--seeds", "2,"]) == 0
    assert "seeds = [1, 2, 4]" in (tmp_path / "out" / "experiment.toml").read_text()


def test_workers_of_a_file_are_those_of_its_trainings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = SMALL.replace("games = 5", "games = 0").replace(
        "[options]", '[options]\nworkers = 2\nworkers_as = "processes"'
    )
    write(tmp_path / "two.toml", text.replace("600", "64"))
    assert main(["compare", "two.toml"]) == 0
    (run,) = (tmp_path / "out").glob("CartPole-v1/*/1/run.json")
    info = json.loads(run.read_text())
    assert (info["compute"]["workers"], info["after"]["workers_as"]) == (2, "processes")
    resolved = (tmp_path / "out" / "experiment.toml").read_text()
    assert "workers = 2\n" in resolved
    assert 'workers_as = "processes"\n' in resolved


@pytest.mark.usefixtures("trained_here")
def test_of_two_processes_that_begin_at_once_the_first_decides_the_steps(tmp_path, monkeypatch):
    """Each measures another speed. What the other writes meanwhile stays in the file."""
    monkeypatch.chdir(tmp_path)
    text = SMALL.replace("steps = 600", "minutes = 5").replace("games = 5", "games = 0")
    write(tmp_path / "m.toml", text)
    measured = iter([640, 1280])

    class Measuring:
        @staticmethod
        def steps_in(one, minutes):
            steps = next(measured)
            if steps == 640:  # the second process begins, measures, and trains, while the first is measuring
                assert main(["compare", "m.toml"]) == 0
                other = text.replace('algo = "ppo"', 'algo = "a2c"\nsteps = 500').replace("minutes = 5", "")
                write(tmp_path / "o.toml", other)
                assert main(["compare", "o.toml"]) == 0
            return steps

    monkeypatch.setattr("playfield.experiments.ready._measuring", lambda: Measuring)
    assert main(["compare", "m.toml", "--seeds", "1,2"]) == 0
    steps = [json.loads(p.read_text())["steps"] for p in sorted((tmp_path / "out").glob("*/ppo*/*/run.json"))]
    assert steps == [1280, 1280]
    told = {kind.words[1]: (kind.steps, kind.seeds) for kind in file.stored(tmp_path / "out").kinds}
    assert told == {"ppo": (1280, (1, 2)), "a2c": (500, (1,))}


@pytest.mark.usefixtures("trained_here")
def test_minutes_become_steps_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = SMALL.replace("steps = 600", "minutes = 0.01").replace("games = 5", "games = 0")
    write(tmp_path / "m.toml", text)
    assert main(["compare", "m.toml"]) == 0
    (run,) = (tmp_path / "out").glob("CartPole-v1/*/1")
    steps = json.loads((run / "run.json").read_text())["steps"]
    assert "measured when these" not in capsys.readouterr().err
    assert main(["compare", "m.toml", "--seeds", "2"]) == 0  # the second seed has as many, whatever the speed is now
    assert json.loads((run.parent / "2" / "run.json").read_text())["steps"] == steps
    assert "minutes: the steps that were measured when these trainings began stay" in capsys.readouterr().err


def test_more_than_a_day_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "long.toml", SMALL.replace("steps = 600", "steps = 1_000_000_000_000"))
    assert main(["compare", "long.toml"]) == 2
    told = capsys.readouterr().err
    assert "more than a day: add --yes" in told
    assert [p.name for p in tmp_path.iterdir()] == ["long.toml"]


def test_other_lines_of_a_resolved_file_stay(tmp_path):
    made = ready(tmp_path)
    kinds = [Kind("CartPole-v1", algo, ("--algo", algo), (1,), 1000) for algo in ("ppo", "a2c")]
    made.prepare(kinds)
    old, new = ({kind: made.of(kind.train_words)} for kind in kinds)
    before = file.read(write(tmp_path / "e.toml", file.resolved(tmp_path, old, None)))
    both = file.read(write(tmp_path / "e.toml", file.resolved(tmp_path, new, before)))
    assert {k.label for k in both.kinds} == {"ppo", "a2c"}
    assert all(made.same(kind, next(k for k in both.kinds if k.label == kind.label).train_words) for kind in kinds)


@pytest.mark.parametrize("name", ["classic", "atari"])
def test_the_files_of_the_docs_can_be_trained(name, tmp_path):
    path = Path(__file__).parent.parent / "docs" / "experiments" / f"{name}.toml"
    read = file.read(path)
    made = ready(tmp_path)
    made.prepare(read.kinds[:3])
    assert len({kind.env for kind in read.kinds}) == 3
    assert all(len(kind.seeds) >= 3 for kind in read.kinds)


def test_a_preset_file_that_was_changed_starts_no_more_seeds_under_the_same_label(tmp_path):
    """The words are the same, and the runs would differ in more than the seed."""
    preset = write(tmp_path / "mine.toml", 'algo = "dqn"\n[options]\nlr = 0.0008\n')
    kind = Kind("CartPole-v1", "dqn", ("--algo", "dqn", f"--preset={preset}"), (1, 2), 1000)
    made = ready(tmp_path)
    made.prepare([kind])
    record = made.of(kind.train_words).request.preset_file
    write_run(kind.home(tmp_path) / "1", "CartPole-v1", "dqn", 1, [(100, 9.0)], 1000, preset_file=record)
    made.check_presets([kind])
    write(preset, 'algo = "dqn"\n[options]\nlr = 0.0009\n')
    changed = ready(tmp_path)
    changed.prepare([kind])
    with pytest.raises(UsageError, match=r"mine\.toml says other values than when .*/1 was started"):
        changed.check_presets([kind])
    run = kind.home(tmp_path) / "1" / "run.json"
    run.write_text(json.dumps({k: v for k, v in json.loads(run.read_text()).items() if k != "preset_file"}))
    changed.check_presets([kind])  # it was started from a resolved file
