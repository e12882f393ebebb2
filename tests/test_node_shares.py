"""What each node of a cluster has done of an experiment, below the live table."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from playfield.experiments import node_shares, progress
from playfield.experiments.job import Job


def jobs_in(root, count):
    return [Job("CartPole-v1", "ppo", (), seed, 1000, root / str(seed)) for seed in range(1, count + 1)]


def at(job, step):
    job.directory.mkdir(parents=True, exist_ok=True)
    (job.directory / "metrics.csv").write_text(f"step,time/time_elapsed\n{step},1.0\n")


def lines(made, running, height=40):
    output = Console(width=110, file=io.StringIO())
    output.print(made.table(running, [], None, height))
    return [line.split() for line in output.file.getvalue().splitlines()]


def shares(made, running, height=40):
    made._now(running, [], [], 1)
    found = lines(made, running, height)
    header = ["node", "running", "done", "steps", "share"]
    return found[found.index(header) + 1 : -1] if header in found else []


def test_each_node_has_a_line_with_its_trainings_and_steps(tmp_path):
    one, two, three, four = jobs = jobs_in(tmp_path, 4)
    at(one, 400)
    made = progress.Progress(jobs)
    for job, node in ((one, "a"), (two, "b"), (three, "b")):
        made.look(job, node, ())
    assert shares(made, [one, two, three]) == [["a", "1", "0", "0"], ["b", "2", "0", "0"]]
    at(one, 500)  # 400 are of an earlier command
    at(two, 1000)
    at(three, 300)
    made.ended(two, 0)
    assert shares(made, [one, three]) == [["b", "1", "1", "1,300", "93%"], ["a", "1", "0", "100", "7%"]]
    made.look(three, "", ())  # b is lost, and this one waits
    at(three, 200)
    assert shares(made, [one, three])[0] == ["b", "0", "1", "1,300", "93%"]
    made.look(three, "a", ())
    at(three, 700)
    made.ended(three, 1)
    assert shares(made, [one]) == [["b", "0", "1", "1,300", "68%"], ["a", "1", "0", "600", "32%"]]
    made.elsewhere(one)  # what another process trains from here on is no node's of this one
    at(one, 1000)
    made.ended(one, 0)
    assert shares(made, [four])[1] == ["a", "0", "0", "600", "32%"]
    made.look(four, "c", ())
    at(four, 50)
    shares(made, [four])
    made.look(four, "a", ())  # c is lost, and had nothing else
    assert shares(made, [four])[2] == ["c", "0", "0", "50", "3%"]


@pytest.mark.parametrize(("nodes", "last"), [(5, ["n5", "1", "0", "1", "7%"]), (50, ["46", "others", "46", "0"])])
def test_many_nodes_take_few_lines(tmp_path, nodes, last):
    jobs = jobs_in(tmp_path, nodes)
    made = progress.Progress(jobs)
    for k, job in enumerate(jobs, 1):
        made.look(job, f"n{k}", ())
        at(job, 1 + nodes - k)
    found = shares(made, jobs)
    assert len(found) == node_shares.MOST_NODES
    assert found[0][:4] == ["n1", "1", "0", str(nodes)]
    assert found[-1][:4] == last[:4]
    if nodes == 50:
        assert found[-1][4] == f"{sum(range(1, 47)):,}"


def test_they_are_left_out_where_they_say_nothing_or_take_the_room_of_trainings(tmp_path):
    jobs = jobs_in(tmp_path, 3)
    made = progress.Progress(jobs)
    made.look(jobs[0], "a", ())
    assert shares(made, jobs) == [], "a single node"
    made.look(jobs[1], "b", ())
    assert len(shares(made, jobs)) == 2
    assert shares(made, jobs, height=12) == []
    assert len(lines(made, jobs, 24)) <= 24 - 2
    alone = progress.Progress(jobs)
    for job in jobs:
        alone.look(job, "", ())
    assert shares(alone, jobs) == []
