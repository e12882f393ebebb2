"""A tuning on the nodes of a cluster: the trials and values of one machine, and what is no fault of a trial."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import pytest
from rich.console import Console

from cluster_link import HERE, Told
from playfield.cli import _tuning, main, places
from playfield.errors import PlayfieldError, UsageError
from playfield.experiments import node, ray_link, tune, tune_progress, tuning
from playfield.experiments.cluster import Cluster
from playfield.experiments.cluster_state import Pins
from playfield.experiments.job import Job
from playfield.training.prepare import prepare
from playfield.training.request import Request
from test_tune import go, settings
from tune_place import C, Instant

BF16 = Pins("cpu", "bf16", 1, 10**9)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(node, "facts", lambda mark: HERE)
    monkeypatch.setattr(tune, "POLL", 0.001)
    monkeypatch.setattr(tune, "LOOK_ELSEWHERE", 0.01)


class Trials(Told):
    """Nodes whose trainings end at once, with the scores of `Instant`; the first of those `lose` names are lost."""

    def __init__(self, log: Path, lose: tuple[int, ...] = (), code: int = 0, **nodes: dict) -> None:
        self.instant, self.left, self.code = Instant(log), list(lose), code
        super().__init__(HERE, **nodes)

    def begin(self, number: int) -> None:
        words = self.tasks[number]["text"]["words"]
        given = dict(itertools.pairwise(words))
        run = Path(given["--run"])
        if (trial := int(run.parent.name)) in self.left:
            self.left.remove(trial)
            self.end(number, lost="its node died")
        elif self.code:
            self.end(number, text=json.dumps({"code": self.code, "line": "why"}))
        else:
            self.instant.start(Job(C, "", tuple(words), int(given["--seed"]), int(given["--steps"]), run))
            self.end(number, text='{"code": 0}')


def opened(root, link, pins=BF16):
    made = Cluster(link, root, lambda job: pins, print)
    made.open()
    return made


def told(study):
    return [(t.number, t.params, t.value, t.state) for t in study.trials()]


def test_the_same_trials_and_values_as_on_one_machine_also_where_nodes_are_lost(tmp_path):
    chosen = settings(seeds=(1, 2))
    alone, _ = go(tmp_path / "a", chosen)
    link = Trials(tmp_path / "started", (0, 3, 3), a={"bf16": True}, b={"bf16": True})
    (tmp_path / "b").mkdir()
    there, watcher = go(tmp_path / "b", chosen, opened(tmp_path / "b", link))
    assert told(there) == told(alone)
    assert len(told(there)) == 8
    assert sum("lost on node" in str(line) for line in watcher.told) == 3
    assert {run["node"] for run in link.runs()} == {"a", "b"}
    assert (tmp_path / "a" / "best.toml").read_text() == (tmp_path / "b" / "best.toml").read_text()


def test_what_no_node_can_take_is_no_value_and_the_tuning_goes_on_where_one_can(tmp_path):
    """The nodes with bf16 are away: the worst value would stay in the journal, and the sampler learn from it."""
    chosen = settings()
    alone, _ = go(tmp_path / "a", chosen)
    root = tmp_path / "b"
    root.mkdir()
    for done in (0, 3):
        if done:
            go(root, settings(trials=done, startup=4), opened(root, Trials(tmp_path / "s", a={"bf16": True})))
        with pytest.raises(PlayfieldError, match=f"^trial {done}, seed 1: no node can take it: node b: ") as caught:
            go(root, chosen, opened(root, Trials(tmp_path / "s", b={})))
        assert (caught.value.exit_code, "not decided" in str(caught.value)) == (2, True)
        trials = _tuning.open_study(root, chosen, only_read=True).trials()
        assert [t.state for t in trials[:done]] == ["finished"] * done
        assert {t.state for t in trials[done:]} <= {"waiting", "running"}
    there, _ = go(root, chosen, opened(root, Trials(tmp_path / "s", a={"bf16": True})))
    assert told(there) == told(alone)


def test_options_that_are_refused_on_two_nodes_are_the_trials_fault(tmp_path):
    root = tmp_path / "b"
    root.mkdir()
    go(root, settings(trials=1), opened(root, Trials(tmp_path / "s", a={"bf16": True})))
    link = Trials(tmp_path / "s", code=2, a={"bf16": True}, b={"bf16": True})
    study, _ = go(root, settings(trials=2), opened(root, link))
    assert [t.state for t in study.trials()] == ["finished", "failed"]
    assert len(link.runs()) == 2
    root = tmp_path / "c"
    root.mkdir()
    with pytest.raises(UsageError, match="what the tuning begins from cannot be trained"):
        go(root, settings(), opened(root, Trials(tmp_path / "s", code=2, a={"bf16": True})))


def test_the_command_pins_the_memory_of_each_trial(tmp_path, monkeypatch, capsys):
    link, sizes = Trials(tmp_path / "started", a={"total": 10**15, "memory": 10**15}), []
    monkeypatch.setattr(ray_link, "require_ray", lambda: None)
    monkeypatch.setattr(ray_link, "RayLink", lambda address: link)
    pins_of = places.pins_of
    monkeypatch.setattr(
        places, "pins_of", lambda one: (sizes.append((one.cfg.capacity, pins_of(one))), sizes[-1][1])[1]
    )
    space = tmp_path / "space.toml"
    space.write_text("[capacity]\nlow = 10000\nhigh = 2000000\n")
    words = ["tune", C, "--algo", "dqn", "--steps", "900", "--trials", "6", "--space", str(space), "--no-prune"]
    assert main([*words, "--dir", str(tmp_path / "there"), "--on", "head:6379", "--yes"]) == 0, (
        capsys.readouterr().err
    )
    found = {capacity: pins.memory for capacity, pins in sizes}
    assert len(sizes) == 6
    assert len(set(found)) > 1
    assert len(set(found.values())) == len(found)
    assert max(found, key=lambda capacity: found[capacity]) == max(found)
    assert not list((tmp_path / "there").glob(".seen-*"))


def test_options_that_cannot_be_prepared_have_the_needs_of_the_first_trial(tmp_path):
    ready = prepare(Request(C, algo="ppo", workers=1, steps=900, run=tmp_path))
    words = (C, "--workers", "1", "--algo", "ppo", "--num-envs=3", "--rollout=7", "--minibatches=64")
    assert _tuning.own(ready, Job(C, "", words, 1, 900, tmp_path / "1")) is ready


def test_a_training_that_is_always_killed_is_a_value_as_on_one_machine(tmp_path):
    root = tmp_path / "b"
    root.mkdir()
    go(root, settings(trials=1), opened(root, Trials(tmp_path / "s", a={"bf16": True})))
    study, _ = go(root, settings(trials=2), opened(root, Trials(tmp_path / "s", code=-9, a={"bf16": True})))
    assert [(t.state, t.value) for t in study.trials()][1] == ("failed", None)


def test_the_table_has_the_nodes_of_each_trial_and_what_each_node_has_done(tmp_path, capsys):
    chosen = tuning.save(tmp_path, settings(trials=3, seeds=(1, 2), startup=2))
    study = _tuning.open_study(tmp_path, chosen)
    shown = tune_progress.Progress(chosen, study)
    link = Trials(tmp_path / "started", (1,), a={"bf16": True}, b={"bf16": True})
    tune.run(chosen, study, 2, shown, opened(tmp_path, link))
    output = Console(width=110, file=io.StringIO())
    output.print(shown._now({}))
    lines = [line.split() for line in output.file.getvalue().splitlines()]
    assert lines[1][-1] == "node"
    assert [line[-2:] for line in lines[2:5]] == [["77.4", "b"], ["a,", "b"], ["68.8", "b"]], "one was lost on b"
    assert lines[5] == ["node", "running", "done", "steps", "share"]
    done = [line for line in lines[6:] if line]
    assert sorted(line[0] for line in done) == ["a", "b"]
    assert sum(int(line[2]) for line in done) == 6
    assert sum(int(line[3].replace(",", "")) for line in done) == 6 * 900
    alone = tune_progress.Progress(chosen, study)
    assert "node" not in [column.header for column in alone._table({}).columns]
