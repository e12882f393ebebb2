"""Whole runs: equal to independent loops, to single runs and to plain Python; every method learns a small problem."""

from __future__ import annotations

import numpy as np
import pytest

from linear_naive import LessonCar, NStepSarsa, SarsaLambda, Watkins, play_sarsa
from playfield.algos import qlearning, sarsa, sarsa_lambda
from playfield.errors import DivergedError, UsageError
from playfield.linear import features, problems
from playfield.linear.many import experiment, values

METHODS = ("sarsa", "sarsa_lambda", "qlearning", "td_lambda", "linear_ac")


def onehot(state) -> np.ndarray:
    """The lesson's additive features of 8 x 8 tiles."""
    out = np.zeros(18)
    out[int(8 * (state[0] + 1.2) / 1.7)] = out[int(8 * (state[1] + 0.07) / 0.14) + 9] = 1
    return out


def act(epsilon: float):
    """Epsilon-greedy with random numbers in the order of the package: one for epsilon, one for every tie."""

    def choose(q: np.ndarray, rng: np.random.Generator) -> int:
        if epsilon > 0 and rng.random() < epsilon:
            return int(rng.integers(0, len(q)))
        chosen, ties = 0, 1
        for a in range(1, len(q)):
            if q[a] > q[chosen]:
                chosen, ties = a, 1
            elif q[a] == q[chosen]:
                ties += 1
                chosen = a if rng.random() * ties < 1 else chosen
        return chosen

    return choose


