"""Evaluation, replays of evaluated games, and policies read from run directories."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield import checkpoint
from playfield.actor_critic import ActorCritic, load_network
from playfield.algos import ppo
from playfield.envs import EnvSpec, make_envs, make_from
from playfield.errors import DataError, PlayfieldError, UsageError
from playfield.evaluation import Evaluation, Game, evaluate
from playfield.player import Player
from playfield.policy import ProbabilityPolicy, RandomPolicy, find_agent, load_policy, newest_run, spec_json
from playfield.stats import interval


def spec_of(env: str) -> EnvSpec:
    made = make_envs(env, 1)
    made.close()
    return made.spec


CARTPOLE, BREAKOUT = spec_of("CartPole-v1"), spec_of("breakout")


class Lean:
    """Pushes the cart towards where the pole falls; better for some envs than for others."""

    spec, label = CARTPOLE, "lean"

    def act(self, obs, uniform=None):
        return (obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(np.int64)

    def explain(self, obs):
        return {}


def replay(spec: EnvSpec, game: Game) -> tuple[float, int, int]:
    """Score, length and number of steps left over when the game's actions are played by one env alone."""
    env = make_from(spec, 1)
    env.reset(np.array([game.seed]))
    ended = []
    total = 0.0
    for t, action in enumerate(game.actions):
        record = env.step(np.array([action]))
        total += float(record.reward[0])
        if record.episodes:
            ended.append((total, record.episodes[0], t))
            total = 0.0
    env.close()
    assert len(ended) == game.number + 1
    own, episode, at = ended[-1]
    assert own == episode.score  # the raw reward adds up to the score
    return episode.score, episode.length, len(game.actions) - 1 - at


# Evaluation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("games", "num_envs"), [(7, 3), (3, 0), (12, 0), (1, 5), (4, 4)])
def test_every_env_plays_a_fixed_share(games, num_envs):
    told = []
    result = evaluate(RandomPolicy(CARTPOLE), games, num_envs=num_envs, on_game=lambda n, of: told.append((n, of)))
    n = min(num_envs or 10, games)
    seeds = [g.seed for g in result.games]
    shares = [seeds.count(s) for s in dict.fromkeys(seeds)]
    assert shares == [games // n + (i < games % n) for i in range(n)]
    for seed in set(seeds):
        assert [g.number for g in result.games if g.seed == seed] == list(range(seeds.count(seed)))
    assert told == [(i + 1, games) for i in range(games)]


def test_long_games_count_as_often_as_short_ones():
    """One env with long games, one with short ones: the first finisher must not fill the list."""

    class Uneven(RandomPolicy):
        def act(self, obs, uniform=None):
            good = Lean().act(obs)
            good[1:] = 0  # only env 0 plays well: its games last 500 steps, the others' about 10
            return good

    result = evaluate(Uneven(CARTPOLE), 8, num_envs=2)
    assert sorted(result.scores > 100) == [False] * 4 + [True] * 4


@pytest.mark.parametrize(("spec", "games", "num_envs"), [(CARTPOLE, 7, 3), (BREAKOUT, 3, 2)])
def test_scores_equal_a_replay_by_one_env(spec, games, num_envs):
    result = evaluate(RandomPolicy(spec), games, seed=3, num_envs=num_envs)
    for game in result.games:
        assert replay(spec, game) == (game.score, game.length, 0)


@pytest.mark.parametrize(("spec", "games"), [(CARTPOLE, 3), (BREAKOUT, 1)])
def test_a_seed_gives_one_evaluation(spec, games):
    def scores(seed: int, own: int) -> list:
        result = evaluate(RandomPolicy(spec, seed=own), games, seed=seed)
        return [(g.seed, g.number, g.score, g.actions.tolist()) for g in result.games]

    first = scores(1, 0)
    assert first == scores(1, 99)  # the policy's own generator is not used
    assert first != scores(2, 0)


def test_the_number_of_threads_changes_nothing():
    a, b = (evaluate(RandomPolicy(BREAKOUT), 2, threads=t).scores.tolist() for t in (1, 2))
    assert a == b


def test_summary():
    games = [Game(s, n, 5, i, np.zeros(n, np.int64)) for i, (s, n) in enumerate([(1.0, 10), (4.0, 20), (4.0, 60)])]
    result = Evaluation("breakout", "me", {"skip": 4}, games, 9, 1.23456, 0.5)
    summary = json.loads(json.dumps(result.summary()))
    assert summary["mean"] == 3
    assert (summary["median"], summary["min"], summary["max"]) == (4, 1, 4)
    assert summary["std"] == pytest.approx(math.sqrt(2))
    assert summary["mean_length"] == 30
    assert summary["scores"] == [1, 4, 4]
    assert 1 <= summary["ci95"][0] <= 3 <= summary["ci95"][1] <= 4
    assert (summary["protocol"], summary["seed"], summary["seconds"]) == ({"skip": 4}, 9, 1.235)
    assert result.best is games[1]  # the first of the best


def test_human_normalized_score():
    result = evaluate(RandomPolicy(BREAKOUT), 2)
    expected = (result.scores.mean() - 1.7) / (30.5 - 1.7)  # Mnih et al. 2015: random 1.7; human 30.5 of Wang 2016
    assert result.human_normalized == pytest.approx(expected, abs=0.02)
    assert evaluate(RandomPolicy(CARTPOLE), 1).human_normalized is None


@pytest.mark.parametrize("options", [{"games": 0}, {"games": -1}, {"num_envs": -1}])
def test_impossible_evaluations(options):
    with pytest.raises(UsageError, match=r"--(games|num-envs)"):
        evaluate(RandomPolicy(CARTPOLE), **options)


# The interval --------------------------------------------------------------------------------------------


def test_interval_against_the_normal_approximation():
    scores = np.random.default_rng(1).normal(50, 10, 400)
    low, high = interval(scores)
    half = 1.959964 * scores.std() / math.sqrt(400)
    assert low == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.1 * half)
    low80, high80 = interval(scores, level=0.8)
    assert high80 - low80 == pytest.approx(2 * 1.281552 * scores.std() / 20, rel=0.05)


