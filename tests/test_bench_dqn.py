"""`playfield bench dqn`: what its children count, how it adds up, and that both sides do the same work."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from playfield import bench
from playfield.bench import _child_dqn, _sides, dqn
from playfield.cli import main
from playfield.errors import UsageError

OURS = {
    "emulation",
    "inference",
    "rollout rest",
    "sampling and targets",
    "gradients",
    "optimizer",
    "training rest",
    "rest",
}


@pytest.fixture(scope="module")
def ours():
    """What a child measured: 64 steps after a warm-up of as many."""
    return dqn.measure(["ours", "--intervals", "1", "--part", "128"], child="_child_dqn")


@pytest.fixture(scope="module")
def fused():
    return dqn.measure(["fused", "--intervals", "1", "--part", "256"], child="_child_dqn")


@pytest.fixture(scope="module")
def concurrent():
    return dqn.measure(["concurrent", "--intervals", "1", "--part", "128"], child="_child_dqn")


def measured(steps: int, seconds: float) -> dict:
    return {"steps": steps, "seconds": seconds, "phases": {"a": seconds}, "device": "cpu"}


def adds_up(result: dict) -> bool:
    """The phases are the whole, and no phase counts time twice."""
    phases = result["phases"]
    whole = sum(phases.values()) == pytest.approx(result["seconds"], rel=1e-6)
    return whole and min(phases.values()) > -0.02 * result["seconds"]


def test_every_measured_step_learns_from_8_samples(ours, fused) -> None:
    assert (ours["steps"], ours["updates"], ours["config"]["batch_size"]) == (128, 32, 32)
    assert (fused["steps"], fused["updates"], fused["config"]["batch_size"]) == (256, 16, 128)
    assert ours["samples_per_step"] == fused["samples_per_step"] == 8
    for side in (ours, fused):
        assert (side["config"]["num_envs"], side["config"]["rollout_steps"]) == (32, 1)
        assert side["config"]["net"] == "nature"
        assert side["protocol"].startswith("classic: ")
        assert side["replay"] == {"capacity": 100_000, "packed": True}


def test_fused_differs_by_its_minibatches_only(ours, fused) -> None:
    differ = {k for k, v in ours["config"].items() if fused["config"][k] != v}
    assert differ == {"train_period", "batch_size", "learning_starts"}  # the last from the length of its warm-up


def test_phases_are_parts_of_the_total(ours, fused) -> None:
    for side in (ours, fused):
        assert set(side["phases"]) == OURS
        assert adds_up(side)
        for name in ("emulation", "inference", "sampling and targets", "gradients", "optimizer"):
            assert side["phases"][name] > 0
        assert side["phases"]["rest"] < 0.5 * side["seconds"]


@pytest.mark.slow
def test_concurrent_differs_by_that_only(ours, concurrent) -> None:
    differ = {k for k, v in ours["config"].items() if concurrent["config"][k] != v}
    assert differ == {"concurrent"}
    assert (concurrent["steps"], concurrent["updates"], concurrent["samples_per_step"]) == (128, 32, 8)
    assert adds_up(concurrent)
    assert "waiting for collection" in concurrent["phases"]


def test_phases_from_clocks() -> None:
    clocks = {"emulation": 1.0, "inference": 2.0, "rollout": 4.0, "targets": 8.0}
    clocks |= {"gradient": 16.0, "optimizer": 32.0, "training": 64.0, "total": 128.0, "updates": 5}
    assert _child_dqn.phases(clocks) == {
        "emulation": 1,
        "inference": 2,
        "rollout rest": 4 - 1 - 2,
        "sampling and targets": 8,
        "gradients": 16,
        "optimizer": 32,
        "training rest": 64 - 16 - 32,
        "rest": 128 - 4 - 8 - 64,
    }


def test_fused_updates_never_enter_the_strict_ratio() -> None:
    results = {
        ("ours", False): [measured(100, s) for s in (1.0, 2.0, 0.5)],  # 100, 50, 200 steps/s
        ("sb3", False): [measured(100, s) for s in (4.0, 4.0, 10.0)],  # 25, 25, 10
        ("fused", False): [measured(100, s) for s in (0.5, 1.0, 0.25)],  # 200, 100, 400
    }
    out = _sides.report("dqn", results, ["ours", "sb3"], ["fused"])
    assert (out["bench"], out["vs"]) == ("dqn", "sb3")
    assert out["speeds"] == {"ours": 100, "sb3": 25, "fused": 200}
    assert (out["ratio_min"], out["ratio"], out["ratio_max"]) == (2, 4, 20)
    assert out["ratios"] == {"sb3": {"ratio": 4, "ratio_min": 2, "ratio_max": 20}}
    assert out["fused"] == {"ratio": 8, "ratio_min": 4, "ratio_max": 40}
    assert set(out["sides"]) == {"ours", "sb3", "fused"}
    without = _sides.report("dqn", {k: v for k, v in results.items() if k[0] != "fused"}, ["ours", "sb3"])
    assert "fused" not in without
    assert without["ratio"] == out["ratio"]


@pytest.fixture
def fake(ours, monkeypatch: pytest.MonkeyPatch) -> list:
    """Measurements that cost nothing, and the list of those asked for: fused is twice, SB3 a quarter as fast."""
    asked: list[tuple[list[str], str]] = []
    factors = {"ours": 1.0, "fused": 0.5, "concurrent": 0.8, "sb3": 4.0}

    def measure(arguments: list[str], progress, child: str) -> dict:
        asked.append((arguments, child))
        side = "sb3" if child == "_child_sb3" else arguments[0]
        factor = factors[side]
        phases = {k: v * factor for k, v in ours["phases"].items()}
        out = ours | {"seconds": ours["seconds"] * factor, "phases": phases}
        if side == "sb3":
            out |= {"replay": {"capacity": 10_000, "bytes_each": 56_448}}
        return out

    monkeypatch.setattr(dqn, "measure", measure)
    monkeypatch.setattr(dqn, "PEERS", {"sb3": "torch"})
    return asked


def test_json(fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "dqn", "--vs", "sb3", "--rounds", "2", "--steps", "1025", "--json"]) == 0
    printed = capsys.readouterr()
    out = json.loads(printed.out)
    children = (("ours", "_child_dqn"), ("dqn", "_child_sb3"), ("fused", "_child_dqn"))
    one_round = [([name, "--intervals", "2", "--part", "1024"], child) for name, child in children]
    assert fake == one_round * 2
    assert (out["bench"], out["env"], out["vs"], out["rounds"]) == ("dqn", "breakout", "sb3", 2)
    assert out["steps"] == 2048  # rounded up to whole parts
    assert out["warmup_steps"] == 1024
    assert out["ratio"] == pytest.approx(4)
    assert out["fused"]["ratio"] == pytest.approx(8)
    assert out["cores"] >= 1
    assert {"playfield", "python", "torch", "ale-py"} <= set(out["versions"])
    for side in ("ours", "fused", "sb3"):
        phases = out["sides"][side]["phases"]
        assert set(phases) == OURS | {"total"}
        assert sum(p["percent"] for name, p in phases.items() if name != "total") == pytest.approx(100)
        assert phases["total"]["percent"] == 100
    assert out["sides"]["sb3"]["replay"] == {"capacity": 10_000, "bytes_each": 56_448}
    assert "3 of 6: playfield, fused updates" in printed.err


def test_tables(fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "dqn", "--vs", "sb3", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    assert "playfield / Stable-Baselines3: 4.00" in out
    assert "playfield, fused updates / Stable-Baselines3: 8.00" in out
    assert out.count("where the time goes") == 3
    assert "sampling and targets" in out
    assert "10,000 transitions of 56,448 bytes each" in " ".join(out.split())


def test_concurrent_is_measured_on_request(fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "dqn", "--vs", "sb3", "--no-fused", "--concurrent", "--rounds", "1", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert [arguments[0] for arguments, _ in fake] == ["ours", "dqn", "concurrent"]
    assert out["concurrent"]["ratio"] == pytest.approx(5)
    assert out["ratio"] == pytest.approx(4)


def test_sides_that_are_not_wanted_are_not_measured(fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "dqn", "--vs", "none", "--no-fused", "--rounds", "1", "--busy", "--json"]) == 0
    assert [arguments[0] for arguments, _ in fake] == ["ours", "ours"]
    out = json.loads(capsys.readouterr().out)
    assert out["vs"] is None
    assert not {"ratio", "ratios", "fused"} & set(out)
    assert out["busy"]["ours"]["beside"] > 0
    assert main(["bench", "dqn", "--vs", "none", "--rounds", "1"]) == 0
    assert [arguments[0] for arguments, _ in fake[2:]] == ["ours", "fused"]
    assert " / Stable-Baselines3" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dqn", "--vs", "sb4"], "no peer called 'sb4': did you mean sb3"),
        (["dqn", "--vs", "cleanrl"], "no peer called 'cleanrl'"),
        (["dqn", "--vs", "sb3,sb3"], "names a peer twice"),
        (["dqn", "--script", "x.py"], "bench dqn has no option --script"),
        (["dqm"], "did you mean dqn"),
        (["howto", "--fused"], "bench howto has no option --fused"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dqn, "PEERS", {"sb3": "json"})  # installed or not does not matter here
    assert main(["bench", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert out == ""


def test_missing_peer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dqn, "PEERS", {"sb3": "no_such_package_here"})
    with pytest.raises(UsageError, match=r"pip install 'playfield\[bench\]'"):
        bench.main("dqn")


def test_sizes_that_cannot_be() -> None:
    for part in (128, 272):  # too short to fill a fused minibatch; not a multiple of 32 steps
        with pytest.raises(UsageError, match="at least 256 and a multiple of 32"):
            bench.main("dqn", vs="none", part=part)


@pytest.mark.slow
def test_sb3_does_the_same_work(ours) -> None:
    """Its child runs, counts the same samples, and was given what ours was."""
    pytest.importorskip("stable_baselines3")
    sb3 = dqn.measure(["dqn", "--intervals", "1", "--part", "32"], child="_child_sb3")
    assert (sb3["steps"], sb3["updates"], sb3["samples_per_step"]) == (32, 8, 8)
    assert set(sb3["phases"]) == {"rollout", "training", "rest"}
    assert adds_up(sb3)
    assert sb3["phases"]["training"] > 0
    assert sb3["replay"] == {"capacity": 10_000, "bytes_each": 2 * 84 * 84 * 4}
    names = {
        "learning_rate": "lr",
        "batch_size": "batch_size",
        "train_freq": "train_period",
        "target_update_interval": "target_period",
        "max_grad_norm": "max_grad_norm",
        "gamma": "gamma",
        "exploration_initial_eps": "epsilon_start",
        "exploration_final_eps": "epsilon_end",
    }
    for theirs, mine in names.items():
        assert sb3["config"][theirs] == ours["config"][mine], theirs
    assert not any(ours["config"][switch] for switch in ("double", "dueling", "noisy", "alpha", "anneal"))
    assert ours["config"]["n_step"] == 1


@pytest.mark.slow
def test_sb3_in_turn_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("stable_baselines3")
    out = bench.main("dqn", vs="sb3", steps=256, rounds=1, part=256)
    assert out["ratio"] == pytest.approx(out["speeds"]["ours"] / out["speeds"]["sb3"])
    assert out["fused"]["ratio"] == pytest.approx(out["speeds"]["fused"] / out["speeds"]["sb3"])
    assert {s["samples_per_step"] for s in out["sides"].values()} == {8}
    assert "playfield / Stable-Baselines3" in capsys.readouterr().out


def test_starting_up_is_light() -> None:
    """A mistake in the command is reported before torch is imported."""
    code = "import sys; from playfield.bench import dqn; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
