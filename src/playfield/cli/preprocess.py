"""`playfield preprocess`: from the screen to what a network sees."""

from __future__ import annotations

from playfield.cli.parser import check_env, directory, make, seed, whole
from playfield.cli.train import protocol_options, protocol_parts
from playfield.show.formats import check_picture


def preprocess(words: list[str]) -> int:
    """Show how a screen becomes an observation."""
    p = make(
        "preprocess",
        preprocess.__doc__ or "",
        "examples:\n"
        "  playfield preprocess breakout\n"
        "  playfield preprocess pong --steps 300 --seed 2 --out steps.png\n"
        "  playfield preprocess breakout --view mono,trim",
    )
    p.add_argument("env", help="an Atari game")
    p.add_argument("--steps", type=whole("--steps", 1, 1e6), default=100, help="random steps first (default 100)")
    p.add_argument("--seed", type=seed("--seed", 2**31 - 1), default=0, help="of game and actions (default 0)")
    p.add_argument(
        "--out", type=directory("--out"), metavar="FILE", help="a PNG picture (default: preprocess-GAME.png here)"
    )
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    protocol_options(p)
    a = p.parse(words)
    check_env(a.env)
    if a.out is not None:
        check_picture(a.out)
    from playfield.show.preprocess import preprocess as show

    options = {"steps": a.steps, "seed": a.seed, "protocol": a.protocol, "view": a.view, "out": a.out, "json": a.json}
    show(a.env, **options, **protocol_parts(a))
    return 0
