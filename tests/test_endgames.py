"""End-game replay: games that start shortly before an earlier one lost a life."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ale_py import ALEInterface

import playfield
from playfield.cli import main
from playfield.envs import endgames, failures, make_envs, make_from
from playfield.envs.atari import rom
from playfield.envs.atari_facts import LIVES_AND_ACTIONS
from playfield.envs.atari_protocol import PROTOCOLS, protocol
from playfield.envs.endgames import Endgames
from playfield.errors import DataError, UsageError
from playfield.runs.tree import tree_hash

CLASSIC, V5 = PROTOCOLS["classic"], PROTOCOLS["v5"]
QUIET = {"games": 0, "film": False, "tensorboard": False, "console": False}


def games(share: float = 0.5, num_envs: int = 4, rules=V5, game: str = "breakout") -> Endgames:
    env = Endgames(game, num_envs, rules, share)
    env.reset(np.arange(num_envs))
    return env


def lines(env: Endgames) -> list[tuple[int, bytes]]:
    """The seed and the actions of each game under way."""
    return [(int(s), bytes(a)) for s, a in zip(env._log.seed, env._log.actions, strict=True)]


class Alone:
    """One game by a seed and its actions, played by an emulator of its own, without a state ever being copied.

    Sticky frames are drawn here, from the numbers that the game's own generator gives.
    """

    def __init__(self, rules, seed: int, actions: bytes) -> None:
        self.rules, self.ale = rules, ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.setInt("frame_skip", 1)
        self.ale.setInt("random_seed", 1)
        self.ale.loadROM(rom("breakout"))
        self.moves, self.last = self.ale.getMinimalActionSet(), 0
        self.random = np.random.default_rng(seed)
        self.ale.reset_game()
        noops = int(self.random.integers(max(rules.noop, 1)))
        for k in range(noops):
            self.frame(1 if k == 0 and rules.fire_reset else 0)
        for action in actions:
            self.step(action)

    def frame(self, action: int) -> float:
        if not self.rules.sticky or self.random.random() >= self.rules.sticky:
            self.last = action
        return self.ale.act(self.moves[self.last])

    def step(self, action: int) -> tuple[float, int, bytes]:
        """(reward, lives, RAM) after a step."""
        reward = sum(self.frame(action) for _ in range(4))
        return reward, self.ale.lives(), self.ale.getRAM().tobytes()


@pytest.mark.parametrize("rules", [CLASSIC, V5], ids=["classic", "v5"])
def test_a_game_goes_on_from_a_state_frame_for_frame_as_that_one_did(rules):
    random = np.random.default_rng(1)
    env = games(0.9, 2, rules)
    alone: dict[int, Alone] = {}
    compared = 0
    for _ in range(600):
        actions = random.integers(4, size=2)
        executed = env.executed(actions)
        step = env.step(actions)
        ended = {e.env for e in step.episodes}
        for i, one in list(alone.items()):
            reward, lives, ram = one.step(int(executed[i]))
            if i in ended:
                assert one.ale.game_over()
                del alone[i]
                continue
            assert (reward, lives) == (step.reward[i], env.lives[i])
            assert ram == env._games[i].ale.getRAM().tobytes()
            compared += 1
        for i in ended:
            if env._games[i].replayed:
                seed, past = lines(env)[i]
                alone[i] = Alone(rules, seed, past)
                assert alone[i].ale.getRAM().tobytes() == env._games[i].ale.getRAM().tobytes()
    assert compared > 100


@pytest.mark.parametrize(
    ("rules", "shape"),
    [
        (protocol("v4"), (84, 84, 4)),
        (protocol("v5", obs="ram"), (128,)),
        (protocol("v5", colour="rgb"), (84, 84, 12)),
    ],
    ids=["v4", "ram", "colour"],
)
def test_its_observations_are_those_of_a_game_that_was_played_to_there(rules, shape):
    random = np.random.default_rng(2)
    env, checked = games(0.9, 2, rules), 0
    while checked < 2:
        step = env.step(random.integers(4, size=2))
        for i in {e.env for e in step.episodes}:
            if env._games[i].replayed and checked < 2:
                seed, past = lines(env)[i]
                plain = env._emulator("breakout", env._fire)
                plain.seed(seed)
                for action in past:
                    plain.step(action)
                assert np.array_equal(plain.observation(), step.obs[i])
                assert step.obs[i].shape == shape
                copy = env._emulator("breakout", env._fire)
                for action in random.integers(4, size=30).tolist():
                    copy.go_to(plain.snapshot())
                    assert plain.step(action) == copy.step(action)
                    assert np.array_equal(plain.observation(), copy.observation())
                    if plain.ale.game_over():
                        break
                checked += 1
    assert checked == 2


def test_frames_are_as_sticky_as_the_protocol_says(monkeypatch):
    env = games(0.5, 1)
    asked, done = [], []
    kind = type(env._games[0])
    act = kind.act

    def listen(self, action: int) -> int:
        asked.append(action)
        reward = act(self, action)
        done.append(self.last)
        return reward

    monkeypatch.setattr(kind, "act", listen)
    for t in range(1100):
        env.step(np.array([2 + t % 2]))
    changes = [k for k in range(1, len(asked)) if asked[k] != asked[k - 1]]
    repeated = np.mean([done[k] != asked[k] for k in changes])
    assert abs(repeated - 0.25) < 4 * (0.25 * 0.75 / len(changes)) ** 0.5
    assert len(changes) > 1000


def test_states_are_of_the_last_steps_before_a_life_was_lost_and_each_is_used_at_most_five_times():
    random = np.random.default_rng(3)
    env = games(0.7, 4)
    losses: dict[tuple[int, bytes], int] = {}
    starts: Counter[tuple[int, bytes]] = Counter()
    before, replayed = env.lives, []
    paths = lines(env)
    for _ in range(900):
        actions = random.integers(4, size=4)
        executed = env.executed(actions)
        step = env.step(actions)
        paths = [(seed, past + bytes([a])) for (seed, past), a in zip(paths, executed.tolist(), strict=True)]
        ended = {e.env for e in step.episodes}
        for i in range(4):
            if i in ended or env.lives[i] < before[i]:
                losses[paths[i]] = len(paths[i][1])
        paths, before = lines(env), env.lives
        for i in ended:
            assert not env._notes[i]  # the state that it started from is not kept a second time
            replayed.append(env._games[i].replayed)
            if replayed[-1]:
                starts[paths[i]] += 1
    assert max(starts.values()) <= failures.TIMES
    for seed, past in starts:
        after = [n - len(past) for (s, whole), n in losses.items() if s == seed and whole.startswith(past)]
        assert 0 < min(after) <= failures.BEFORE
    late = replayed[5:]
    assert abs(np.mean(late) - 0.7) < 4 * (0.7 * 0.3 / len(late)) ** 0.5
    assert 0 < len(env._kept) <= failures.KEPT


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(endgames, "KEPT", 3)
    env, random = games(0.0, 4), np.random.default_rng(0)
    kept: list[bytes] = []
    for _ in range(300):
        env.step(random.integers(4, size=4))
        kept += [k.actions for k in env._kept if k.actions not in kept]
        assert len(env._kept) <= 3
    assert len(kept) > 6
    assert [k.actions for k in env._kept] == kept[-3:]
    assert sum(g.replayed for g in env._games) == 0


def test_the_same_in_a_new_process_from_a_snapshot():
    random = np.random.default_rng(5)
    env = games(0.5, 3, CLASSIC)
    for _ in range(330):
        env.step(random.integers(4, size=3))
    state = env.state()
    other = Endgames("breakout", 3, CLASSIC, 0.5)
    assert np.array_equal(other.restore(state), env._obs)
    used = [k.used for k in env._kept]
    assert any(used)
    assert [k.used for k in other._kept] == used
    assert tree_hash(other.state()) == tree_hash(state)
    replayed = 0
    for _ in range(300):
        actions = random.integers(4, size=3)
        one, two = env.step(actions), other.step(actions)
        assert np.array_equal(one.obs, two.obs)
        assert np.array_equal(one.next_obs, two.next_obs)
        assert (one.reward.tolist(), one.episodes) == (two.reward.tolist(), two.episodes)
        replayed += sum(e.replayed for e in one.episodes)
    assert replayed
    assert tree_hash(env.state()) == tree_hash(other.state())


@pytest.fixture(scope="module")
def played() -> dict:
    env, random = games(0.5, 2), np.random.default_rng(0)
    while len(env._kept) < 3:
        env.step(random.integers(4, size=2))
    return env.state()


@pytest.mark.parametrize("change", ["action", "length", "used", "share", "end", "note"])
def test_a_snapshot_that_cannot_be_is_refused(played, change):
    kept = {k: v.copy() for k, v in played["kept"].items()}
    state = {**played, "kept": kept}
    if change == "action":
        kept["log"][0] = 200
    elif change == "length":
        kept["length"][0] += 1
    elif change == "used":
        kept["used"][0] = failures.TIMES
    elif change == "share":
        state["share"] = 0.4
    elif change == "note":
        state["noted"] = played["noted"] + 1
    else:
        kept["log"] = np.concatenate([np.zeros(30_000, np.uint8), kept["log"]])
        kept["length"][0] += 30_000
    with pytest.raises(DataError):
        Endgames("breakout", 2, V5.changed(cap=2000) if change == "end" else V5, 0.5).restore(state)


def test_a_state_that_is_not_reached_is_said(played):
    kept = {**played["kept"], "check": played["kept"]["check"] + 1}
    with pytest.warns(RuntimeWarning, match="a kept state is not what it was"):
        Endgames("breakout", 2, V5, 0.5).restore({**played, "kept": kept})


# Trainings --------------------------------------------------------------------------------------------


def train(run: Path, algo: str = "ppo", share: float = 0.5, **more) -> playfield.session.Result:
    options = {
        "ppo": {"num_envs": 4, "rollout_steps": 32, "net": "nips:width=0.25"},
        "a2c": {"num_envs": 4, "rollout_steps": 64, "net": "nips:width=0.25"},
        "dqn": {
            "num_envs": 4,
            "rollout_steps": 64,
            "capacity": 2000,
            "learning_starts": 1024,
            "train_period": 64,
            "net": "nips:width=0.25",
        },
    }[algo]
    config = {**options, "replay_failures": share}
    return playfield.train("breakout", algo, run=run, workers=1, config=config, **{"steps": 2048, **QUIET, **more})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, list, list[str], playfield.session.Result]:
    """A run, the episodes that its environments told of, what was said, and the result."""
    path, told, said = tmp_path_factory.mktemp("endgames") / "run", [], []
    with pytest.MonkeyPatch.context() as patch:
        step = Endgames.step

        def listen(self, actions):
            record = step(self, actions)
            told.extend(record.episodes)
            return record

        patch.setattr(Endgames, "step", listen)
        result = train(path, say=said.append, save_seconds=0, keep=100)
    return path, told, said, result


def rows(path: Path, skip: int = 0) -> list[dict]:
    with open(path, newline="") as file:
        for _ in range(skip):
            next(file)
        return list(csv.DictReader(file))


def test_such_games_are_no_scores(run):
    path, told, _, result = run
    scores = [e.score for e in told if not e.replayed]
    replayed = sum(e.replayed for e in told)
    assert replayed > 2
    assert [float(r["r"]) for r in rows(path / "monitor.csv", 1)] == scores
    assert result.score == pytest.approx(np.mean(scores))
    last = rows(path / "metrics.csv")[-1]
    assert float(last["rollout/ep_rew_mean"]) == pytest.approx(np.mean(scores))
    assert (int(last["rollout/games"]), int(last["rollout/replayed_games"])) == (len(scores), replayed)
    assert json.loads((path / "run.json").read_text())["result"]["games"] == len(scores)


def test_the_plan_and_the_run_say_that_it_is_on(run):
    path, _, said, _ = run
    assert "end games  50 % of games start up to 200 steps before a life was lost" in "\n".join(said)
    info = json.loads((path / "run.json").read_text())
    assert info["config"]["replay_failures"] == 0.5
    assert "--replay-failures 0.5" in (path / "command.txt").read_text()
    assert info["protocol"] == make_envs("breakout", 1).spec.protocol  # scores are of full games


def test_its_agent_is_evaluated_on_full_games(run, monkeypatch):
    monkeypatch.setattr(Endgames, "__init__", lambda *_: pytest.fail("no replay here"))
    policy = playfield.load_policy(run[0])
    env = make_from(policy.spec, 1)
    assert env.reset(np.array([1])).shape == (1, 84, 84, 4)


def cut(path: Path, to: Path, share: float) -> None:
    """A copy of a run as if it had been killed when that share of its checkpoints was written."""
    shutil.copytree(path, to, symlinks=True)
    folder = to / "checkpoints"
    found = sorted(folder.glob("ckpt-*"))
    for one in found[round(share * len(found)) :]:
        shutil.rmtree(one)
    for mark in ("last", "best"):
        place = folder / mark
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)


def test_a_killed_run_ends_with_the_same_hash(run, tmp_path):
    path, _, _, result = run
    for k, share in enumerate((0.5, 0.9)):
        cut(path, again := tmp_path / str(k), share)
        assert playfield.train(resume=again, **QUIET).hash == result.hash
        for name, skip in (("metrics.csv", 0), ("monitor.csv", 1)):
            both = [
                [{k: v for k, v in row.items() if not k.startswith("time/") and k != "t"} for row in rows(p, skip)]
                for p in (path / name, again / name)
            ]
            assert both[0] == both[1]


@pytest.mark.parametrize("algo", [pytest.param("a2c", marks=pytest.mark.slow), "dqn"])
def test_so_do_those_of_other_algorithms(algo, tmp_path):
    whole = train(tmp_path / "whole", algo, save_seconds=0, keep=100)
    cut(tmp_path / "whole", tmp_path / "again", 0.8)
    assert playfield.train(resume=tmp_path / "again", **QUIET).hash == whole.hash
    assert "rollout/replayed_games" in rows(tmp_path / "whole" / "metrics.csv")[-1]


def test_without_it_no_such_environment_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(Endgames, "__init__", lambda *_: pytest.fail("it is off"))
    result = train(tmp_path / "off", share=0.0, steps=256)
    assert result.steps == 256


# What is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["CartPole-v1"], "is for Atari games, and CartPole-v1 is none"),
        (["qbert"], "cannot restore a state of qbert exactly"),
        (["pong"], "pong counts no lives"),
        (["breakout", "--view", "mono,trim"], "leave out --view"),
        (["breakout", "--algo", "pqn"], "--replay-failures"),
        (["breakout", "--algo", "dqn", "--replay-failures", "0.95"], "between 0 and 0.9"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(words, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [] if "--replay-failures" in words else ["--replay-failures", "0.1"]
    assert main(["train", *words, *given, "--steps", "256", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_game_that_does_not_go_on_as_it_did_is_found_before_the_training():
    Endgames("breakout", 1, V5, 0.1).prove()
    with pytest.raises(UsageError, match="cannot restore a state of qbert exactly"):
        Endgames("qbert", 1, CLASSIC, 0.1).prove()
    assert LIVES_AND_ACTIONS.keys() >= failures.INEXACT