def test_interval_of_two_scores_by_enumeration():
    # Means of two draws from {0, 1}: 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    assert interval([0, 1]) == (0, 1)
    assert interval([0, 1], level=0.4) == (0.5, 0.5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=20), st.integers(0, 100))
def test_interval_properties(scores, shift):
    low, high = interval(scores, draws=500)
    assert min(scores) - 1e-9 <= low <= high <= max(scores) + 1e-9
    assert interval(scores, draws=500) == (low, high)
    moved = interval([s + shift for s in scores], draws=500)
    assert moved == pytest.approx((low + shift, high + shift))


def test_interval_of_nothing():
    assert all(math.isnan(x) for x in interval([]))


# Policies ------------------------------------------------------------------------------------------------

LOGITS = np.log(np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]], np.float32))
TOY = EnvSpec("toy", "gymnasium", (2,), "float32", 3, ("a", "b", "c"), {})


def toy_network(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return LOGITS[obs[:, 0].astype(int)], obs[:, 1]


def obs_of(*rows: int) -> np.ndarray:
    return np.array([[r, 7] for r in rows], np.float32)


def test_greedy_takes_the_likeliest():
    policy = ProbabilityPolicy(TOY, toy_network, "toy", temperature=0)
    assert policy.act(obs_of(0, 1), np.array([0.99, 0.99])).tolist() == [1, 0]
    assert policy.label == "toy, greedy"


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0])
def test_sampling_at_a_temperature(temperature):
    policy = ProbabilityPolicy(TOY, toy_network, "toy", temperature, seed=4)
    n = 20_000
    drawn = np.bincount(policy.act(obs_of(*[0] * n)), minlength=3) / n
    powered = np.array([0.1, 0.6, 0.3]) ** (1 / temperature)
    np.testing.assert_allclose(drawn, powered / powered.sum(), atol=0.015)


@pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-30, 1e-45, 1e-310])
def test_a_tiny_temperature_is_greedy(temperature):
    policy = ProbabilityPolicy(TOY, toy_network, "toy", temperature)
    assert policy.act(obs_of(0, 1, 0)).tolist() == [1, 0, 1]


@pytest.mark.parametrize("temperature", [-1, 101, float("nan"), float("inf")])
def test_impossible_temperatures(temperature):
    with pytest.raises(UsageError, match="temperature"):
        ProbabilityPolicy(TOY, toy_network, "toy", temperature)


def test_one_observation_without_a_batch_axis():
    for policy in (ProbabilityPolicy(TOY, toy_network, "toy", 0), RandomPolicy(TOY)):
        action = policy.act(obs_of(1)[0])
        assert np.ndim(action) == 0
        assert 0 <= int(action) < 3
    assert ProbabilityPolicy(TOY, toy_network, "toy", 0).act(obs_of(1)[0]) == 0


