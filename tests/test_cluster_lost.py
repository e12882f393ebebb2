"""Nodes of a cluster that are lost or refuse a training: what goes on where, and what gives up."""

from __future__ import annotations

import json

import pytest

from cluster_link import HERE, C, Told, begun, job, place
from playfield.errors import UsageError
from playfield.experiments import cluster, local, node, placement
from playfield.runs import fence


@pytest.fixture(autouse=True)
def _facts(monkeypatch):
    monkeypatch.setattr(node, "facts", lambda mark: HERE)


def test_a_lost_node_costs_what_came_after_the_last_checkpoint(tmp_path):
    link = Told(HERE, a={}, b={"cpus": 1})
    made, _ = place(tmp_path, link)
    one, two = made.start(job(tmp_path, 1)), made.start(job(tmp_path, 2))
    first = one.node.name
    begun(one.job)
    (one.job.directory / "checkpoints" / "ckpt-000000002048").mkdir(parents=True)
    (one.job.directory / "metrics.csv").write_text("step\n2048\n2560\n")
    link.lose(first)
    news = made.look(one).news
    assert f"node {first} is lost" in news
    went_on = "it goes on from step 2,048 elsewhere, 512 steps again"
    assert f"ppo on {C}, seed 1: lost on node {first} (its node died); {went_on}" in news
    assert made.look(one).news == ()
    assert one.node is None
    link.end(two.number, text='{"code": 0}')
    made.look(two)
    again = link.runs()[-1]
    assert again["node"] != first
    assert again["text"]["words"][:3] == ["train", "--resume", str(one.job.directory)]
    assert again["text"]["variables"] == {"PLAYFIELD_ATTEMPT": f"2:{one.job.directory}"}
    assert fence.read(one.job.directory) == 2
    link.end(link.runs()[0]["number"], text='{"code": 3}')
    assert made.look(one).code is None, "the end of the attempt that was given up is not its end"
    link.lose(again["node"])
    assert f"ppo on {C}, seed 1: waits for a node" in made.look(one).news
    assert made.look(one).news == (), "once"
    link.add("c")
    made.look(one)
    made.look(one)
    assert made.look(one).where == "c"


def test_the_folder_of_logs_stays_while_a_training_needs_it(tmp_path):
    """The end of another one removed it as empty, before the node of this one had written its first byte."""
    link = Told(HERE, a={"cpus": 2})
    made, _ = place(tmp_path, link)
    one, two = made.start(job(tmp_path, 1)), made.start(job(tmp_path, 2))
    link.end(one.number, text='{"code": 0}')
    made.look(one)
    made.collect(one)
    assert two.log.parent.is_dir()
    link.end(two.number, text='{"code": 4}')
    made.look(two)
    assert made.collect(two).line == "exit status 4 (node a)"
    assert not two.log.parent.exists(), "an empty log says nothing"


def test_what_the_store_says_reaches_the_person(tmp_path):
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path))
    link.waiting.append({"note": "grid/1: what its node sends is not kept: No space left on device"})
    assert made.look(one).news == ("grid/1: what its node sends is not kept: No space left on device",)
    assert made.look(one).news == ()


def test_a_node_that_the_cluster_does_not_know_yet_is_asked_again(tmp_path, monkeypatch):
    """As Ray's parts learn of a node one after the other, it may refuse tasks at first."""
    link = Told(HERE, a={"refuses": 3})
    made, said = place(tmp_path, link)
    assert made.slots() == 1
    assert len([t for t in link.tasks.values() if t["do"] == "probe"]) == 4
    assert not [line for line in said if "not used" in line]
    link = Told(HERE, a={"refuses": 10**6})
    monkeypatch.setattr(placement, "JOINING", 0.3)
    with pytest.raises(UsageError, match="no node can be used: a: The task is not schedulable"):
        place(tmp_path / "other", link)


