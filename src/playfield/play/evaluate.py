"""Full games of a policy: raw scores, with the protocol they were played under."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from playfield import arguments as takes
from playfield import compute
from playfield.envs import make_from, protocol_line
from playfield.envs.base import env_seeds
from playfield.envs.family import family_of_protocol
from playfield.errors import UsageError, shown
from playfield.play.agent import agent_or_random, checkpoint_of, load_policy
from playfield.play.policy import Policy, RandomPolicy
from playfield.play.protocol import cell, differing, suffix, under
from playfield.play.random_start import RandomStart
from playfield.play.statistics import LOWER_QUARTILE, Statistic, interval, several, some_statistics
from playfield.runs.console import Say, format_scores, format_seconds
from playfield.runs.storage import atomic_write, folder_for

FEW = 5  # games; a bootstrap interval of the mean of fewer means little


@dataclass(frozen=True)
class Game:
    """One full game: score, length, and how to replay it.

    Attributes:
        score: raw, undiscounted return.
        length: in steps of the agent.
        seed: with which its environment was reset.
        number: of the game in that environment, from 0.
        actions: int64, all actions of that environment from its reset to the end of this game.
        truncated: a limit ended it, of the protocol or of the evaluation.
    """

    score: float
    length: int
    seed: int
    number: int
    actions: np.ndarray = field(repr=False)
    truncated: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Scores of full games and all that a reader needs to compare them.

    Attributes:
        env: canonical name of the environment.
        policy: label of the policy.
        protocol: the settings that a score depends on, under which these games were played.
        trained_protocol: those of the agent's training; None of a policy that was not trained.
        games: all games, in the order of their environments.
        seed: of games and sampling.
        seconds: wall time.
        human_normalized: (mean - random) / (human - random); None where no such scores are known, and of games that
            begin with random steps.
        warnings: what was wrong with the agent's files: damaged checkpoints that were not used, a changed `run.json`.
        rule: how actions were chosen, as in `sampled` or `epsilon-greedy, epsilon 0.05 (training: 0.1)`.
        temperature: of sampling; 1 is the policy that was trained.
        max_steps: steps after which games were cut off; None: only where the protocol ends them.
        statistics: that were asked for, beside those that are always told.
        random_steps: random actions with which each game began; they are part of its score, length and actions.
    """

    env: str
    policy: str
    protocol: dict[str, Any]
    games: list[Game]
    seed: int
    seconds: float
    human_normalized: float | None
    warnings: tuple[str, ...] = ()
    rule: str = ""
    temperature: float = 1.0
    max_steps: int | None = None
    statistics: tuple[Statistic, ...] = ()
    random_steps: int = 0
    trained_protocol: dict[str, Any] | None = None

    @property
    def scores(self) -> np.ndarray:
        """Raw scores of all games, float64 [games]."""
        return np.array([g.score for g in self.games])

    @property
    def best(self) -> Game:
        """The highest-scoring game; the first of them."""
        return max(self.games, key=lambda g: g.score)

    @property
    def cut(self) -> int:
        """How many games were cut off: at `max_steps`, or of Atari at the protocol's cap of frames.

        A time limit of the environment's own is part of its games and cuts none off.
        """
        least = 0 if self.protocol.get("cap") else self.max_steps
        return 0 if least is None else sum(g.truncated and g.length >= least for g in self.games)

    def summary(self) -> dict[str, Any]:
        """JSON values: mean, median, lower quartile, min, max, standard deviation (that of these games, divided by
        their number), 95 % interval of the mean, protocol and all scores.

        The interval `ci95` is None for fewer than `FEW` games: theirs would mean little. `statistics` has those that
        were asked for: `{"mean-1std": {"value": 12.5, "ci95": [10.0, 14.0]}}`, without an interval where a bootstrap
        says little (lower quartile: fewer than 10 games; mean less standard deviations: fewer than 20).
        """
        s = self.scores
        return {
            "env": self.env,
            "policy": self.policy,
            "rule": self.rule,
            "temperature": self.temperature,
            "games": len(s),
            "mean": float(s.mean()),
            "median": float(np.median(s)),
            "lower_quartile": float(LOWER_QUARTILE.of(s)),
            "min": float(s.min()),
            "max": float(s.max()),
            "std": float(s.std()),
            "ci95": list(interval(s.tolist())) if len(s) >= FEW else None,
            "statistics": {
                one.name: {
                    "value": float(one.of(s)),
                    "ci95": list(interval(s.tolist(), statistic=one)) if len(s) >= one.enough else None,
                }
                for one in self.statistics
            },
            "human_normalized": self.human_normalized,
            "cut": self.cut,
            "max_steps": self.max_steps,
            "random_steps": self.random_steps,
            "mean_length": float(np.mean([g.length for g in self.games])),
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "protocol": self.protocol,
            "trained_protocol": self.trained_protocol,
            "scores": s.tolist(),
            "warnings": list(self.warnings),
        }