def test_explain():
    thoughts = ProbabilityPolicy(TOY, toy_network, "toy").explain(obs_of(1, 0))
    np.testing.assert_allclose(thoughts["probs"], [[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]], rtol=1e-5)
    assert thoughts["value"].tolist() == [7, 7]


def test_random_policy_is_uniform_and_seeded():
    a, b, c = (RandomPolicy(TOY, seed).act(obs_of(*[0] * 9000)) for seed in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()
    np.testing.assert_allclose(np.bincount(a) / 9000, [1 / 3] * 3, atol=0.02)
    assert RandomPolicy(TOY).act(obs_of(0, 0, 0), np.array([0, 0.5, np.nextafter(1, 0)])).tolist() == [
        0,
        1,
        2,
    ]
    np.testing.assert_allclose(RandomPolicy(TOY).explain(obs_of(0, 0))["probs"], 1 / 3)


# Player --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "policy", "shape"),
    [(CARTPOLE, RandomPolicy(CARTPOLE), (400, 600, 3)), (BREAKOUT, RandomPolicy(BREAKOUT), (210, 160, 3))],
)
def test_player_replays_an_evaluated_game(spec, policy, shape):
    result = evaluate(policy, 3, seed=2, num_envs=1)
    game = result.games[1]
    player = Player(policy, game.seed, game.actions)
    moments = list(player.moments(first_game=game.number))
    player.close()
    assert len(moments) == game.length
    assert [m.step for m in moments] == list(range(game.length))
    assert {m.game for m in moments} == {game.number}
    assert moments[-1].score == game.score == sum(m.reward for m in moments)
    assert [m.over for m in moments] == [False] * (game.length - 1) + [True]
    assert [m.action for m in moments] == game.actions[-game.length :].tolist()
    frames = [m.frame for m in moments]
    assert all(f.shape == shape and f.dtype == np.uint8 for f in frames)
    assert len({f.tobytes() for f in frames}) > game.length // 2
    assert all(m.obs.shape == spec.obs_shape for m in moments)
    assert moments[0].thoughts["probs"].shape == (spec.num_actions,)


def test_player_frames_belong_to_the_observations():
    """The second emulator stays in step: the picture, made small and grey, is the newest plane of the next obs."""
    import cv2

    player = Player(RandomPolicy(BREAKOUT), 11)
    near = []
    for m in player.moments(last_game=0):
        grey = cv2.cvtColor(m.frame, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA).astype(int)
        near.append(np.abs(small - m.obs[..., -1]).mean())
    player.close()
    assert np.max(near) < 2.5, np.max(near)


def test_player_goes_on_where_it_stopped():
    result = evaluate(RandomPolicy(CARTPOLE), 3, num_envs=1)
    player = Player(RandomPolicy(CARTPOLE), result.games[0].seed, result.games[-1].actions)
    scores = []
    for number in range(3):
        moments = list(player.moments(first_game=number, last_game=number))
        scores.append(moments[-1].score)
    player.close()
    assert scores == result.scores.tolist()


def test_player_plays_by_itself():
    def play() -> list:
        player = Player(RandomPolicy(CARTPOLE), 5)
        found = [(m.action, m.score) for m in player.moments(last_game=0)]
        player.close()
        return found

    first = play()
    assert first == play()
    assert {action for action, _ in first} == {0, 1}
    assert first[-1][1] == len(first)


# Trained policies ----------------------------------------------------------------------------------------


def write_run(home: Path, **changes) -> Path:
    """A run directory with one checkpoint of an untrained net; `changes` to its run.json."""
    torch.manual_seed(0)
    net = ActorCritic(CARTPOLE, "mlp", shared=False)
    weights = {n: p.detach() for n, p in net.named_parameters()}
    tree = {"parts": {"learner": {"weights": weights, "optimizer": {}}}, "run": {}}
    home.mkdir(parents=True, exist_ok=True)
    checkpoint.save(home / "checkpoints", 512, tree, {})
    config = dataclasses.asdict(ppo.PRESETS["vector"]["default"])
    info = {"env": "CartPole-v1", "algo": "ppo", "config": config, "spec": spec_json(CARTPOLE), "seed": 1}
    (home / "run.json").write_text(json.dumps({**info, **changes}))
    return home


