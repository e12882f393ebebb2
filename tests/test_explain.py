"""The report: which moments, which words, which pictures."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import playfield
from playfield.errors import UsageError
from playfield.play.agent import load_policy
from playfield.show import panels
from playfield.show.explain import explain, pick_moments
from playfield.show.explain_page import counterfactual, percent, sanity_sentence
from playfield.show.explain_picture import paint
from playfield.show.saliency import Effects
from watch_fixtures import make_run


def test_moments_of_each_kind_are_picked():
    values = np.zeros(200)
    values[120:] = 9.0
    entropies = np.full(200, 0.5)
    entropies[40], entropies[160] = 1.3, 0.1
    rewards = np.zeros(200)
    rewards[80] = 4.0
    picks = pick_moments(values, entropies, rewards, [20, 199], 6)
    why = {pick.index: pick.why for pick in picks}
    assert sorted(why) == [19, 40, 80, 119, 160, 198]
    assert "reward of 4" in why[80]
    assert "rises" in why[119]
    assert "least certain" in why[40]
    assert "most certain" in why[160]
    assert "life" in why[198]
    assert [p.index for p in picks] == sorted(why)


def test_a_random_agent_gets_evenly_spaced_moments():
    picks = pick_moments(None, None, np.ones(100), [99], 5)
    assert len(picks) == 5
    assert np.diff([p.index for p in picks]).min() >= 8
    assert len(pick_moments(None, None, [1.0], [0], 5)) == 1


def effects(value=3.2, after=1.1, probs=(0.81, 0.19), probs_after=(0.12, 0.88)):
    before, later = np.array(probs), np.array([probs_after])
    return Effects(np.zeros((1, 2)), (1, 1), (1, 1), value, np.array([after]), before, later, before, later)


def test_the_counterfactual_in_words():
    text = counterfactual(effects(), ("RIGHT", "LEFT"), 0, "Without this patch")
    assert text == (
        "Without this patch the value falls from 3.20 to 1.10, RIGHT drops from 81 % to 12 % and "
        "LEFT instead of RIGHT becomes the most likely action."
    )
    same = counterfactual(effects(after=3.2004, probs_after=(0.8101, 0.1899)), ("RIGHT", "LEFT"), 0, "Without it")
    assert same == "Without it the value stays at 3.20 and RIGHT stays at 81 %."


def test_percent():
    assert [percent(p) for p in (0, 0.004, 0.0999, 0.5, 1)] == ["0 %", "0.4 %", "10 %", "50 %", "100 %"]


def test_paint_marks_the_right_place():
    frame = np.full((84, 84, 3), 100, np.uint8)
    seen = np.zeros((84, 84))
    seen[60:64, 20:24] = 1
    out = paint(frame, {"value": seen, "policy": np.zeros_like(seen)}, (0.5, 0.5, 0.7, 0.9))
    assert (out[62, 22] > out[5, 5]).any()
    assert int(out[62, 22, 0]) - int(out[62, 22, 2]) > 50  # orange
    assert (out[42, 42:70] == 255).all()
    assert np.ptp(out[:30].reshape(-1, 3), axis=0).max() == 0


def test_sanity_sentences():
    assert "not from training" in sanity_sentence(0.9)
    assert "+0.10" in sanity_sentence(0.1)
    assert "no network" in sanity_sentence(None)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.images, self.tags, self.links = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        found = dict(attrs)
        self.links += [v for k, v in found.items() if k in ("src", "href")]
        if tag == "img":
            self.images.append(found)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return {env: make_run(root / env, env, (7,)) for env in ("CartPole-v1", "breakout")}


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
@pytest.mark.parametrize("env", ["CartPole-v1", "breakout"])
def test_a_report(runs, env, method, tmp_path):
    page = explain(str(runs[env]), out=tmp_path / "why", moments=2, method=method)
    assert page == tmp_path / "why" / "explain.html"
    text = page.read_text()
    parser = Page()
    parser.feed(text)
    assert len(parser.images) == 2
    assert all(link.startswith("data:") for link in parser.links)  # nothing is asked of any host
    assert "script" not in parser.tags
    assert re.search(r"rank correlation [+-]\d\.\d\d", text)
    assert "Atrey et al. 2020" in text
    assert re.search(r"the value (falls|rises|stays)", text)
    for n in (1, 2):
        picture = np.asarray(Image.open(page.parent / f"moment-{n}.png"))
        assert picture.shape[2] == 3
        assert picture.std() > 10


@pytest.mark.parametrize("temperature", [0, 0.25, 1])
def test_a_report_shows_the_probabilities_that_are_played(runs, temperature, tmp_path, monkeypatch):
    shown = []

    def picture(moment, spec, maps, effects, title):
        shown.append((moment.obs, moment.outputs["probs"], effects.probs))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr("playfield.show.explain.picture", picture)
    page = explain(str(runs["CartPole-v1"]), out=tmp_path, moments=3, temperature=temperature)
    text = page.read_text()
    assert ("greedily, temperature 0" if temperature == 0 else f"at temperature {temperature:g}") in text
    policy = load_policy(runs["CartPole-v1"], temperature=temperature)
    assert len(shown) >= 2
    for obs, bars, words in shown:
        many = np.repeat(obs[None], 4000, 0)
        played = np.bincount(policy.act(many, np.random.default_rng(0).random(4000)), minlength=2) / 4000
        np.testing.assert_allclose(bars, played, atol=0.03)
        np.testing.assert_allclose(words, bars, atol=1e-6)


def test_the_report_says_that_a_random_agent_ignores_its_observation(tmp_path):
    page = explain("CartPole-v1", agent="random", out=tmp_path, moments=1)
    assert "does not use its observation" in page.read_text()
    again = page.read_bytes()
    assert explain("CartPole-v1", agent="random", out=tmp_path, moments=1).read_bytes() == again


def test_the_report_of_fewer_moments_replaces_that_of_more(tmp_path):
    explain("CartPole-v1", agent="random", out=tmp_path, moments=2)
    (tmp_path / "moment-of-mine.png").touch()
    explain("CartPole-v1", agent="random", out=tmp_path, moments=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["explain.html", "moment-1.png", "moment-of-mine.png"]


def test_mistakes(runs, tmp_path):
    with pytest.raises(UsageError, match="no method called"):
        explain(str(runs["CartPole-v1"]), out=tmp_path / "x", method="lime")
    with pytest.raises(UsageError, match="no gradients"):
        explain("CartPole-v1", agent="random", out=tmp_path / "x", method="gradient")
    with pytest.raises(UsageError, match="moments must be between 1 and"):
        explain(str(runs["CartPole-v1"]), out=tmp_path / "x", moments=0)
    assert not (tmp_path / "x").exists()


def test_numbers_keep_their_per_cent_sign_and_the_score_is_the_pictures(runs, tmp_path, monkeypatch):
    policy = load_policy(runs["CartPole-v1"])
    told = []
    caption = panels.caption

    def note(panel, text, right="", **how):
        told.append((text, right))
        return caption(panel, text, right, **how)

    monkeypatch.setattr(panels, "caption", note)
    text = explain(str(runs["CartPole-v1"]), out=tmp_path, moments=2).read_text()
    assert f"Agent: {policy.label}" in text
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert len(captions) == 2
    assert not any(re.search(r"\d %", line) for line in captions)
    assert any(re.search(r"\d&nbsp;%", line) for line in captions)
    heads = [
        (int(text.removeprefix("step ").replace(",", "")), right) for text, right in told if text.startswith("step ")
    ]
    assert len(heads) == 2
    assert all(right == f"score {step}" for step, right in heads)  # CartPole: as many points as steps before


@pytest.mark.parametrize(
    ("algo", "preset", "method"),
    [
        ("a2c", "keras-cartpole", "gradient"),  # policy and value share a body, also for vectors
        ("a2c", "keras-cartpole", "occlusion"),
        ("a2c", "default", "gradient"),
        ("dqn", "default", "occlusion"),
        ("rainbow", "default", "occlusion"),
        ("linear_ac", "default", "occlusion"),
    ],
)
def test_runs_of_other_algorithms_are_explained(algo, preset, method, tmp_path):
    config = {"learning_starts": 300} if algo in ("dqn", "rainbow") else {}
    quiet = {"games": 0, "film": False, "console": False, "tensorboard": False, "workers": 1}
    run = playfield.train("CartPole-v1", algo, preset=preset, steps=512, run=tmp_path / "run", config=config, **quiet)
    page = explain(str(run.directory), out=tmp_path / "why", moments=1, method=method)
    assert "Atrey et al. 2020" in page.read_text()


def test_an_agent_without_gradients_says_so(tmp_path):
    quiet = {"games": 0, "film": False, "console": False, "tensorboard": False}
    run = playfield.train("CartPole-v1", "sarsa", steps=500, run=tmp_path / "run", **quiet)
    with pytest.raises(UsageError, match="has no gradients: use --method occlusion"):
        explain(str(run.directory), out=tmp_path / "why", moments=1, method="gradient")
