"""What --help tells of presets: what the classes have, and what a training would use."""

from __future__ import annotations

import dataclasses
import re

import pytest

from playfield.cli import main
from playfield.runs import catalog


def shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Each option in the help, and what stands in brackets at its end."""
    with pytest.raises(SystemExit) as stop:
        main(["train", *words, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.partition("own options")[2].split())
    return dict(re.findall(r"(--[a-z-]+) [A-Z|]+ (?:(?!--)[^[])*\[([^]]*)\]", text))


@pytest.mark.parametrize(
    ("env", "algo", "more"),
    [
        ("breakout", "dqn", {}),
        ("breakout", "dqn", {"preset": "nature"}),
        ("breakout", "dqn", {"obs": "ram"}),
        ("breakout", "c51", {"obs": "ram"}),
        ("CartPole-v1", "c51", {}),
        ("CartPole-v1-pixels", "dqn", {}),
        ("MountainCar-v0", "dqn", {}),
        ("CartPole-v1", "ppo", {}),
    ],
    ids=str,
)
def test_with_an_environment_the_help_tells_what_would_be_used(env, algo, more, capsys) -> None:
    from playfield.training.prepare import configure
    from playfield.training.request import Request

    words = [word for name, value in more.items() for word in (f"--{name}", value)]
    parts = {k: v for k, v in more.items() if k == "obs"}
    cfg = configure(Request(env, algo, preset=more.get("preset", "default"), parts=parts))[1]
    told = shown([env, "--algo", algo, *words], capsys)
    assert len(told) >= 0.9 * len(dataclasses.asdict(cfg))
    for o in catalog.options(algo):
        if o.flag in told:
            value = getattr(cfg, o.name)
            assert told[o.flag] == (str(value).lower() if isinstance(value, bool) else str(value)), o.flag


def test_without_one_it_tells_what_differs(capsys) -> None:
    told = shown(["--algo", "ppo"], capsys)
    assert told["--gamma"] == "0.99"
    assert re.fullmatch(r"atari 0\.\d+, vector 0\.0025", told["--lr"])
    told = shown(["--algo", "dqn"], capsys)
    assert told["--capacity"].startswith("atari 200000, vector 20000")
    assert ", pixels 50000" in told["--capacity"]
    assert "ram" not in told["--capacity"], "as for the screen"
    assert told["--target-period"] == "atari 2000, vector 512"
    assert shown(["--algo", "dqn", "--preset", "nature"], capsys)["--capacity"] == "1000000", "only Atari has it"


def test_help_comes_before_mistakes(capsys) -> None:
    told = shown(["brekout", "--algo", "dqn", "--preset", "natur"], capsys)
    assert told["--target-period"] == "atari 2000, vector 512"
