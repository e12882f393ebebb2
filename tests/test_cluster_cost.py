"""The cost model of a cluster and the measure of what scheduling takes: numbers that can be worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
DOCS = SCRIPTS.parent / "docs" / "design" / "cluster.md"


def script(name):
    loader = SourceFileLoader(name, str(SCRIPTS / name))
    made = module_from_spec(spec_from_loader(name, loader))
    sys.modules[name] = made
    loader.exec_module(made)
    return made


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return script("cluster_cost")


FACTORS = {"speed_1": 100.0, "speed_2": 150.0, "others": 1.0, "crowd": 0.5, "start": 20.0, "between": 5.0}
FACTORS |= {"losses": 0.0, "interval": 60.0, "checkpoint": 12.0}


def test_hours_by_hand(model):
    one = model.cost(FACTORS, trainings=10, steps=36_000, nodes=2, cores=2)
    # Four places: three rounds of 360 s and 25 s around it. Two workers: two places, five rounds of 240 s and 25 s.
    assert one.hours == pytest.approx(3 * 385 / 3600)
    assert (one.workers, one.at_once, one.rounds) == (1, 4, 3)
    assert one.used == pytest.approx(10 * 360 / (3 * 385 * 4))
    assert one.traffic == pytest.approx(4 * 12 / 60)
    # As many places as trainings, twice: each then has two workers.
    two = model.cost(FACTORS, trainings=2, steps=36_000, nodes=2, cores=2)
    assert (two.workers, two.hours) == (2, pytest.approx(265 / 3600))
    # Cores beside many others are slower.
    many = model.cost(FACTORS, trainings=16, steps=36_000, nodes=1, cores=16)
    assert many.hours == pytest.approx(745 / 3600)
    # A node that is lost once a day, for a training of a day: half an interval and another start.
    lost = model.cost({**FACTORS, "losses": 1.0}, trainings=1, steps=8_640_000, nodes=1, cores=1)
    assert lost.hours == pytest.approx((86_400 + 30 + 25 + 25) / 3600)


def test_the_page_has_the_table_of_the_script():
    told = subprocess.run([sys.executable, str(SCRIPTS / "cluster_cost")], capture_output=True, text=True, check=True)
    rows = [line for line in told.stdout.splitlines() if line.startswith("|")]
    assert len(rows) > 15
    page = DOCS.read_text("utf-8")
    assert [row for row in rows if row not in page] == []


def test_a_factor_can_be_given_and_a_wrong_one_is_said():
    def run(*words):
        return subprocess.run([sys.executable, str(SCRIPTS / "cluster_cost"), *words], capture_output=True, text=True)

    assert "| `speed_1` | 583 steps/s | given with --factor |" in run("--factor", "speed_1=583").stdout
    for wrong in ("speed=1", "speed_1", "speed_1=x"):
        done = run("--factor", wrong)
        assert done.returncode == 1
        assert done.stderr.startswith(f"--factor {wrong}: it is NAME=VALUE, with a name of speed_1, ")


def test_time_lost_by_hand():
    lost = script("scheduling").lost
    # Two places, from second 0 to second 12, when the last of four trainings begins.
    found = lost([(1.0, 11.0), (2.0, 10.0), (12.0, 20.0), (10.5, 20.0)], 2, 0.0)
    assert found["share"] == pytest.approx((1 + 1 + 2 + 0.5) / 24)
    assert found["seconds"] == pytest.approx(4.5 / 4)
    assert found["per_training"] == pytest.approx((10 + 8 + 8 + 9.5) / 4)
