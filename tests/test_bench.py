"""The benchmarks: the shape of their JSON, their arithmetic, and that they end their children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ale_py import ALEInterface, roms

from playfield import bench
from playfield.algos.ppo import PRESETS
from playfield.bench import _cleanrl, _settings, howto, ppo
from playfield.bench._progress import Progress
from playfield.envs import make_envs
from playfield.envs.base import EnvSpec, Step
from playfield.errors import PlayfieldError, UsageError

PARTS = {"emulation", "inference", "rollout rest", "gradients", "optimizer", "training rest", "rest"}


@pytest.fixture(scope="module")
def ours():
    """What a child measured: 2 rollouts of 2 envs x 16 steps after one of warm-up."""
    return ppo.measure(["ours", "--rollouts", "2", "--envs", "2", "--rollout", "16"])


def measured(steps: int, seconds: float, **phases: float) -> dict:
    return {"steps": steps, "seconds": seconds, "phases": phases, "device": "cpu"}


def test_child_counts_everything_after_the_warm_up(ours) -> None:
    assert ours["steps"] == 2 * 2 * 16
    assert ours["updates"] == 3 * 4  # 4 epochs of one minibatch, the warm-up's too
    assert ours["config"]["num_envs"] == 2
    assert ours["config"]["net"] == "nature"
    assert ours["protocol"].startswith("classic: ")


def test_phases_are_parts_of_the_total(ours) -> None:
    phases = ours["phases"]
    assert set(phases) == PARTS
    assert sum(phases.values()) == pytest.approx(ours["seconds"], rel=1e-6)
    # No part counts time twice: what is left over after each split cannot be less than nothing.
    assert min(phases.values()) > -0.02 * ours["seconds"]
    assert phases["gradients"] > 0
    assert phases["emulation"] > 0
    assert phases["rest"] < 0.5 * ours["seconds"]


def test_report_takes_medians_of_pairs() -> None:
    results = {
        ("ours", False): [measured(100, s, a=s) for s in (1.0, 2.0, 0.5)],  # 100, 50, 200 steps/s
        ("sb3", False): [measured(100, s, a=s) for s in (4.0, 4.0, 10.0)],  # 25, 25, 10
    }
    out = ppo.report(results, ["ours", "sb3"])
    assert out["speeds"] == {"ours": 100, "sb3": 25}
    assert (out["ratio_min"], out["ratio"], out["ratio_max"]) == (2, 4, 20)
    assert "busy" not in out


def test_report_of_one_round_divides_the_speeds() -> None:
    results = {("ours", False): [measured(300, 1.5, a=1.0)], ("sb3", False): [measured(300, 6.0, a=1.0)]}
    out = ppo.report(results, ["ours", "sb3"])
    assert out["ratio"] == out["speeds"]["ours"] / out["speeds"]["sb3"] == 4


@pytest.mark.parametrize(("seconds", "kept", "met"), [(1.6, 0.625, True), (2.5, 0.4, False)])
def test_fraction_of_speed_kept_with_one_core_busy(seconds: float, kept: float, met: bool) -> None:
    results = {("ours", False): [measured(100, 1.0, a=1.0)], ("ours", True): [measured(100, seconds, a=1.0)]}
    busy = ppo.report(results, ["ours"])["busy"]
    assert busy["ours"]["kept"] == pytest.approx(kept)
    assert busy["target_met"] is met


def test_phase_table_adds_runs_up() -> None:
    table = ppo.phase_table([measured(1000, 3.0, a=1.0, b=2.0), measured(1000, 5.0, a=1.0, b=4.0)])
    assert table["a"] == {"seconds_per_1000_steps": 1.0, "percent": 25.0}
    assert table["b"] == {"seconds_per_1000_steps": 3.0, "percent": 75.0}
    assert table["total"] == {"seconds_per_1000_steps": 4.0, "percent": 100.0}


def test_json_with_one_core_busy(ours, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measure(arguments: list[str], progress, child: str) -> dict:
        assert child == "_child_ppo"
        asked.append(arguments)
        return ours

    monkeypatch.setattr(ppo, "measure", measure)
    made = bench.main("ppo", vs="none", steps=20, json=True, rounds=1, envs=2, rollout=16, busy=True)
    assert asked == [["ours", "--rollouts", "1", "--envs", "2", "--rollout", "16"]] * 2
    printed = capsys.readouterr()
    out = json.loads(printed.out)
    assert out == json.loads(json.dumps(made))
    assert out["steps"] == 32  # rounded up to whole rollouts
    assert out["vs"] is None
    assert "ratio" not in out
    assert set(out["sides"]["ours"]["phases"]) == PARTS | {"total"}
    assert out["cores"] >= 1
    assert {"playfield", "python", "torch", "ale-py"} <= set(out["versions"])
    assert out["busy"]["ours"]["beside"] > 0
    assert "1 of 2: playfield" in printed.err
    assert "2 of 2: playfield with one core kept busy" in printed.err


@pytest.mark.slow
def test_sb3_in_turn_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("stable_baselines3")
    out = bench.main("ppo", vs="sb3", steps=32, rounds=1, envs=2, rollout=16)
    assert out["ratio"] == pytest.approx(out["speeds"]["ours"] / out["speeds"]["sb3"])
    assert out["sides"]["sb3"]["updates"] == out["sides"]["ours"]["updates"]
    phases = out["sides"]["sb3"]["phases"]
    assert sum(p["percent"] for name, p in phases.items() if name != "total") == pytest.approx(100)
    assert phases["training"]["percent"] > 0
    assert "playfield / Stable-Baselines3" in capsys.readouterr().out


def test_sb3_does_the_same_work() -> None:
    """The sizes that the peer is given are those of the preset `cleanrl`."""
    cfg = PRESETS["atari"]["cleanrl"]
    sizes = (_settings.PPO_ENVS, _settings.PPO_ROLLOUT, _settings.PPO_EPOCHS, _settings.PPO_MINIBATCH)
    assert (cfg.num_envs, cfg.rollout_steps, cfg.epochs, cfg.batch // cfg.minibatches) == sizes


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="did you mean ppo"):
        bench.main("pppo")
    with pytest.raises(UsageError, match="no peer called 'sb4': did you mean sb3"):
        bench.main("ppo", vs="sb4")
    with pytest.raises(UsageError, match="names a peer twice"):
        bench.main("ppo", vs="cleanrl,cleanrl")
    with pytest.raises(UsageError, match="howto has no option --busy"):
        bench.main("howto", busy=True)
    with pytest.raises(UsageError, match="multiple of 256"):
        bench.main("ppo", vs="none", envs=8, rollout=100)
    with pytest.raises(UsageError, match="multiple of 5"):
        bench.main("howto", steps=13)


FAKE = """
import argparse, time
p = argparse.ArgumentParser()
for name in ("num-envs", "num-steps", "update-epochs", "num-minibatches", "total-timesteps"):
    p.add_argument("--" + name, type=int)