def test_a_stored_policy_acts_like_its_net(tmp_path):
    run = write_run(tmp_path / "run")
    policy = load_policy(run)
    torch.manual_seed(0)
    net = ActorCritic(CARTPOLE, "mlp", shared=False)
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    logits, values = net(torch.from_numpy(obs))
    thoughts = policy.explain(obs)
    np.testing.assert_allclose(thoughts["probs"], torch.softmax(logits, -1).detach(), rtol=1e-5)
    np.testing.assert_allclose(thoughts["value"], values.detach(), rtol=1e-4, atol=1e-6)
    assert policy.spec == CARTPOLE
    assert "step 512" in policy.label
    for same in (load_policy(run / "checkpoints" / "ckpt-000000000512"), load_policy(run, "512")):
        np.testing.assert_array_equal(same.explain(obs)["value"], thoughts["value"])
    result = evaluate(policy, 2)
    assert replay(CARTPOLE, result.games[1])[0] == result.games[1].score


def test_newest_run_and_its_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="playfield train"):
        newest_run()
    write_run(Path("runs/a/1"))
    assert newest_run() == Path("runs/a/1")
    assert find_agent("last").step == 512
    with pytest.raises(UsageError, match="no best checkpoint"):
        find_agent("best")
    with pytest.raises(UsageError, match="must be last, best or a step"):
        find_agent("runs/a/1", "newest")
    with pytest.raises(UsageError, match="it has 512"):
        find_agent("runs/a/1", "1,024")
    checkpoint.mark_best("runs/a/1/checkpoints", "runs/a/1/checkpoints/ckpt-000000000512", 3.0, {})
    assert find_agent("best").step == find_agent("runs/a/1", "best").step == 512


def test_no_such_run(tmp_path):
    with pytest.raises(UsageError, match="no agent"):
        load_policy(tmp_path / "nothing")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        "{}",
        '{"spec": 1}',
        "[" * 100_000,
        "\x00\xff",
        '{"algo": "ppo", "spec": null}',
    ],
)
def test_damaged_run_json(tmp_path, text):
    run = write_run(tmp_path / "run")
    (run / "run.json").write_text(text, "latin-1")
    with pytest.raises(DataError, match=r"run\.json"):
        load_policy(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"algo": "nothing"},
        {"algo": ""},
        {"algo": ".os"},
        {"algo": 5},
        {"algo": None},
        {"config": None},
        {"config": {}},
        {"config": []},
        {"config": {"net": 3}},
        {"config": {"net": "no-such-net"}},
        {"spec": {**spec_json(CARTPOLE), "num_actions": "two"}},
        {"spec": {"id": "CartPole-v1"}},
        {"spec": []},
    ],
)
def test_run_json_that_makes_no_sense(tmp_path, changes):
    run = write_run(tmp_path / "run", **changes)
    with pytest.raises(PlayfieldError):
        load_policy(run)


def test_weights_of_another_shape(tmp_path):
    wide = dataclasses.replace(CARTPOLE, obs_shape=(5,))
    run = write_run(tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "spec": spec_json(wide)}))
    with pytest.raises(DataError, match=r"another network: body\.1\.weight is \(64, 4\), expected \(64, 5\)"):
        load_policy(run)
    info["config"]["net"] = "relu128"
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="another network"):
        load_policy(run)


def test_missing_and_extra_weights_are_named_and_nothing_is_copied():
    net = ActorCritic(CARTPOLE, "mlp", shared=False)
    weights = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    missing = {n: w for n, w in weights.items() if n != "value.weight"}
    with pytest.raises(DataError, match=r"value\.weight is missing"):
        load_network(net, missing, "cpu")
    with pytest.raises(DataError, match=r"zz is \(1,\), expected missing"):
        load_network(net, weights | {"zz": torch.zeros(1)}, "cpu")
    assert all((p == before[n]).all() for n, p in net.named_parameters())


def test_a_checkpoint_without_weights(tmp_path):
    run = write_run(tmp_path / "run")
    checkpoint.save(run / "checkpoints", 1024, {"parts": {}, "run": {}}, {})
    with pytest.raises(DataError, match="holds no weights"):
        load_policy(run)


def test_a_damaged_checkpoint(tmp_path):
    run = write_run(tmp_path / "run")
    path = run / "checkpoints" / "ckpt-000000000512" / "tensors.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"tensors\.safetensors"):
        load_policy(run)
