"""A run that goes on with other versions says so, keeps both in run.json, and pooled only where that is no matter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import playfield
from playfield.cli import main
from playfield.compute import versions
from playfield.errors import DataError
from playfield.experiments import replicates
from playfield.runs import origin
from playfield.runs.info import VERSION, read_info
from playfield.training import plan

QUIET = {"games": 0, "film": False, "tensorboard": False, "console": False}
LABEL = "ppo, num-envs 2, rollout-steps 64"
SHORT = {"num_envs": 2, "num_steps": 64, "steps": 256, **QUIET}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = tmp_path_factory.mktemp("made") / "run"
    playfield.train("CartPole-v1", "ppo", run=run, **SHORT)
    return run


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs" / "1"))


def go_on(run: Path, steps: int, monkeypatch, **other: str) -> list[str]:
    """Resume it with other versions; returns the notes that were said."""
    said: list[str] = []
    with monkeypatch.context() as here:
        here.setattr(plan, "VERSION", other.pop("playfield", VERSION))
        here.setattr(plan, "versions", lambda: {**versions(), **other})
        playfield.train(resume=run, steps=steps, say=said.append, **QUIET)
    return [line for line in said if line.startswith("note: ")]


def test_the_same_versions_change_nothing(run, monkeypatch):
    before = read_info(run)
    assert go_on(run, 512, monkeypatch) == []
    after = read_info(run)
    changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
    assert changed - {"schedule"} == {"steps", "extensions", "result"}


def test_another_playfield_is_recorded_and_stays_exact(run, monkeypatch):
    assert go_on(run, 512, monkeypatch, playfield="9.0") == [
        f"note: versions differ from those at the start: playfield {VERSION} -> 9.0"
    ]
    info = read_info(run)
    assert "exact" not in info
    assert info["playfield"] == VERSION
    assert info["went_on"] == [{"at": 256, "playfield": "9.0", "versions": versions()}]
    assert origin.made_with(info, "playfield") == f"{VERSION} then 9.0"
    assert [row["playfield"] for row in playfield.list_runs(run)] == [f"{VERSION} then 9.0"]
    assert go_on(run, 768, monkeypatch, playfield="9.0")
    assert len(read_info(run)["went_on"]) == 1
    assert go_on(run, 1024, monkeypatch) == [f"note: versions differ from those before: playfield 9.0 -> {VERSION}"]
    info = read_info(run)
    assert [(e["at"], e["playfield"]) for e in info["went_on"]] == [(256, "9.0"), (768, VERSION)]
    assert origin.made_with(info, "playfield") == f"{VERSION} then 9.0 then {VERSION}"


def test_another_torch_may_give_other_bits(run, monkeypatch):
    (line,) = go_on(run, 512, monkeypatch, playfield="9.0", torch="99")
    assert line.startswith(
        f"note: no longer exact: versions differ from those at the start: playfield {VERSION} -> 9.0"
    )
    assert line.endswith(" -> 99")
    info = read_info(run)
    assert info["exact"] is False
    assert info["went_on"][0]["versions"]["torch"] == "99"
    for package in ("torch", "numpy", "gymnasium", "ale-py"):
        assert package in info["went_on"][0]["versions"]


def test_a_finished_run_that_is_only_looked_at_again_is_not_made_by_these(run, monkeypatch):
    before = read_info(run)
    assert go_on(run, 256, monkeypatch, playfield="9.0", torch="99") == []
    after = read_info(run)
    assert "went_on" not in after
    assert "exact" not in after
    assert replicates.same(before) == replicates.same(after)


def test_versions_with_which_nothing_was_trained_do_not_count():
    info = {"playfield": "1", "versions": {"torch": "a"}, "result": {"steps": 900}}
    info["went_on"] = [{"at": at, "playfield": "2", "versions": {"torch": "b"}} for at in (900,)]
    assert origin.made_with(info, "playfield") == "1"
    info["went_on"] = [{"at": 0, "playfield": "2", "versions": {"torch": "b"}}]
    assert origin.sessions(info) == [{"playfield": "2", "torch": "b"}]
    info["went_on"] = [{"at": 5, "playfield": "1", "versions": {"torch": "b"}}]
    assert (origin.made_with(info, "playfield"), origin.made_with(info, "torch")) == ("1", "a then b")


def test_compare_keeps_versions_of_playfield_apart(run, monkeypatch, capsys):
    other = Path(shutil.copytree(run, run.parent / "2"))
    go_on(run, 512, monkeypatch)
    go_on(other, 512, monkeypatch, playfield="9.0")
    capsys.readouterr()
    assert main(["compare", "--dir", str(run.parent), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["label"] for row in rows} == {
        f"{LABEL}, playfield {VERSION}",
        f"{LABEL}, playfield {VERSION} then 9.0",
    }


def test_compare_says_which_seeds_have_which_torch(run, capsys):
    def edit(place: Path, seed: int, torch: str) -> None:
        info = json.loads((place / "run.json").read_text())
        info |= {"seed": seed, "versions": {**info["versions"], "torch": torch}}
        info["fingerprint"] = origin.fingerprint(info)
        (place / "run.json").write_text(json.dumps(info))

    other = Path(shutil.copytree(run, run.parent / "2"))
    edit(run, 1, "2.3")
    edit(other, 2, "2.3")
    words = ["compare", "--dir", str(run.parent)]
    assert main(words) == 0
    assert "different versions" not in capsys.readouterr().out
    edit(other, 2, "2.4")
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"Runs of {LABEL} on CartPole-v1 have different versions: torch 2.3 (seed 1), torch 2.4 (seed 2)." in said
    assert main([*words, "--json"]) == 0
    differ = {"torch": {"2.3": [1], "2.4": [2]}}
    assert json.loads(capsys.readouterr().out)["versions"] == [
        {"env": "CartPole-v1", "label": LABEL, "differ": differ}
    ]


@pytest.mark.parametrize("wrong", [3, [3], [{"at": -1, "playfield": "1", "versions": {}}], [{"at": 1}]])
def test_what_is_no_list_of_versions_is_refused(run, wrong):
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "went_on": wrong}))
    with pytest.raises(DataError, match="went_on must be a list"):
        read_info(run)