a = p.parse_args()
assert (a.update_epochs, a.num_minibatches) == (4, 4)
for k in range(a.total_timesteps // (a.num_envs * a.num_steps) - LESS):
    print("global_step=1, episodic_return=0.0")
    time.sleep(1.0 if k == 0 else 0.1)
    print("SPS: 7")
open("log", "w").close()  # it writes where it is started
"""


@pytest.fixture
def fake(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A script with CleanRL's options and lines; an interpreter that has all it needs."""
    monkeypatch.setattr(_cleanrl, "NEEDS", ())
    path = tmp_path / "fake.py"
    path.write_text(FAKE.replace("LESS", "0"))
    return path


def test_script_is_timed_from_the_end_of_its_warm_up(fake, tmp_path) -> None:
    shares: list[float] = []
    out = _cleanrl.Script.find(str(fake), None).measure(3, 8, 128, shares.append)
    assert out["steps"] == 3 * 1024
    assert 0.3 <= out["seconds"] < 1.0  # three pauses of 0.1 s, not the first of 1 s
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert out["updates"] == 4 * 16
    assert os.listdir(tmp_path) == ["fake.py"]


def test_script_that_says_too_little_is_an_error(fake) -> None:
    fake.write_text(FAKE.replace("LESS", "1"))
    with pytest.raises(PlayfieldError, match="3 rollouts of 4"):
        _cleanrl.Script.find(str(fake), None).measure(3, 8, 128)
    fake.write_text("raise ValueError('no ROM')")
    with pytest.raises(PlayfieldError, match="ValueError: no ROM"):
        _cleanrl.Script.find(str(fake), None).measure(3, 8, 128)


def test_script_and_interpreter_must_be_there(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--script ppo_atari_envpool"):
        bench.main("ppo", vs="cleanrl")
    with pytest.raises(UsageError, match="no such file"):
        bench.main("ppo", vs="cleanrl", script="none.py")
    with pytest.raises(UsageError, match="no such program"):
        bench.main("ppo", vs="cleanrl", script=str(fake), python="no-such-python")
    monkeypatch.setattr(_cleanrl, "NEEDS", ("sys", "no_such_package_here"))
    with pytest.raises(UsageError, match="lacks no_such_package_here"):
        bench.main("ppo", vs="cleanrl", script=str(fake))
    with pytest.raises(UsageError, match="are for --vs cleanrl"):
        bench.main("ppo", vs="none", script=str(fake))


def test_two_peers_have_a_ratio_each(
    ours, fake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ppo, "PEERS", {"sb3": "torch"})
    slower = ours | {"seconds": 4 * ours["seconds"]}
    monkeypatch.setattr(ppo, "measure", lambda _words, _progress, child: ours if child == "_child_ppo" else slower)
    out = bench.main("ppo", vs="sb3,cleanrl", script=str(fake), rounds=1, steps=1024)
    assert out["ratio"] == out["ratios"]["sb3"]["ratio"] == pytest.approx(4)
    assert out["ratios"]["cleanrl"]["ratio"] == out["speeds"]["ours"] / out["speeds"]["cleanrl"]
    printed = capsys.readouterr().out
    assert "playfield / Stable-Baselines3: 4.00" in printed
    assert "playfield / CleanRL (EnvPool): " in printed
    assert "fake.py" in printed


def test_missing_peer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ppo, "PEERS", {"sb3": "no_such_package_here"})
    with pytest.raises(UsageError, match=r"pip install 'playfield\[bench\]'"):
        bench.main("ppo", vs="sb3")


def test_a_failed_child_is_an_error_with_its_last_line() -> None:
    with pytest.raises(PlayfieldError, match=r"measurement of ppo nobody failed: .*invalid choice"):
        ppo.measure(["nobody"])


def test_ctrl_c_kills_the_children() -> None:
    # A shell's background job inherits an ignored SIGINT; what is tested is what a terminal does.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from playfield import bench; bench.main('ppo', vs='none', busy=True, steps=10**7)"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    children: list[int] = []
    try:
        while not children and time.monotonic() < deadline:
            children = _children(parent.pid)
            time.sleep(0.05)
        assert children
        os.kill(parent.pid, signal.SIGINT)
        parent.communicate(timeout=60)
        assert parent.returncode != 0
        assert not [pid for pid in children if _alive(pid)]
    finally:
        parent.kill()
        parent.communicate()


def test_a_child_ends_when_its_parent_is_killed() -> None:
    code = "from playfield.bench.ppo import measure; measure([], child='_child_busy')"
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 15
    children: list[int] = []
    while not children and time.monotonic() < deadline:
        children = _children(parent.pid)
        time.sleep(0.05)
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    assert children
    while any(_alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if _alive(pid)]


def _children(pid: int) -> list[int]:
    path = f"/proc/{pid}/task/{pid}/children"
    if not os.path.exists(path):
        pytest.skip("needs /proc/PID/task/PID/children")
    with open(path) as file:
        return [int(p) for p in file.read().split()]


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_seconds_left_add_up_what_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Progress(["a", "b", "a", "b"], {"a": "A", "b": "B"}) as progress:
        progress.begin()
        assert progress.left() is None
        now = 10.0
        progress.end()
        progress.begin()
        assert progress.left() == 10 + 10 + 10  # b is not known yet: taken for as long as a
        now = 15.0
        progress.done(0.25)
        assert progress.left() == 20 + 10 + 20 - 5
        assert progress.text() == "2 of 4: B, about 45 s left"


class Script:
    """One env whose rewards and ends of lives are written down."""

    spec = EnvSpec("breakout", "atari", (1,), "uint8", 2, ("a", "b"), {})
    num_envs = 2

    def __init__(self) -> None:
        self.t = 0

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        return np.zeros((2, 1), np.uint8)

    def step(self, actions: np.ndarray) -> Step:
        self.t += 1
        obs = np.zeros((2, 1), np.uint8)
        ends = np.array([self.t in (2, 5), False])
        cut = np.array([False, self.t == 4])
        return Step(obs, obs, np.array([1.0, self.t], np.float32), ends, cut)

    def state(self) -> dict:
        return {"t": self.t}

    def restore(self, state: dict) -> np.ndarray:
        return np.zeros((2, 1), np.uint8)

    def close(self) -> None: ...


def test_each_life_is_recorded() -> None:
    lives = howto.Lives(Script())
    lives.reset(np.array([1, 2]))
    for _ in range(6):
        lives.step(np.zeros(2, np.int64))
    assert list(lives.rewards) == [2.0, 1 + 2 + 3 + 4, 3.0]
    assert list(lives.lengths) == [2, 4, 3]


def test_howto_protocol_is_the_whole_screen() -> None:
    env = make_envs("breakout", 1, **howto.PROTOCOL)
    assert env.spec.obs_shape == (210, 160, 3)
    assert "skip 2 to 4 at random without max-pooling" in env.protocol.line()  # type: ignore[attr-defined]
    assert "210x160 rgb" in env.protocol.line()  # type: ignore[attr-defined]
    env.close()


def test_full_screen_is_what_the_emulator_shows() -> None:
    env = make_envs("breakout", 1, **howto.PROTOCOL)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path("breakout"))
    ale.reset_game()
    assert (env.reset(np.array([1]))[0] == ale.getScreenRGB()).all()
    actions = ale.getMinimalActionSet()
    random = np.random.default_rng(0)
    for action in random.integers(4, size=60).tolist():
        seen = env.step(np.array([action])).next_obs[0]
        for _ in range(env.held[0]):  # type: ignore[attr-defined]
            ale.act(actions[action])
        assert (seen == ale.getScreenRGB()).all()
    env.close()


def test_howto_prints_both_columns(capsys: pytest.CaptureFixture[str]) -> None:
    out = bench.main("howto", steps=40)
    assert out["ours"]["parameters"] == out["howto"]["parameters"] == 11_613_349
    assert set(out["ours"]) == set(out["howto"])
    assert out["ours"]["time/total_timesteps"] == 40
    assert out["ours"]["train/n_updates"] == 40  # 4 updates of 10 epochs
    assert out["ours"]["train/entropy_loss"] == pytest.approx(-np.log(4), abs=0.05)
    printed = capsys.readouterr()
    assert "0.42" in printed.out
    assert "11,613,349" in printed.out
    assert "held for 2, 3 or 4 frames at random" in printed.out
    assert "update 5 of 5 done" in printed.err


def test_sb3_presets_weigh_the_value_loss_as_sb3_does() -> None:
    """0.5 * mse in SB3 is vf_coef * 0.5 * mse here."""
    for kind in ("atari", "vector"):
        assert PRESETS[kind]["sb3-default"].vf_coef == 1.0