def test_a_training_that_its_node_refuses_was_not_lost_and_goes_there_once_it_takes_tasks(tmp_path):
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path, 1))
    for _ in range(2 * cluster.PATIENCE):
        assert one.node is not None
        link.nodes["a"]["refuses"] = 1
        link.end(one.number, refused="The task is not schedulable")
        made.look(one)
        assert (one.node, one.past.losses, made.slots()) == (None, 0, 0), "not used until it answers"
        for _ in range(3):
            made.look(one)
    assert one.code is None
    link.lose("a")
    assert "node a is lost" in made.look(one).news


def test_a_training_that_is_lost_again_and_again_fails(tmp_path):
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path, 1))
    for _ in range(cluster.PATIENCE):
        link.end(one.number, lost="the worker died")
        made.look(one)
    assert one.code == 6
    assert one.line == "it was lost 5 times without a new checkpoint, last on node a: the worker died"


def ended(link, task, code, line=""):
    link.end(task.number, text=json.dumps({"code": code, "line": line}))


@pytest.mark.parametrize(
    ("code", "why"), [(-9, "SIGKILL (the memory may have run out)"), (-11, "SIGSEGV"), (143, "SIGTERM")]
)
def test_a_training_whose_process_is_ended_by_a_signal_goes_on(tmp_path, code, why):
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path))
    one.log.write_text("Killed\n")
    ended(link, one, code)
    look = made.look(one)
    kept = one.log.with_name("1-attempt-1.txt")
    assert look.running
    assert look.news == (
        f"ppo on {C}, seed 1: lost on node a (its process was ended by {why}); it begins again elsewhere, 0 steps "
        f"again; what it wrote: {kept}",
    )
    assert (kept.read_text(), one.log.read_text()) == ("Killed\n", "")
    assert len(link.runs()) == 2
    assert fence.read(one.job.directory) == 2
    ended(link, one, 0)
    assert made.look(one).code == 0
    made.collect(one)
    assert not kept.parent.exists(), "nobody needs it once the training is done"


def test_one_that_was_asked_to_end_does_not_go_on(tmp_path):
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    for code in (143, -9):
        one = made.start(job(tmp_path))
        made.stop(one)
        ended(link, one, code)
        assert made.look(one).code == code
        made.collect(one)


def test_one_that_is_always_killed_fails_as_on_one_machine_and_keeps_what_it_wrote(tmp_path):
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path))
    for number in range(cluster.PATIENCE):
        one.log.write_text(f"{number}\n")
        ended(link, one, -9)
        made.look(one)
    outcome = made.collect(one)
    assert outcome.code == -9
    assert outcome.line.startswith("it was lost 5 times without a new checkpoint, last on node a: its process was")
    assert [p.read_text() for p in sorted(one.log.parent.glob("1-attempt-*"))] == ["0\n", "1\n", "2\n", "3\n", "4\n"]


def test_losses_count_on_where_a_training_was_put_aside_meanwhile(tmp_path, monkeypatch, capsys):
    """Its old process had the lock still: it was put aside and started again, each time as if nothing had been."""
    monkeypatch.setattr(local, "LOOK_ELSEWHERE", 0.0)
    monkeypatch.setattr(local, "POLL", 0.001)
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)

    def begin(number):
        if len(link.runs()) % 2:
            link.end(number, lost="its worker died")
        elif len(link.runs()) < 40:
            link.end(number, text=json.dumps({"code": 3, "line": "it is in use by process 7: wait for it"}))
        else:
            link.end(number, text='{"code": 0}')  # so that a test that fails ends

    link.begin = begin
    (failed,) = local.run_jobs([job(tmp_path)], 1, made)
    assert failed.why.startswith("it was lost 5 times without a new checkpoint")
    assert len(link.runs()) == 9
    capsys.readouterr()


def test_one_that_was_killed_goes_to_another_node_though_that_has_fewer_cores(tmp_path):
    link = Told(HERE, a={"cpus": 8}, b={"cpus": 1})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path))
    ended(link, one, -9)
    made.look(one)
    assert [run["node"] for run in link.runs()] == ["a", "b"]
