"""The agents that come with the package: small, with a card, and as good as the card says."""

from __future__ import annotations

import json

import pytest

from playfield.play.agent import SHIPPED, find_agent, load_policy, shipped
from playfield.play.evaluate import evaluate


def test_what_ships():
    assert {"breakout", "pong"} <= set(shipped())


@pytest.mark.parametrize("name", shipped())
def test_an_agent_is_small_and_has_a_card(name):
    folder = SHIPPED / name
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 4_000_000
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert card == find_agent(name).info
    assert card["command"].startswith(f"playfield train {name}")
    assert len(card["card"]["commit"]) == 40
    assert card["card"]["seed"] == card["seed"]
    assert card["card"]["evaluation"]["games"] == 100
    assert len(card["card"]["curve"]["points"]) == 40


@pytest.mark.parametrize("spelling", ["breakout", "Breakout", "BreakoutNoFrameskip-v4"])
def test_an_agent_is_found_under_every_spelling(spelling):
    assert find_agent(spelling).info["env"] == "breakout"


# A third of the score on the card: six games of a wide distribution; Pong's is a narrow one.
@pytest.mark.parametrize(("name", "games", "least"), [("breakout", 6, 1 / 3), ("pong", 2, 0.7)])
@pytest.mark.usefixtures("one_thread")
def test_an_agent_plays_about_as_well_as_its_card_says(name, games, least):
    claimed = find_agent(name).info["card"]["evaluation"]
    result = evaluate(load_policy(name), games, seed=1)
    assert result.summary()["mean"] > claimed["mean"] * least