FIRST_LINE, NEXT_LINE = 2.0, 15.0  # seconds until something is said while games go on


@takes.checked(
    games=takes.whole(1, 1e6),
    seed=takes.seed,
    num_envs=takes.whole(0, 1e4),
    threads=takes.whole(0, 1024),
    on_game=takes.function,
    protocol=takes.text(),
    parts=takes.table,
    on_step=takes.function,
    max_steps=takes.whole(1, 1e9),
    random_steps=takes.whole(0, 1e6),
    statistic=some_statistics,
)
def evaluate(
    policy: Policy | str | Path,
    games: int = 30,
    *,
    seed: int = 0,
    num_envs: int = 0,
    threads: int = 0,
    on_game: Callable[[int, int], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    max_steps: int | None = None,
    protocol: str | None = None,
    parts: Mapping[str, Any] | None = None,
    statistic: str | Sequence[str] = (),
    random_steps: int = 0,
) -> Evaluation:
    """Play `games` full games: all lives, raw score, by default under the protocol of the policy's training.

    Every environment plays a fixed share of the games, so long games count as often as short ones.

    Args:
        policy: what acts, see `load_policy`; or what that takes.
        games: how many games are played.
        seed: of games and of sampling; evaluations with one seed are identical.
        num_envs: parallel environments (0: up to 10).
        threads: emulator threads (0: one per core).
        on_game: called with (games done, games) after each game.
        on_step: called with (games done, steps done) after each step of all environments.
        max_steps: a game is cut off after these steps; None: after 10,000 where the environment has no time limit,
            or one of more than a million. Atari games have the cap of their protocol.
        protocol: Atari only: `classic`, `v4` or `v5`, instead of that of the training.
        parts: settings of the protocol to change, such as `{"sticky": 0.25}`.
        statistic: one name or several: what the report and the summary also tell of the scores, with an interval:
            `median`, `lower-quartile`, `mean-1std` (mean less one standard deviation), `mean-0.5std`, ...
        random_steps: random actions at the begin of each game, before the policy plays. Their rewards count to the
            score and they count to `max_steps`.

    Returns:
        Scores of all games, with the protocol and all that replays them.

    Raises:
        UsageError: `games` or `num_envs` out of range, no such statistic, or a protocol under which the agent cannot
            play.
        EnvError: the environment raised, or broke its contract.
    """
    if isinstance(policy, str | Path):
        policy = load_policy(policy)
    if not callable(getattr(policy, "act", None)):
        raise UsageError(f"policy takes a policy, or the run of one, not {shown(policy)}")
    n = min(num_envs or 10, games)
    player = RandomStart(policy, random_steps, n)
    spec = under(policy.spec, protocol, parts or {})
    most = max_steps or spec.family.most_steps(spec.protocol)
    quota = np.array([games // n + (i < games % n) for i in range(n)])
    start = time.monotonic()
    env = make_from(spec, n, threads=min(threads or compute.cores(), n), max_steps=most)
    seeds = env_seeds(np.random.SeedSequence([seed, 7]), n)
    random = np.random.default_rng([seed, 8])
    logs: list[list[int]] = [[] for _ in range(n)]
    done: list[Game] = []
    count = np.zeros(n, np.int64)
    steps = 0
    try:
        obs = env.reset(seeds)
        while (count < quota).any():
            actions = player.choose(obs, random.random(n))
            for i in np.flatnonzero(count < quota):
                logs[i].append(int(actions[i]))
            record = env.step(actions)
            obs, steps = record.obs, steps + n
            player.ended(record.episodes)
            if on_step is not None:
                on_step(len(done), steps)
            for e in record.episodes:
                if count[e.env] < quota[e.env]:
                    trace = np.array(logs[e.env], np.int64)
                    done.append(
                        Game(
                            e.score,
                            e.length,
                            int(seeds[e.env]),
                            int(count[e.env]),
                            trace,
                            bool(record.truncated[e.env]),
                        )
                    )
                    count[e.env] += 1
                    if on_game is not None:
                        on_game(len(done), games)
    finally:
        env.close()
    done.sort(key=lambda g: (np.flatnonzero(seeds == g.seed)[0], g.number))
    mean = float(np.mean([g.score for g in done]))
    return Evaluation(
        env=spec.id,
        policy=policy.label,
        protocol=spec.protocol | {k: v for k, v in env.spec.protocol.items() if k == "ale_py"},  # that played
        games=done,
        seed=seed,
        seconds=time.monotonic() - start,
        human_normalized=None if random_steps else spec.family.human_normalized(spec.id, mean, spec.protocol),
        warnings=getattr(policy, "warnings", ()),
        max_steps=most,
        rule=getattr(policy, "rule", ""),  # a policy of one's own may have none
        temperature=getattr(policy, "temperature", 1.0),
        statistics=several(statistic),
        random_steps=random_steps,
        trained_protocol=None if isinstance(policy, RandomPolicy) else policy.spec.protocol,
    )


def all_can_play(source: Sequence[str], protocol: str | None, parts: Mapping[str, Any], **who: Any) -> None:
    """Raise the error of the first agent that is damaged, or cannot play so; `who` as of `evaluate_and_save`."""
    compute.setup(networks=who["agent"] is None)
    for name in source:
        under(agent_or_random(name, **who)[0].spec, protocol, parts)


def evaluate_and_save(
    source: str | Path,
    which: str,
    games: int,
    *,
    seed: int = 0,
    temperature: float | None = None,
    agent: str | None = None,
    say: Say | None = None,
    save: bool = True,
    trust: bool = False,
    max_steps: int | None = None,
    protocol: str | None = None,
    parts: Mapping[str, Any] | None = None,
    statistic: str | Sequence[str] = (),
    random_steps: int = 0,
) -> Evaluation:
    """Evaluate, report progress to `say`, and save the result under `eval/` of a run directory."""
    compute.setup(networks=agent is None)
    policy, home = agent_or_random(str(source), which, agent, temperature, seed, trust)

    next_line = time.monotonic() + FIRST_LINE

    def progress(done: int, total: int) -> None:
        nonlocal next_line
        if say is not None and (done == total or done % max(1, total // 5) == 0):
            say(f"evaluation: {done} of {total} games")
            next_line = time.monotonic() + NEXT_LINE

    def waiting(done: int, steps: int) -> None:
        nonlocal next_line
        if say is not None and time.monotonic() > next_line:
            say(f"evaluation: {done} of {games} games, {steps:,} steps so far")
            next_line = time.monotonic() + NEXT_LINE

    result = evaluate(
        policy,
        games,
        seed=seed,
        on_game=progress,
        on_step=waiting,
        max_steps=max_steps,
        protocol=protocol,
        parts=parts,
        statistic=statistic,
        random_steps=random_steps,
    )
    if save and home.is_dir():
        who = agent or checkpoint_of(source, which)
        other = suffix(policy.spec.protocol, result.protocol, protocol, parts or {}) + (
            f"-max{max_steps}" if max_steps else ""
        )
        other += f"-randomsteps{random_steps}" if random_steps else ""
        name = f"{who}-t{policy.temperature:g}-seed{seed}-{games}{other}.json"
        told = {**result.summary(), "default_rule": temperature is None}
        with folder_for(home / "eval"):
            atomic_write(home / "eval" / name, json.dumps(told, indent=2) + "\n")
    if say is not None:
        say(report(result))
    return result


def report(result: Evaluation) -> str:
    """An evaluation as a few lines of text."""
    s = result.summary()
    mean, median, quartile, *ends = format_scores(s["mean"], s["median"], s["lower_quartile"], *(s["ci95"] or ()))
    spread = f"95 % interval {' to '.join(ends)}" if ends else "too few games for an interval"
    lines = [
        f"{s['env']}: mean score {mean} over {s['games']} full games "
        f"({spread}; median {median}, lower quartile {quartile}, min {s['min']:g}, max {s['max']:g})",
        f"  agent     {result.policy}",
        f"  protocol  {protocol_line(result.protocol)}; {family_of_protocol(result.protocol).score_name}",
    ]
    trained = result.trained_protocol
    if trained is not None and differing(trained, result.protocol):
        lines.append(f"  training  under another protocol: {protocol_line(trained)}")
    if result.random_steps:
        lines.append(f"  start     {result.random_steps:,} random steps, then the agent plays")
    for one, (value, spread) in zip(result.statistics, _asked(s), strict=True):
        said = f"95 % interval {spread}" if spread else "too few games for an interval"
        lines.append(f"  statistic {one.words} {value} ({said})")
    if s["human_normalized"] is not None:
        lines.append(f"  human     human-normalised score {s['human_normalized']:.2f} (0 random play, 1 a human)")
    if s["cut"]:
        frames = result.protocol.get("cap")
        where = f"at {frames:,} frames" if frames else f"after {result.max_steps:,} steps (--max-steps)"
        lines.append(f"  cut off   {s['cut']} of {s['games']} games, {where}")
    lines.append(f"  took      {format_seconds(result.seconds)}, mean game {s['mean_length']:,.0f} steps")
    return "\n".join(lines)


def table(results: Sequence[Evaluation]) -> str:
    """Several evaluations of the same kind, one line each: mean score, interval, median, lower quartile, the
    statistics that were asked for with their intervals, games, the protocol where it is not the same of all and of
    their trainings, rule and agent."""
    asked = [text for one in results[0].statistics for text in (one.name, "95 % interval")]
    protocols = [p for r in results for p in (r.protocol, r.trained_protocol) if p is not None]
    mixed = any(differing(protocols[0], p) for p in protocols)
    rows = [["mean", "95 % interval", "median", "lower quartile", *asked, "games", *["protocol"] * mixed, "agent"]]
    for result in results:
        s = result.summary()
        mean, median, quartile, *ends = format_scores(s["mean"], s["median"], s["lower_quartile"], *(s["ci95"] or ()))
        more = [text or "-" for pair in _asked(s) for text in pair]
        own = [mean, " to ".join(ends) or "-", median, quartile, *more, str(s["games"])]
        rules = [cell(result.trained_protocol, result.protocol)] if mixed else []
        start = f", after {result.random_steps:,} random steps" if result.random_steps else ""
        rows.append([*own, *rules, f"{result.env}: {result.policy}{start}"])
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return "\n".join("  ".join([*(c.rjust(w) for c, w in zip(row, wide, strict=False)), row[-1]]) for row in rows)


def _asked(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(value, interval) of each statistic that was asked for, as text; an empty one where there is no interval."""
    found = [format_scores(one["value"], *(one["ci95"] or ())) for one in summary["statistics"].values()]
    return [(value, " to ".join(ends)) for value, *ends in found]
