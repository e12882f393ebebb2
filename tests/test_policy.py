"""Policies: how they choose, and trained ones read from run directories."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import playfield
from game_replays import CARTPOLE, replay
from playfield.algos import ppo
from playfield.algos._actor_critic import ActorCritic, load_network
from playfield.algos._q_network import QNetwork
from playfield.envs import make_envs
from playfield.envs.base import EnvSpec
from playfield.errors import DataError, PlayfieldError, UsageError
from playfield.play.agent import find_agent, load_policy
from playfield.play.evaluate import evaluate, report
from playfield.play.policy import ProbabilityPolicy, RandomPolicy
from playfield.runs import algorithm, checkpoint
from playfield.runs.algorithm import Network
from playfield.runs.info import newest_run

LOGITS = np.log(np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]], np.float32))
TOY = EnvSpec("toy", "gymnasium", (2,), "float32", 3, ("a", "b", "c"), {})


def toy_network(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return LOGITS[obs[:, 0].astype(int)], obs[:, 1]


TOY_NETWORK = Network(toy_network)


def obs_of(*rows: int) -> np.ndarray:
    return np.array([[r, 7] for r in rows], np.float32)


def test_greedy_takes_the_likeliest():
    policy = ProbabilityPolicy(TOY, TOY_NETWORK, "toy", temperature=0)
    assert policy.act(obs_of(0, 1), np.array([0.99, 0.99])).tolist() == [1, 0]
    assert policy.label == "toy, greedy"


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0])
def test_sampling_at_a_temperature(temperature):
    policy = ProbabilityPolicy(TOY, TOY_NETWORK, "toy", temperature, seed=4)
    n = 20_000
    drawn = np.bincount(policy.act(obs_of(*[0] * n)), minlength=3) / n
    powered = np.array([0.1, 0.6, 0.3]) ** (1 / temperature)
    np.testing.assert_allclose(drawn, powered / powered.sum(), atol=0.015)
    shown = policy.explain(obs_of(0))
    np.testing.assert_allclose(shown["probs"][0], powered / powered.sum(), rtol=1e-5)  # what is shown is played
    np.testing.assert_allclose(shown.get("net_probs", shown["probs"])[0], [0.1, 0.6, 0.3], rtol=1e-5)


@pytest.mark.parametrize("temperature", [0, 1e-3, 1e-6, 1e-30, 1e-45, 1e-310])
def test_a_tiny_temperature_is_greedy(temperature):
    policy = ProbabilityPolicy(TOY, TOY_NETWORK, "toy", temperature)
    assert policy.act(obs_of(0, 1, 0)).tolist() == [1, 0, 1]
    shown = policy.explain(obs_of(0, 1))
    assert shown["probs"].tolist() == [[0, 1, 0], [1, 0, 0]]
    np.testing.assert_allclose(shown["net_probs"], [[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]], rtol=1e-5)


@pytest.mark.parametrize("temperature", [-1, 101, float("nan"), float("inf")])
def test_impossible_temperatures(temperature):
    with pytest.raises(UsageError, match="temperature"):
        ProbabilityPolicy(TOY, TOY_NETWORK, "toy", temperature)


def test_a_single_action_is_an_integer_that_any_environment_takes():
    for policy in (ProbabilityPolicy(TOY, TOY_NETWORK, "toy", 1.0), RandomPolicy(TOY)):
        action = policy.act(obs_of(1)[0])
        assert isinstance(action, np.integer)
        assert {action: "hashable"}[action] == "hashable"


def test_one_observation_without_a_batch_axis():
    for policy in (ProbabilityPolicy(TOY, TOY_NETWORK, "toy", 0), RandomPolicy(TOY)):
        action = policy.act(obs_of(1)[0])
        assert np.ndim(action) == 0
        assert 0 <= int(action) < 3
    assert ProbabilityPolicy(TOY, TOY_NETWORK, "toy", 0).act(obs_of(1)[0]) == 0


def test_explain():
    thoughts = ProbabilityPolicy(TOY, TOY_NETWORK, "toy").explain(obs_of(1, 0))
    np.testing.assert_allclose(thoughts["probs"], [[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]], rtol=1e-5)
    assert thoughts["value"].tolist() == [7, 7]


@pytest.mark.parametrize("temperature", [0, 0.5, 1])
def test_explain_tells_the_values_of_actions_where_there_are_any(temperature):
    def network(obs):
        q = obs @ np.array([[1.0, 2, 3], [0, 0, 0]])
        return q, q.max(-1), q

    policy = ProbabilityPolicy(TOY, Network(network), "toy", temperature)
    obs = np.array([[1.0, 0], [-1, 0]], np.float32)
    thoughts = policy.explain(obs)
    assert thoughts["q"].tolist() == [[1, 2, 3], [-1, -2, -3]]
    assert thoughts["value"].tolist() == [3, -1]
    assert policy.act(obs).shape == (2,)
    assert "q" not in ProbabilityPolicy(TOY, TOY_NETWORK, "toy", temperature).explain(obs_of(1))


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
    info = {"env": "CartPole-v1", "algo": "ppo", "config": config, "spec": dataclasses.asdict(CARTPOLE), "seed": 1}
    (home / "run.json").write_text(json.dumps({**info, **changes}))
    return home


def test_a_stored_policy_acts_like_its_net(tmp_path):
    run = write_run(tmp_path / "run")
    policy = load_policy(run, temperature=0.5)
    torch.manual_seed(0)
    net = ActorCritic(CARTPOLE, "mlp", shared=False)
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    logits, values = net(torch.from_numpy(obs))
    thoughts = policy.explain(obs)
    np.testing.assert_allclose(thoughts["net_probs"], torch.softmax(logits, -1).detach(), rtol=1e-5)
    np.testing.assert_allclose(thoughts["probs"], torch.softmax(logits / 0.5, -1).detach(), rtol=1e-5)
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
        {"spec": {**dataclasses.asdict(CARTPOLE), "num_actions": "two"}},
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
    (run / "run.json").write_text(json.dumps({**info, "spec": dataclasses.asdict(wide)}))
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
        load_network(lambda: net, missing, "cpu")
    with pytest.raises(DataError, match=r"zz is \(1,\), expected missing"):
        load_network(lambda: net, weights | {"zz": torch.zeros(1)}, "cpu")
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


def test_every_agent_is_evaluated_as_it_was_trained() -> None:
    """Temperature 1 is the policy of training: no algorithm is sharpened unless it is asked for."""
    assert {algorithm.load(name).Config.evaluation_temperature for name in algorithm.names()} == {1.0}
    assert load_policy("breakout").temperature == 1
    assert load_policy("breakout").rule == "sampled"
    assert load_policy("breakout", temperature=0.0).temperature == 0.0
    assert load_policy("breakout", temperature=0.5).rule == "sampled at temperature 0.5 (training: 1)"


PAPERS = {  # (epsilon of evaluation, final one of training), as in DQN Zoo, Dopamine and PureJaxQL
    ("dqn", "nips"): (0.05, 0.1),
    ("dqn", "nature"): (0.05, 0.1),
    ("c51", "paper"): (0.001, 0.01),
    ("qrdqn", "paper"): (0.001, 0.01),
    ("hlgauss", "paper"): (0.001, 0.01),
    ("pqn", "paper"): (0.0, 0.001),
    ("rainbow", "paper"): (0.0, 0.0),
    ("dqn", "default"): (0.01, 0.01),
    ("dqn", "pong"): (0.01, 0.01),
}


@pytest.mark.parametrize(("algo", "preset"), list(PAPERS))
def test_presets_of_papers_are_evaluated_as_the_papers_do(algo: str, preset: str) -> None:
    """With actions all alike but for the greedy one, epsilon can be read off the probabilities."""
    spec = make_envs("breakout", 1).spec
    cfg = algorithm.load(algo).PRESETS["atari"][preset]
    assert cfg.epsilons == PAPERS[algo, preset]
    module: Any = algorithm.load({"rainbow": "c51"}.get(algo, algo))
    net = QNetwork(spec, cfg.net) if algo == "pqn" else module.network(spec, cfg)
    agent = algorithm.load(algo).load(spec, cfg, dict(net.named_parameters()), "cpu")
    policy = ProbabilityPolicy(spec, agent, "toy")
    probs = policy.explain(np.zeros((1, *spec.obs_shape), np.uint8))["probs"][0]
    epsilon, trained = PAPERS[algo, preset]
    np.testing.assert_allclose(np.sort(probs)[:-1], epsilon / spec.num_actions, atol=1e-6)
    assert policy.rule.startswith(f"epsilon-greedy, epsilon {epsilon:g}" if epsilon else "greedy")
    assert (f"(training: {trained:g})" in policy.rule) == (trained != epsilon)


def test_the_evaluation_says_its_rule(tmp_path) -> None:
    """In JSON and in the report; `eval_epsilon` is any training's option."""
    result = playfield.train(
        "CartPole-v1", "dqn", steps=64, config={"eval_epsilon": 0.25}, run=tmp_path / "r", games=2, film=False
    )
    rule = "epsilon-greedy, epsilon 0.25 (training: 0.04)"
    assert result.evaluation["rule"] == rule
    assert result.evaluation["temperature"] == 1
    assert rule in report(playfield.evaluate(load_policy(result.directory), games=1))
    info = json.loads((result.directory / "run.json").read_text())
    del info["config"]["eval_epsilon"]  # a run of before: as it was evaluated then
    (result.directory / "run.json").write_text(json.dumps(info))
    assert load_policy(result.directory).rule == "epsilon-greedy, epsilon 0.04"
