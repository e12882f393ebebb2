"""`playfield nets`."""

from __future__ import annotations

from playfield import compute
from playfield.cli.parser import check_env, make, whole
from playfield.errors import UsageError
from playfield.nets import names

EXAMPLES = """examples:
  playfield nets                               all network bodies (the values of --net), for Atari's 84x84x4
  playfield nets nature                        layer by layer
  playfield nets nature --shape 84x84x1 --actions 3
  playfield nets impala:width=2,norm=layer --env breakout
  playfield nets nips nature impala --measure  side by side, with samples a second
  playfield nets --shape 4 --actions 2         those for a vector of 4 numbers"""


def nets(words: list[str]) -> int:
    """List network bodies with their size and speed, or one layer by layer."""
    p = make("nets", nets.__doc__ or "", EXAMPLES)
    p.add_argument("net", nargs="*", help=f"{', '.join(names.nets())}; with options as in nature:width=2,norm=layer")
    p.add_argument("--shape", type=_shape, help="of an observation: 84x84x4, or 4 for a vector (default 84x84x4)")
    p.add_argument("--actions", type=whole("--actions", 1, 10_000), help="outputs of the head (default 4)")
    p.add_argument("--env", help="take shape and actions from a game")
    p.add_argument("--measure", action="store_true", help="measure samples a second, in inference and training")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    a = p.parse(words)
    for name in a.net:
        try:
            names.net(name)
        except UsageError:
            if ":" not in name and _is_env(name):
                raise UsageError(f"{name} is a game, not a network body: use --env {name}") from None
            raise
    a.net = list(dict.fromkeys(a.net))
    if a.env is not None:
        if a.shape is not None or a.actions is not None:
            raise UsageError("--env brings its own shape and actions: leave out --shape and --actions")
        check_env(a.env)
    from playfield.nets import summary

    compute.setup()
    shape = a.shape or (84, 84, 4)
    given = summary.Input(shape, a.actions or 4, "uint8" if len(shape) == 3 else "float32")
    if a.env is not None:
        given = summary.input_of(a.env)
    if len(a.net) == 1:
        summary.print_net(a.net[0], given, a.measure, json=a.json)
    else:
        summary.print_nets(a.net, given, a.measure, json=a.json)
    return 0


def _shape(text: str) -> tuple[int, ...]:
    """84x84x4 as (84, 84, 4). Raises UsageError."""
    parts = text.lower().replace(",", "x").split("x")
    if not 1 <= len(parts) <= 3 or not all(
        part.isascii() and part.isdecimal() and 1 <= int(part) <= 4096 for part in parts
    ):
        raise UsageError(f"--shape takes sizes up to 4096, such as 84x84x4 or 4, not {text!r}")
    return tuple(int(part) for part in parts)


def _is_env(name: str) -> bool:
    try:
        check_env(name)
    except UsageError:
        return False
    return True
