"""The agents that come with the package: small, with a card, and as good as the card says."""

from __future__ import annotations

import json

import pytest

from playfield.evaluation import evaluate
from playfield.policy import SHIPPED, find_agent, load_policy, shipped


def test_breakout_ships():
    assert "breakout" in shipped()


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


def test_an_agent_plays_about_as_well_as_its_card_says():
    claimed = find_agent("breakout").info["card"]["evaluation"]
    result = evaluate(load_policy("breakout"), 6, seed=1)
    assert result.summary()["mean"] > claimed["mean"] / 3  # six games of a wide distribution
