"""`playfield replay`: what runs remember, looked at while they train and after, dropped, and gone on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import playfield
from playfield.cli import main
from playfield.compute import readable_size
from playfield.errors import UsageError
from playfield.replay import saved
from playfield.replay.buffer import Replay
from playfield.runs import checkpoint
from playfield.runs.lock import RunLock

pytestmark = pytest.mark.usefixtures("one_thread")

QUIET = {"games": 0, "film": False, "console": False, "tensorboard": False, "workers": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/: numbers (CartPole, prioritised, three saves), pictures (Breakout, two workers), ppo."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        numbers = {"num_envs": 4, "learning_starts": 256, "capacity": 400, "alpha": 0.6}
        playfield.train("CartPole-v1", "dqn", steps=320, run="numbers", save_seconds=0.0, config=numbers, **QUIET)
        pictures = {
            "num_envs": 4,
            "learning_starts": 64,
            "capacity": 400,
            "batch_size": 8,
            "train_period": 16,
            "net": "nips",
        }
        playfield.train("breakout", "dqn", steps=240, run="runs/p", config=pictures, **{**QUIET, "workers": 2})
        Path("ppo").mkdir()
        Path("ppo/run.json").write_text('{"spec": {}, "algo": "ppo", "config": {"lr": 1}}')
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def copy(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with numbers that a test may change."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(home / "numbers", tmp_path / "run"))


def files(folder: Path) -> list[tuple]:
    return sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*"))


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["replay", *words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


# Looking -------------------------------------------------------------------------------------------------


def test_the_table_says_what_the_checkpoint_holds(here, capsys) -> None:
    """Against counts made of the saved arrays by hand: no lane is full, so all entries are in order."""
    tree = checkpoint.load(Path("runs/p/checkpoints")).tree["parts"]
    states = [tree[f"actor-{k}"]["replay"] for k in range(2)]
    found = json.loads(told(["runs/p", "--json"], capsys))
    n, length, games, actions, rewards = found["n_step"], 0, 0, [0] * 4, {}
    for state in states:
        for lane, count in enumerate(state["count"]):
            kinds = state["kinds"][lane, : count - n]
            real = np.flatnonzero(kinds)
            length += len(real)
            for i in real:
                actions[state["actions"][lane, i]] += 1
                key = f"{state['rewards'][lane, i]:g}"
                rewards[key] = rewards.get(key, 0) + 1
                games += kinds[i] & 8 > 0
            games += not kinds[real[-1]] & 8
    assert found["length"] == length == sum(found["actions"].values())
    assert found["entries"] == sum(int(state["count"].sum()) for state in states)
    assert found["capacity"] == 400
    assert found["lanes"] == 4
    assert found["index"] == [int(i) for state in states for i in state["count"] % 100]
    assert found["games"] == games
    assert list(found["actions"]) == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert list(found["actions"].values()) == actions
    assert found["rewards"] == rewards
    assert 300 < found["bytes_per_transition"] < 2000
    assert found["disk_bytes"] == sum(p.stat().st_size for p in Path("runs/p/replay").rglob("*.seg"))
    text = told(["last"], capsys)  # the newest under runs/
    step = checkpoint.load(Path("runs/p/checkpoints")).step
    for words in (f"runs/p: replay buffer of dqn on breakout at step {step}", f"{length} can be sampled", "RIGHT"):
        assert words in text


def test_plain_memories_and_priorities(here, capsys) -> None:
    found = json.loads(told(["numbers", "--json"], capsys))
    # four float32 numbers, action, reward, kind; a tree of 512 leaves for 400 entries
    assert found["bytes_per_transition"] == pytest.approx(16 + 6 + 2 * 512 * 8 / 400)
    priorities = found["priorities"]
    assert 0 < priorities["min"] < priorities["median"] < priorities["max"]
    assert 0.1 < priorities["share_of_top_tenth"] < 1
    assert found["terminated"] > 0
    assert "priorities" in told(["numbers"], capsys)


def test_one_transition_and_its_picture(here, capsys, tmp_path) -> None:
    memory = playfield.open_replay("runs/p")
    assert isinstance(memory, Replay)
    assert len(memory.index) == 4
    obs, action, reward, following, done = memory[17]
    assert obs.shape == following.shape == (84, 84, 4)
    np.testing.assert_array_equal(obs[..., 1:], following[..., :3])
    out = tmp_path / "look.png"
    row = json.loads(told(["runs/p", "--show", "17", "--out", str(out), "--json"], capsys))["transitions"][0]
    assert (row["number"], row["action"], row["reward"], row["terminated"]) == (17, action, reward, done)
    assert row["action_name"] == ["NOOP", "FIRE", "RIGHT", "LEFT"][action]
    assert row["discount"] == pytest.approx(0.99**3)
    with Image.open(out) as image:
        picture = np.asarray(image)
    newest = np.repeat(np.repeat(obs[..., -1], 3, 0), 3, 1)  # 252 pixels high
    assert any(
        (picture[y : y + 252, x : x + 252, 0] == newest).all()
        for y in range(picture.shape[0] - 251)
        for x in range(252, 270)  # the right column of the first block
    )
    text = told(["runs/p", "--show", "17", "--out", str(out)], capsys)
    assert f"{row['action_name']} ({action})" in text
    assert "0.970299" in text
    assert str(out) in text


def test_by_lane_and_from_the_end(here, capsys, tmp_path) -> None:
    out = ["--out", str(tmp_path / "x.png"), "--json"]
    for lane in (0, 3):
        rows = [
            json.loads(told(["runs/p", "--lane", str(lane), "--show", i, *out], capsys)) for i in ("0", "5", "-1")
        ]
        slots = [r["transitions"][0]["slot"] for r in rows]
        assert slots == sorted(set(slots))
        assert {r["transitions"][0]["lane"] for r in rows} == {lane}


def test_a_sample_is_one_sheet_and_depends_on_its_seed(here, capsys, tmp_path) -> None:
    def drawn(seed: int) -> list[int]:
        words = ["runs/p", "--sample", "5", "--seed", str(seed), "--out", str(tmp_path / "s.png"), "--json"]
        return [row["number"] for row in json.loads(told(words, capsys))["transitions"]]

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(set(drawn(0))) == 5
    with Image.open(tmp_path / "s.png") as image:
        assert min(image.size) > 500


def test_numbers_are_printed(here, capsys) -> None:
    obs, _, _, following, _ = playfield.open_replay("numbers")[3]
    row = json.loads(told(["numbers", "--show", "3", "--json"], capsys))["transitions"][0]
    np.testing.assert_allclose(row["obs"], obs)
    np.testing.assert_allclose(row["next_obs"], following)
    text = told(["numbers", "--show", "3"], capsys)
    assert f"{obs[0]:.4f}"[:6] in text
    ended = next(i for i, item in enumerate(playfield.open_replay("numbers")) if item[4])
    text = told(["numbers", "--show", str(ended)], capsys)
    assert "terminated, game over" in text
    assert "none: game over" in text


def test_looking_changes_nothing_and_needs_no_lock(copy, capsys) -> None:
    with RunLock(copy):
        before = files(copy)
        told([str(copy)], capsys)
        told([str(copy), "--sample", "3"], capsys)
        assert len(playfield.open_replay(copy)) > 100
        assert files(copy) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/p", "--show", "100000"], "choose from 0 (the oldest) to "),
        (["runs/p", "--show", "0", "--lane", "4"], "are 0 to 3"),
        (["runs/p", "--show", "1", "--sample", "2"], "not both"),
        (["runs/p", "--lane", "1"], "--lane goes with --show"),
        (["runs/p", "--show", "1", "--out", "x.gif"], "x.png"),
        (["runs/p", "--show", "1", "--out", "."], "is a directory"),
        (["runs/p", "--show", "1", "--out", "no/where/x.png"], "there is no directory no/where"),
        (["numbers", "--show", "1", "--out", "x.png"], "are vectors"),
        (["ppo"], "ppo does not use one"),
        (["breakout"], "ships without"),
        (["run/p"], "did you mean runs/p"),
        (["runs/p", "--drop", "--show", "1"], "no other option"),
        (["runs/p", "--yes"], "goes with --drop"),
        (["runs/p", "--sow", "1"], "did you mean --show"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_mistakes(here, words, message, capsys) -> None:
    before = files(here)
    assert main(["replay", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (err.count("\n"), out) == (1, "")
    assert files(here) == before


# Damage --------------------------------------------------------------------------------------------------


def damage_newest(run: Path) -> tuple[str, str]:
    """Cut the newest replay file short; the steps of the newest checkpoint and of the one before."""
    newest = sorted((run / "replay" / "0").glob("*.seg"))[-1]
    newest.write_bytes(newest.read_bytes()[:-3])
    older, last = checkpoint.checkpoints(run / "checkpoints")[-2:]
    listed = [checkpoint.load(c).tree["parts"]["actor-0"]["replay"]["files"]["segments"] for c in (older, last)]
    assert newest.name in [entry["name"] for entry in listed[1]]
    assert newest.name not in [entry["name"] for entry in listed[0]]
    return older.name, last.name


def test_looking_falls_back_to_a_whole_checkpoint(copy, capsys) -> None:
    older, last = damage_newest(copy)
    assert main(["replay", str(copy), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["step"] == int(older[5:])
    assert f"{last}: " in err
    assert "is damaged" in err
    assert err.count("\n") == 1


def test_resume_falls_back_to_a_checkpoint_whose_replay_is_whole(copy) -> None:
    """With one line that says so, and then to the same end."""
    whole = json.loads((copy / "run.json").read_text())["result"]["hash"]
    older, last = damage_newest(copy)
    said: list[str] = []
    again = playfield.train(resume=copy, say=said.append, games=0, film=False, console=False, tensorboard=False)
    lines = list(again.warnings)
    assert len(lines) == 1
    assert lines[0].startswith(f"skipped a damaged checkpoint: {last}: ")
    assert ".seg is damaged" in lines[0]
    assert f"resuming {copy} at step {int(older[5:]):,} of 320" in said
    assert again.hash == whole
    assert (copy / "checkpoints" / f"{last}.damaged").is_dir()


def test_a_damaged_file_that_all_need_is_no_silent_start_over(copy, capsys) -> None:
    first = sorted((copy / "replay" / "0").glob("*.seg"))[0]
    first.unlink()
    before = files(copy / "checkpoints")
    assert main(["train", "--resume", str(copy), "--steps", "640", "--quiet", "--no-film", "--games", "0"]) == 3
    err = capsys.readouterr().err
    assert f"{first.name} is missing" in err
    assert err.count("\n") == 1
    assert files(copy / "checkpoints") == before
    assert main(["replay", str(copy)]) == 3


# Dropping ------------------------------------------------------------------------------------------------


def test_drop_says_what_it_costs_and_a_resume_is_refused(copy, capsys) -> None:
    size = sum(p.stat().st_size for p in (copy / "replay").rglob("*.seg"))
    text = told([str(copy), "--drop"], capsys)
    assert readable_size(size) in text
    assert "can no longer be trained" in text
    assert not (copy / "replay").exists()
    before = files(copy)
    for words in (["replay", str(copy)], ["train", "--resume", str(copy), "--steps", "640"]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert "was deleted on" in err
        assert err.count("\n") == 1
    assert files(copy) == before
    playfield.load_policy(copy).act(np.zeros((1, 4), np.float32))


def test_drop_leaves_unfinished_and_training_runs_alone(copy, capsys) -> None:
    info = json.loads((copy / "run.json").read_text())
    info["steps"] = 1000
    del info["result"]
    (copy / "run.json").write_text(json.dumps(info))
    assert main(["replay", str(copy), "--drop"]) == 2
    assert "has done 320 of 1,000 steps" in capsys.readouterr().err
    with RunLock(copy):
        assert main(["replay", str(copy), "--drop", "--yes"]) == 3
    assert (copy / "replay").exists()
    told([str(copy), "--drop", "--yes"], capsys)
    assert not (copy / "replay").exists()


def test_a_deletion_that_was_cut_short_can_be_finished(copy, capsys) -> None:
    kept = copy.with_name("kept")
    shutil.copytree(copy / "replay", kept)
    told([str(copy), "--drop"], capsys)
    shutil.copytree(kept, copy / "replay")
    told([str(copy), "--drop"], capsys)
    assert not (copy / "replay").exists()


def test_the_end_of_a_training_says_what_the_files_take(copy) -> None:
    said: list[str] = []
    playfield.train(resume=copy, say=said.append, games=0, film=False, console=False, tensorboard=False)
    size = saved.disk_use(copy)[1]
    assert f"its replay:   playfield replay {copy} ({readable_size(size)}; --drop deletes it)" in said[-1]


def test_from_python_mistakes_are_usage_errors(tmp_path) -> None:
    with pytest.raises(UsageError, match="no run directory"):
        playfield.open_replay(tmp_path / "none")