LEARNERS = {
    "one-step": ("sarsa", {}, lambda w: NStepSarsa(w, 1, 0.05, 0.99)),
    "n-step": ("sarsa", {"n_step": 4}, lambda w: NStepSarsa(w, 4, 0.05, 0.99)),
    "traces": (
        "sarsa_lambda",
        {"lam": 0.5, "trace": "replacing"},
        lambda w: SarsaLambda(w, 0.5, 0.05, 0.99, "replacing"),
    ),
    "true online": ("sarsa_lambda", {"lam": 0.5}, lambda w: SarsaLambda(w, 0.5, 0.05, 0.99, "dutch")),
    "watkins": ("qlearning", {"lam": 0.5, "trace": "accumulating"}, lambda w: Watkins(w, 0.5, 0.05, 0.99)),
}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("max_steps", [0, 60])
def test_a_run_equals_the_independent_loop(name, max_steps):
    """The lesson's car with dense features: episodes of the same lengths, and weights to 1e-9."""
    method, options, make = LEARNERS[name]
    epsilon, count, seed = 0.2, (2 if not max_steps else 30), 4
    out = experiment(
        method,
        "mountain-car",
        "onehot:tiles=8",
        seeds=[seed],
        episodes=count,
        max_steps=max_steps,
        alpha=0.05,
        gamma=0.99,
        epsilon=epsilon,
        **options,
    )
    w, rng = np.zeros((3, 18)), np.random.default_rng(seed)
    learner = make(w)
    lengths = [play_sarsa(LessonCar(), onehot, act(epsilon), learner, rng, w, max_steps) for _ in range(count)]
    assert out.steps[0].tolist() == lengths
    assert out.returns[0].tolist() == [-float(n) for n in lengths]
    assert out.weights[0] == pytest.approx(w, rel=0, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_many_runs_are_single_runs_bit_for_bit(method):
    problem = "random-walk" if method == "td_lambda" else "mountain-car"
    coder = "onehot:tiles=18" if method == "td_lambda" else "iht:tilings=4,tiles=4,size=64"

    def go(seeds, **more):
        return experiment(
            method, problem, coder, seeds=seeds, episodes=4, max_steps=300, alpha=0.05, gamma=0.9, **more
        )

    many, one_thread = go(range(6)), go(range(6), threads=1)
    alone = [go([seed]) for seed in range(6)]
    backwards = go(range(5, -1, -1))
    for name in ("steps", "returns", "weights", "critic", "errors", "collisions", "numbered"):
        got = getattr(many, name)
        assert (got is None) == (getattr(alone[0], name) is None)
        if got is not None:
            assert (got == np.concatenate([getattr(run, name) for run in alone])).all()
            assert (got == getattr(one_thread, name)).all()
            assert (got == getattr(backwards, name)[::-1]).all()
    assert len({many.weights[k].tobytes() for k in range(6)}) == 6


@pytest.mark.parametrize("method", METHODS)
def test_a_compiled_run_is_plain_python_bit_for_bit(method):
    """`play` in plain Python calls compiled pieces, which other tests compare one by one."""
    import importlib

    module, problem = importlib.import_module(f"playfield.algos.{method}"), problems.PROBLEMS["mountain-car-gym"]
    bounds = features.Bounds(*(np.array(b) for b in (problem.low, problem.high, problem.tiled)))
    results = []
    for play in (module.play, module.play.py_func):
        coder, cfg = features.iht(bounds, tilings=4, tiles=4, size=64), module.Config(alpha=0.02, gamma=0.9)
        m, rng = module.memory(3, coder, cfg), np.random.default_rng(3)
        steps, returns = np.zeros(4, np.int64), np.zeros(4)
        play(problem.code, coder, m, module.rates(cfg), rng, 0.9, 200, np.zeros(1, bool), steps, returns)
        results.append([steps, returns, coder.counts, *m])
    assert all((a == b).all() for a, b in zip(*results, strict=True))


def test_sarsa_of_lambda_0_is_sarsa():
    """Not only close: the same episodes from the same random numbers."""
    options = {"seeds": range(3), "episodes": 20, "alpha": 0.0625, "epsilon": 0.1}
    one = experiment("sarsa", "mountain-car", "onehot:tiles=8", **options)
    for trace in sarsa_lambda.TRACES:
        out = experiment("sarsa_lambda", "mountain-car", "onehot:tiles=8", lam=0.0, trace=trace, **options)
        assert out.weights == pytest.approx(one.weights, abs=1e-6) or trace == "dutch"
        assert (out.steps[:, 0] == one.steps[:, 0]).all()


@pytest.mark.parametrize(
    ("method", "problem", "coder", "config", "enough"),
    [
        ("sarsa", "mountain-car", "tilings:tilings=8,tiles=8", {"alpha": 0.5 / 8}, -180),
        ("sarsa", "mountain-car", "iht:tilings=8,tiles=8", {"alpha": 0.3 / 8, "n_step": 8}, -160),
        ("sarsa_lambda", "mountain-car-gym", "tilings:tilings=8,tiles=8", {"alpha": 0.3 / 8, "lam": 0.8}, -160),
        ("sarsa_lambda", "mountain-car", "onehot:tiles=8", {"alpha": 0.02, "lam": 0.5, "trace": "replacing"}, -250),
        ("qlearning", "mountain-car", "tilings:tilings=8,tiles=8", {"alpha": 0.5 / 8}, -180),
        ("qlearning", "mountain-car-gym", "tilings:tilings=8,tiles=8", {"alpha": 0.3 / 8, "lam": 0.8}, -160),
        ("sarsa_lambda", "acrobot", "iht:tilings=8,tiles=3,size=65536", {"alpha": 0.3 / 8, "lam": 0.8}, -200),
        ("linear_ac", "mountain-car", "tilings:tilings=8,tiles=8", {"alpha": 0.3 / 8, "alpha_actor": 0.1 / 8}, -250),
    ],
)
def test_it_learns(method, problem, coder, config, enough):
    """Mean of the last 20 of 120 episodes over 4 seeds. A random car takes many thousand steps."""
    out = experiment(method, problem, coder, seeds=range(4), episodes=120, max_steps=5000, **config)
    assert out.returns[:, -20:].mean() > enough
    assert out.returns[:, 0].mean() < 2 * enough


def test_actor_critic_balances():
    """CartPole, truncated at 500 steps: an untrained agent lasts about 20."""
    config = {"alpha": 0.1 / 8, "alpha_actor": 0.2 / 8, "gamma": 0.99, "lam": 0.8}
    out = experiment(
        "linear_ac", "cartpole", "tilings:tilings=8,tiles=4", seeds=range(4), episodes=200, max_steps=500, **config
    )
    assert out.returns[:, 0].mean() < 40
    assert out.returns[:, -30:].mean() > 150


@pytest.mark.parametrize("trace", ["dutch", "accumulating"])
def test_prediction_of_the_random_walk(trace):
    """Errors are those of the weights against the true values -0.9..0.9, and fall below 0.12 with small steps."""
    options = {"seeds": range(5), "alpha": 0.05, "lam": 0.8, "trace": trace}
    coder = "onehot:tiles=18"
    out = experiment("td_lambda", "random-walk", coder, episodes=200, **options)
    truth = np.arange(-9, 10) / 10
    predicted = values(out.coders[0], out.weights[0][None], np.arange(19.0)[:, None])[:, 0]
    assert out.errors[0, -1] == pytest.approx(np.sqrt(np.mean((predicted - truth) ** 2)))
    assert out.errors.shape == (5, 200)
    assert out.errors[:, 0].mean() > 0.4  # 0.55 before anything is learnt
    assert out.errors[:, -20:].mean() < 0.12
    assert set(np.unique(out.returns)) == {-1.0, 1.0}


def test_a_full_table_counts_collisions():
    small, large = (
        experiment("sarsa", "mountain-car", f"iht:size={n}", seeds=[1, 2], episodes=3, max_steps=900, alpha=0.05)
        for n in (100, 4096)
    )
    assert small.numbered.tolist() == [100, 100]
    assert (small.collisions > 1000).all()
    assert large.collisions.tolist() == [0, 0]
    assert (large.numbered > 100).all()


def test_a_large_table_learns_as_tilings_do():
    """Numbers in another order are the same features: the same episodes."""
    first, second = (
        experiment("sarsa", "mountain-car", coder, seeds=[1, 2], episodes=10, alpha=0.0625)
        for coder in ("iht:tilings=8,tiles=8,size=4096", "tilings:tilings=8,tiles=8")
    )
    assert (first.steps == second.steps).all()


def test_divergence_is_an_error():
    with pytest.raises(DivergedError, match="lower alpha"):
        experiment("sarsa", "cartpole", "tilings", seeds=[1], episodes=2000, alpha=3.0)


def test_progress_is_reported_and_wrong_options_are_refused():
    calls = []
    options = {"seeds": range(3), "episodes": 2}
    experiment("sarsa", "random-walk", "onehot", progress=lambda *n: calls.append(n), **options)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    for fields, match in (
        ({"alhpa": 0.1}, "did you mean alpha"),
        ({"alpha": -1.0}, "--alpha must be at least 0"),
        ({"n_step": 0}, "--n-step must be at least 1"),
    ):
        with pytest.raises(UsageError, match=match):
            experiment("sarsa", "random-walk", "onehot", **options, **fields)
    with pytest.raises(UsageError, match="did you mean sarsa"):
        experiment("srasa", "random-walk", "onehot", **options)
    with pytest.raises(UsageError, match="did you mean tilings"):
        experiment("sarsa", "random-walk", "tiling", **options)
    with pytest.raises(UsageError, match="a seed is given twice"):
        experiment("sarsa", "random-walk", "onehot", seeds=[1, 2, 1], episodes=2)
    assert sarsa.Config().n_step == 1
    assert qlearning.Config().lam == 0
