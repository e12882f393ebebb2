"""`playfield bench linear`: both sides play the same episodes, how figures add up, and what is refused."""

from __future__ import annotations

import contextlib
import io
import json
import os

import numpy as np
import pytest
from gymnasium.envs.classic_control import MountainCarEnv

from playfield import bench
from playfield.bench import _child_linear, linear
from playfield.errors import PlayfieldError, UsageError


def measured(seconds: float, steps: int, episodes: int, runs=("a", "b"), **more) -> dict:
    return {"seconds": seconds, "steps": steps, "episodes": episodes, "runs": list(runs), "threads": 1, **more}


def results(gym_runs=("b",), again=("a", "b")) -> dict:
    """One round: the loop 10 steps a second, ours 4,000 steps of 20 episodes in half a second."""
    return {
        "gym": [measured(20, 200, 5, gym_runs, seeds=[1])],
        "ours": [measured(0.5, 4000, 20)],
        "one-thread": [measured(1.0, 4000, 20, again)],
        "A": [measured(0.1, 100, 45, first_call=0.4, imports=1.0)],
        "C": [measured(5.0, 100, 1000, last_steps=[1.0, 2.0, 3.0])],
        "compiling": [measured(0.1, 100, 45, first_call=9.0, imports=1.0)],
    }


def test_ratios_by_hand() -> None:
    out = linear.report(results())
    assert out["ratio"] == out["ratio_min"] == 800  # 0.1 s a step, 1/8000 s
    assert out["ratio_per_episode"] == 160  # 4 s an episode, 1/40 s
    assert out["ratio_one_thread"] == 400
    assert out["same_episodes"]
    assert [out["A"][f"{key}_seconds"] for key in ("compiling", "first_call", "imports")] == [9, 0.4, 1]
    found = {name: (t["found"], t["met"]) for name, t in out["targets"].items()}
    assert found == {"ratio": (160, True), "A": (0.1, True), "C": (5.0, False)}


def test_other_episodes_are_told() -> None:
    assert not linear.report(results(gym_runs=("a",)))["same_episodes"]
    with pytest.raises(PlayfieldError, match="other episodes"):
        linear.report(results(again=("a", "c")))


def test_the_plain_loop_plays_our_episodes() -> None:
    """The lengths of all episodes of two runs are the same."""
    loop, ours = _child_linear.gym([1, 2], 3), _child_linear.ours(3, 3, 1)
    assert loop["runs"] == ours["runs"][1:]
    assert loop["episodes"] == 6
    assert ours["episodes"] == 9
    assert loop["steps"] > 6 * 100
    assert ours["steps"] > loop["steps"]


def test_the_plain_loop_learns() -> None:
    lengths = _child_linear._sarsa(MountainCarEnv(), np.random.default_rng(0), 30)
    assert lengths[0] > 500
    assert max(lengths[-5:]) < 400


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One side in a process of its own; the others in this one, where all is imported."""
    apart = linear.measure

    def measure(arguments: list[str], child: str) -> dict:
        if arguments[0] == "ours":
            return apart(arguments, child=child)
        with contextlib.redirect_stdout(io.StringIO()) as told:
            _child_linear.main([*arguments, "--parent", str(os.getppid())])
        return json.loads(told.getvalue().splitlines()[-1])["result"]

    monkeypatch.setattr(linear, "measure", measure)


@pytest.mark.usefixtures("few")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A whole benchmark of tiny runs."""
    made = bench.main("linear", runs=3, episodes=2, rounds=1, compiling=False, json=True)
    printed = capsys.readouterr()
    out = json.loads(printed.out)
    assert out == json.loads(json.dumps(made))
    assert out["same_episodes"]
    assert out["ratio"] > 1
    assert set(out["targets"]) == {"ratio", "A", "C"}
    assert out["C"]["episodes"] == 3 * 2
    assert "compiling_seconds" not in out["A"]
    assert "1 of 5: plain loop over Gymnasium" in printed.err


def test_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = results()
    monkeypatch.setattr(linear, "_measure", lambda side, *_: found[side][0])
    bench.main("linear", runs=3, rounds=1)
    printed = " ".join(capsys.readouterr().out.split())
    assert "per step: 800" in printed
    assert "the same lengths" in printed
    assert "ratio met, A met, C NOT met" in printed
    assert "(9 s if it must compile)" in printed


def test_refusals() -> None:
    with pytest.raises(UsageError, match="runs must be at least 3"):
        bench.main("linear", runs=2, rounds=3)
    with pytest.raises(UsageError, match="no option --busy"):
        bench.main("linear", busy=True)
