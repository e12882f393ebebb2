"""`playfield replay`."""

from __future__ import annotations

from playfield.cli.parser import directory, make, say_line, seed, whole
from playfield.errors import UsageError
from playfield.replay import saved
from playfield.show.formats import check_picture


def replay(words: list[str]) -> int:
    """Inspect a run's replay buffer."""
    p = make(
        "replay",
        replay.__doc__ or "",
        "examples:\n"
        "  playfield replay last                    what it holds, also while the run trains\n"
        "  playfield replay last --show 17          one transition, oldest first, and its picture\n"
        "  playfield replay last --show -1          the newest\n"
        "  playfield replay last --sample 8         eight at random\n"
        "  playfield replay runs/breakout/dqn/1 --drop   frees its room on the disk",
    )
    p.add_argument("run_name", metavar="RUN", help="a run directory, or last")
    p.add_argument("--show", type=whole("--show", -(10**12)), metavar="I", help="transition I, from 0, oldest first")
    p.add_argument("--sample", type=whole("--sample", 1, 100), metavar="N", help="N transitions at random")
    p.add_argument("--seed", type=seed("--seed"), default=0, help="of --sample (default 0)")
    p.add_argument("--lane", type=whole("--lane"), metavar="K", help="only those of environment K")
    p.add_argument(
        "--out", type=directory("--out"), metavar="FILE", help="the picture (default: transition-I.png here)"
    )
    p.add_argument("--drop", action="store_true", help="delete the files of a finished run's replay buffer")
    p.add_argument("--yes", action="store_true", help="with --drop: of an unfinished run too")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    a = p.parse(words)
    looks = a.show is not None or a.sample is not None
    if a.show is not None and a.sample is not None:
        raise UsageError("give --show or --sample, not both")
    for flag, value in (("--out", a.out), ("--lane", a.lane)):
        if not looks and value is not None:
            raise UsageError(f"{flag} goes with --show or --sample")
    if a.drop and (looks or a.json):
        raise UsageError("--drop goes with no other option but --yes")
    if a.yes and not a.drop:
        raise UsageError("--yes goes with --drop")
    if a.out is not None:
        check_picture(a.out)
    saved.locate_run(a.run_name, even_dropped=a.drop)
    if a.drop:
        saved.drop(a.run_name, anyway=a.yes, say=say_line)
        return 0
    from playfield.show.replay import show

    show(a.run_name, index=a.show, sample=a.sample or 0, seed=a.seed, lane=a.lane, out=a.out, json=a.json)
    return 0
