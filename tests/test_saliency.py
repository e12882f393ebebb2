"""Saliency of toy agents whose answer is known, and the arithmetic against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.show import saliency


def looks_at(row: int, column: int, size: int = 6):
    """An agent whose value and first action depend on one square of the newest frame only."""

    def think(obs: np.ndarray) -> dict[str, np.ndarray]:
        x = obs[:, row : row + size, column : column + size, -1].astype(np.float64).mean((1, 2)) / 255
        p = 0.1 + 0.8 * x
        return {"value": 5 * x, "probs": np.stack([p, 1 - p], -1)}

    return think


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (84, 84, 4)).astype(np.uint8)


@pytest.mark.parametrize(("row", "column"), [(10, 60), (70, 5), (40, 40), (0, 0), (78, 78)])
def test_occlusion_peaks_at_the_patch_that_matters(row, column):
    obs = np.zeros((84, 84, 4), np.uint8)
    obs[row : row + 6, column : column + 6] = 255
    obs[20:24, 20:24] = 255  # something else to see, that this agent ignores
    effects = saliency.occlusion(looks_at(row, column), obs)
    for seen in effects.maps().values():
        y, x = np.unravel_index(seen.argmax(), seen.shape)
        assert abs(y - row - 2.5) <= 6
        assert abs(x - column - 2.5) <= 6
    best = effects.where[effects.strength.argmax()]
    assert np.abs(best - [row + 2.5, column + 2.5]).max() <= 6
    assert effects.value_change.min() < -1.5  # without the patch the value of 5 falls
    assert effects.probs is not None
    assert effects.probs_after is not None
    assert effects.probs_after[effects.strength.argmax(), 0] < 0.7 < effects.probs[0]


def test_a_temperature_changes_the_probabilities_but_not_the_maps():
    plain = looks_at(10, 60)

    def greedy(obs: np.ndarray) -> dict[str, np.ndarray]:
        out = plain(obs)
        return {"value": out["value"], "probs": np.eye(2)[out["probs"].argmax(-1)], "net_probs": out["probs"]}

    obs = np.zeros((84, 84, 4), np.uint8)
    obs[10:16, 60:66] = 255
    sharp, soft = (saliency.occlusion(think, obs) for think in (greedy, plain))
    assert sharp.probs is not None
    assert soft.probs is not None
    assert sharp.probs.tolist() == [1, 0]
    assert soft.probs.tolist() == pytest.approx([0.9, 0.1])
    for name, seen in soft.maps().items():
        assert seen.any()
        assert np.array_equal(sharp.maps()[name], seen)


def test_an_agent_that_sees_nothing_has_no_saliency():
    effects = saliency.occlusion(lambda o: {"probs": np.full((len(o), 4), 0.25)}, noise())
    assert effects.value is None
    assert all(not seen.any() for seen in effects.maps().values())
    assert not effects.strength.any()


def test_blur_is_local_and_only_there():
    obs = noise()
    (copy,) = saliency.blur_patches(obs, np.array([[40.0, 20.0]]))
    assert np.abs(copy[38:43, 18:23].astype(int) - obs[38:43, 18:23]).mean() > 20
    assert np.array_equal(copy[:, 50:], obs[:, 50:])
    plain = np.full((36, 40, 2), 7, np.uint8)
    assert (saliency.blur_patches(plain, np.array([[1.0, 1.0]])) == 7).all()


@pytest.mark.parametrize("shape", [(84, 84), (36, 210), (7, 5), (1, 1)])
def test_patches_cover_the_picture_evenly(shape):
    centres, (rows, columns) = saliency.patches(shape)
    assert len(centres) == rows * columns
    assert (centres.min(0) >= -0.5).all()
    assert (centres.max(0) <= np.array(shape) - 0.5).all()
    assert np.allclose(centres.mean(0), (np.array(shape) - 1) / 2)


def test_batches_do_not_change_the_answer(monkeypatch):
    obs, think = noise(), looks_at(30, 30)
    whole = saliency.occlusion(think, obs)
    monkeypatch.setattr(saliency, "BATCH", 7)
    assert np.array_equal(saliency.occlusion(think, obs).values, whole.values)


def test_features_find_the_one_that_matters():
    def think(obs):
        return {"value": 3 * obs[:, 2], "probs": np.tile([0.5, 0.5], (len(obs), 1))}

    obs = np.array([9.0, 9.0, 1.5, 9.0], np.float32)
    effects = saliency.feature_effects(think, obs, np.zeros(4, np.float32))
    assert np.allclose(effects.value_change, [0, 0, -4.5, 0])
    assert not effects.divergence.any()


def test_action_values_stand_in_for_a_value():
    think = {"q": np.array([[1.0, 4.0], [2.0, -1.0]])}
    assert np.array_equal(saliency.values_of(think), [4.0, 2.0])
    assert saliency.values_of({"probs": np.ones((1, 1))}) is None


class Square(torch.nn.Module):
    def forward(self, obs):
        x = obs[:, 12:18, 60:66, -1].mean((1, 2))
        return torch.stack([x, -x], -1), 2 * x


def test_gradients_are_where_the_net_looks_and_agree_with_finite_differences():
    obs = noise()
    maps = saliency.gradients(Square(), obs, action=1)
    for seen in maps.values():
        y, x = np.unravel_index(seen.argmax(), seen.shape)
        assert 12 <= y < 18
        assert 60 <= x < 66
        assert seen[60:, :30].max() < 1e-9 * seen.max()

    def vector_net(obs):
        return torch.stack([obs[:, 0], -obs[:, 1]], -1), 3 * obs[:, 1] ** 2

    got = saliency.gradients(vector_net, np.array([0.3, 0.7], np.float32), action=0)
    p = np.exp([0.3, -0.7]) / np.exp([0.3, -0.7]).sum()
    assert np.allclose(got["value"], [0, 4.2], atol=1e-6)
    assert np.allclose(got["policy"], [1 - p[0], p[1]], atol=1e-6)


def test_kl_and_entropy_by_hand():
    assert saliency.kl(np.array([0.5, 0.5]), np.array([0.25, 0.75])) == pytest.approx(
        0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    )
    assert saliency.kl(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0
    assert np.isfinite(saliency.kl(np.array([0.5, 0.5]), np.array([1.0, 0.0])))
    assert saliency.entropy(np.full(4, 0.25)) == pytest.approx(np.log(4))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_rank_correlation_is_the_definition(a, random):
    b = [random.randint(-5, 5) for _ in a]

    def ranks(x):
        return np.array([sum(w < v for w in x) + (sum(w == v for w in x) + 1) / 2 for v in x])

    x, y = ranks(a), ranks(b)
    expected = 0.0 if x.std() == 0 or y.std() == 0 else np.corrcoef(x, y)[0, 1]
    assert saliency.rank_correlation(np.array(a), np.array(b)) == pytest.approx(expected, abs=1e-9)


def test_blurred_patches_are_the_formula_over_the_whole_picture():
    import cv2

    obs, centre, radius = noise(3), np.array([[3.0, 70.5]]), 4.0
    (got,) = saliency.blur_patches(obs, centre, radius)
    y, x = np.mgrid[:84, :84]
    weight = np.exp(-((y - 3.0) ** 2 + (x - 70.5) ** 2) / (2 * radius**2))[..., None]
    blurred = cv2.GaussianBlur(obs, (0, 0), radius).astype(float)
    expected = obs * (1 - weight) + blurred * weight
    assert np.abs(got - expected).max() <= 3.5
    assert np.abs(got - expected)[:10, 62:79].max() <= 0.51
