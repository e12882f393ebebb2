"""`playfield games`: every game, and all about one."""

from __future__ import annotations

from playfield.cli.parser import check_env, make


def games(words: list[str]) -> int:
    """List all games, or all that is known of one."""
    p = make(
        "games",
        games.__doc__ or "",
        "examples:\n  playfield games\n  playfield games breakout\n"
        "  playfield games --check   plays every ROM for 100 frames",
    )
    p.add_argument("name", nargs="?", help="one game")
    p.add_argument("--check", action="store_true", help="play every ROM (or the one named) for 100 frames")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    a = p.parse(words)
    if a.name is not None:
        check_env(a.name)
    from playfield.show import games as listing

    if a.check:
        return 0 if listing.print_check([a.name] if a.name else None, json=a.json) else 6
    if a.name is not None:
        listing.print_game(a.name, json=a.json)
    else:
        listing.print_games(json=a.json)
    return 0
