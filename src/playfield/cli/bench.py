"""`playfield bench`."""

from __future__ import annotations

import argparse

from playfield.bench import names, told_of
from playfield.cli.parser import Parser, make, seed, whole


def _only(p: Parser, name: str) -> None:
    """Let the help be that of one benchmark: what it says of itself, and its own options."""
    about, known = told_of(name)
    p.prog, p.description = f"playfield bench {name}", about
    examples = [line for line in (p.epilog or "").splitlines() if f"playfield bench {name}" in line]
    p.epilog = "\n".join(["examples:", *examples]) if examples else ""
    for action in p._actions:
        if action.dest not in {*known, "help", "debug"}:
            action.help = argparse.SUPPRESS


def bench(words: list[str]) -> int:
    """Measure speed beside a peer, both in one run."""
    p = make(
        "bench",
        bench.__doc__ or "",
        "examples:\n  playfield bench ppo --vs sb3         needs pip install 'playfield[bench]'\n"
        "  playfield bench ppo --vs sb3 --busy  also with one core kept busy\n"
        "  playfield bench dqn --vs sb3\n  playfield bench howto\n"
        "  playfield bench kill --env breakout --kills 5\n  playfield bench linear",
    )
    p.add_argument(
        "name",
        help="a file of bench/: ppo, dqn, howto, jobs, kill, linear, nodes, replay, save, scaling (NAME --help)",
    )
    p.add_argument("--vs", help="the peers: sb3, cleanrl (bench ppo), sb3,cleanrl or none")
    p.add_argument(
        "--fused",
        action=argparse.BooleanOptionalAction,
        help="in bench dqn, measure fused updates too: 128 samples every 16 steps, not 32 every 4 (on by default)",
    )
    p.add_argument("--concurrent", action="store_true", help="bench dqn: also collect in parallel with learning")
    p.add_argument("--script", help="path of CleanRL's ppo_atari_envpool.py, for --vs cleanrl")
    p.add_argument("--python", help="interpreter with the script's requirements")
    p.add_argument("--busy", action="store_true", help="also measure with one core kept busy by another process")
    p.add_argument("--steps", type=whole("--steps", 1), help="steps per measurement")
    p.add_argument("--rounds", type=whole("--rounds", 1, 100), help="measurements of each side")
    p.add_argument("--env", help="environment of bench kill and jobs")
    p.add_argument("--algo", help="algorithm of bench kill and jobs")
    p.add_argument("--seed", type=seed("--seed"), help="seed of bench kill, howto and jobs")
    p.add_argument(
        "--capacity",
        type=whole("--capacity", 1),
        help="bench replay and save: size of the replay buffer, observations",
    )
    p.add_argument("--fill", action="store_true", help="bench replay: fill a compressed buffer, measure the memory")
    p.add_argument(
        "--slots", type=whole("--slots", 1), help="size of the buffer of --fill, observations (default 1M)"
    )
    p.add_argument("--agent", help="agent of --fill: shipped (default) or random")
    p.add_argument("--num-envs", type=whole("--num-envs", 1, 4096), help="environments of bench scaling (default 16)")
    p.add_argument("--preset", help="of PPO on Atari games, for bench scaling (default cleanrl)")
    p.add_argument("--kills", type=whole("--kills", 1, 10_000), help="kills of bench kill (default 20)")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    if {"-h", "--help"} & set(words) and (name := next((one for one in words if one in names()), "")):
        _only(p, name)
    a = p.parse(words)
    from playfield.bench import main as run

    options = (
        "vs",
        "script",
        "python",
        "busy",
        "fused",
        "concurrent",
        "steps",
        "rounds",
        "env",
        "algo",
        "seed",
        "kills",
        "num_envs",
        "preset",
    )
    run(a.name, **{name: getattr(a, name) for name in (*options, "capacity", "fill", "slots", "agent", "json")})
    return 0
