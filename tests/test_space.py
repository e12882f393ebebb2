"""What a tuning searches: of every algorithm inside the ranges of its options, or as a TOML file says."""

from __future__ import annotations

import itertools
import os

import pytest

from playfield.errors import DataError, UsageError
from playfield.experiments.estimate import confirm, seconds_for
from playfield.experiments.space import read_space, space_of, with_value
from playfield.options import Search
from playfield.runs import algorithm, catalog

SEARCHED = ["a2c", "c51", "dqn", "hlgauss", "linear_ac", "ppo", "pqn", "qlearning", "qrdqn", "rainbow", "sarsa"]
SEARCHED += ["sarsa_lambda"]


@pytest.mark.parametrize("name", SEARCHED)
def test_what_is_worth_trying_lies_inside_the_ranges_of_the_options(name):
    module, known = algorithm.load(name), {o.name: o for o in catalog.options(name)}
    for cfg in [cfg for table in module.PRESETS.values() for cfg in table.values()]:
        space = space_of(cfg, None, known)
        assert len(space) >= 3
        for option, search in space.items():
            values = search.choices or (search.low, search.high)
            assert len(set(values)) == len(values) > 1
            for value in values:
                known[option].check(value)
            if search.choices:
                assert getattr(cfg, option) in search.choices
            else:
                assert search.low <= getattr(cfg, option) <= search.high
                assert search.low > 0 or not search.log


@pytest.mark.parametrize("name", ["ppo", "pqn", "dqn", "c51", "a2c", "rainbow"])
def test_any_choice_of_sizes_can_be_trained_with_one_worker(name):
    module, known = algorithm.load(name), {o.name: o for o in catalog.options(name)}
    cfg = module.PRESETS["vector"]["default"]
    sizes = ["num_envs", "rollout_steps", "minibatches", "batch_size", "train_period", "learning_starts", "n_step"]
    space = space_of(cfg, None, known)
    values = [space[n].choices or (int(space[n].low), int(space[n].high)) for n in sizes if n in space]
    for chosen in itertools.product(*values):
        module.Config(**{**vars(cfg), **dict(zip([n for n in sizes if n in space], chosen, strict=True))}).check(1)


def test_the_value_that_it_begins_from_is_always_among_it():
    assert with_value(Search(choices=(1, 2)), 3) == Search(choices=(3, 1, 2))
    assert with_value(Search(0.1, 0.2), 0.5) == Search(0.1, 0.5)
    assert with_value(Search(0.1, 1, log=True), 0.01) == Search(0.01, 1, log=True)
    assert with_value(Search(0.1, 1, log=True), 0.0) == Search(0.0, 1), "zero has no logarithm"
    assert with_value(Search(0.1, 1), "linear:1..0") is None


def test_a_step_size_that_is_given_is_searched_instead_of_what_chooses_it():
    from playfield.linear import online

    assert set(online.Config(alpha=0.3).searches()) >= {"alpha", "gamma"}
    assert online.Config(alpha=0.3).searches()["alpha"] == Search(0.01, 9.0, log=True)
    assert "correction" not in online.Config(alpha=0.3).searches()
    assert "alpha" not in online.Config().searches()


def test_what_only_evaluates_a_policy_has_nothing_to_search():
    for name in ("td_lambda", "mrp", "random"):
        module = algorithm.load(name)
        with pytest.raises(UsageError, match="nothing to search"):
            space_of(module.PRESETS["vector"]["default"], None, {o.name: o for o in catalog.options(name)})


GOOD = """
# a comment
lr = {low = 1e-5, high = 1e-3, log = true}
gamma = [0.9, 0.99]
[rollout-steps]
low = 8
high = 64
"""


def test_a_space_of_ones_own(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(GOOD)
    known = {o.name: o for o in catalog.options("ppo")}
    assert read_space(path, known) == {
        "lr": Search(1e-5, 1e-3, log=True),
        "gamma": Search(choices=(0.9, 0.99)),
        "rollout_steps": Search(8, 64),
    }


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("gamma = [0.9, 1]\nlearnin-rate = [1]", 2, "no option called 'learnin-rate': did you mean"),
        ("[rolout_steps]\nlow = 1", 1, "did you mean rollout_steps"),
        ("gamma = [0.9, 2.0]", 1, "must be between 0 and 1"),
        ("gamma = [0.9]", 1, "at least two choices"),
        ("gamma = [0.9, 0.9]", 1, "all different"),
        ("gamma = 0.9", 1, "takes choices"),
        ("lr = {low = 1e-3, hi = 2e-3}", 1, "did you mean high"),
        ("lr = {low = 1e-3}", 1, "takes low and high"),
        ("lr = {low = 1e-3, high = 1e-4}", 1, "must be below high"),
        ("lr = {low = 0.0, high = 1e-4, log = true}", 1, "above 0"),
        ("\n\nanneal = {low = 0, high = 1}", 3, "takes choices, as in anneal = [true, false]"),
        ("epochs = [1, 2.5]", 1, "whole number"),
    ],
)
def test_a_mistake_in_a_space_names_file_line_and_the_nearest_name(tmp_path, text, line, message):
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_space(path, {o.name: o for o in catalog.options("ppo")})
    told = str(caught.value)
    where = "space.toml: " if "hi = " in text else f"space.toml, line {line}: "
    assert where in told
    assert message in told


def test_hostile_files_are_refused(tmp_path):
    path = tmp_path / "space.toml"
    with pytest.raises(UsageError, match="no file"):
        read_space(path, {})
    for text in ("a = ", "a = " + "[" * 20_000 + "]" * 20_000, "a = " + "1" * 10_000, "\0"):
        path.write_text(text)
        with pytest.raises(DataError):
            read_space(path, {})
    path.write_bytes(b"\x80\x04\x95")
    with pytest.raises(DataError, match="UTF-8"):
        read_space(path, {})
    with open(path, "wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(DataError, match="more than"):
        read_space(path, {})
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file"):
        read_space(path, {})
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="link"):
        read_space(path, {})


def test_how_long_it_takes():
    assert seconds_for([10, 10, 10], 1) == 30
    assert seconds_for([10, 10, 10], 2) == 20
    assert seconds_for([1, 9, 4, 4], 2) == 9
    assert seconds_for([], 4) == 0
    assert "about 10 s" in confirm(10, "40 trials", False)
    with pytest.raises(UsageError, match=r"40 trials: about 2 d 0 h .* add --yes"):
        confirm(2 * 86_400, "40 trials", False)
    assert "2 d 0 h" in confirm(2 * 86_400, "40 trials", True)
