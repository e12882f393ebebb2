"""`playfield preprocess`: the preprocessing from Atari screen to observation, step by step, in one picture.

Luminance, maximum and resizing are computed here from single frames of the emulator and compared with the
observation of the environment, which takes ALE's grey screens: the same luminance, rounded.
"""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from playfield.envs import make_envs
from playfield.envs.atari import Atari
from playfield.envs.atari_modes import AtariModes
from playfield.envs.atari_viewed import Viewed
from playfield.errors import UsageError
from playfield.show import panels
from playfield.show.formats import check_picture
from playfield.show.panels import pictures, write_png

WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, and ALE's grey palette


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Luminance of RGB pictures, uint8 [..., 3] to uint8 [...]: 0.299 R + 0.587 G + 0.114 B, rounded."""
    red, green, blue = (rgb[..., k].astype(np.float64) * weight for k, weight in enumerate(WEIGHTS))
    return np.rint(red + green + blue).astype(np.uint8)


def play(env: Atari | AtariModes | Viewed, steps: int, seed: int) -> tuple[list[np.ndarray], np.ndarray, int]:
    """Play `steps` random steps; returns the emulator frames of the last step, the observation after it, the steps.

    A second emulator plays the same game frame by frame. If the last step ended a game, play goes on until one does
    not: the observation after it would be the first of the next game.

    Returns:
        The frames of the last step, each uint8 RGB [210, 160, 3]; the observation, [H, W, C]; the steps played.
    """
    protocol, names = env.protocol, env.spec.action_names
    # the same kind of emulator: another would draw other no-ops
    make = AtariModes if protocol.single else Atari
    single = make(env.game, 1, protocol.changed(skip=1, skip_min=None, maxpool=False, cap=10_000_000), raw=True)
    fire = names.index("FIRE") if protocol.fire_reset and "FIRE" in names else -1
    rng = np.random.default_rng(seed)
    games, played, ended = 0, 0, True
    frames: list[np.ndarray] = []
    try:
        while played < steps or ended:
            if ended:  # explicit seeds keep both emulators in the same game
                first = np.array([seed + games])
                env.reset(first), single.reset(first)
                games += 1
            action = rng.integers(len(names), size=1)
            executed = np.array([fire]) if fire >= 0 and env.life_lost[0] else action
            step = env.step(action)
            frames = []
            while len(frames) < env.held[0] and not (frames and ended):
                single.life_lost[:] = False  # otherwise it would press FIRE in the middle of a step
                frame = single.step(executed)
                frames.append(frame.next_obs[0].copy())
                ended = bool(frame.episodes)
            ended = bool(step.episodes)
            played += 1
        return frames, step.obs[0].copy(), played
    finally:
        single.close()


def preprocess(
    name: str,
    *,
    steps: int = 100,
    seed: int = 0,
    protocol: str | None = None,
    view: str | None = None,
    out: Path | None = None,
    json: bool = False,
    **parts: Any,
) -> dict[str, Any]:
    """Write one PNG: screen, luminance, maximum of two frames, resized frame and the frame stack.

    Args:
        name: an Atari game.
        steps: random steps to play first, at least 1.
        seed: of the game and of the actions.
        protocol, view, parts: see `make_envs`.
        out: the picture (default `preprocess-GAME.png` in the current directory).
        json: print a JSON object instead of text.

    Returns:
        What is printed with `json`: the path of the picture, sizes in bytes, the shape of the observation, and the
        largest difference between the observation and the one computed here, in grey levels (None for colours and
        views).

    Raises:
        UsageError: not an Atari game with pixel observations, or `out` cannot be written.
    """
    if out is not None:
        check_picture(out)
    env = make_envs(name, 1, protocol=protocol, view=view, **parts)
    try:
        if not isinstance(env, Atari | AtariModes | Viewed):
            raise UsageError(f"{name} has no Atari pixel observations: try playfield preprocess breakout")
        frames, obs, played = play(env, steps, seed)
    finally:
        env.close()
    rules, stack = env.protocol, int(env.spec.protocol["stack"])
    by_hand = isinstance(env, Atari | AtariModes) and rules.colour == "grey"
    newest = pictures(obs, stack)[-1]
    steps_by_hand = _by_hand(frames, rules.screen, rules.maxpool)
    difference = None
    if by_hand:
        difference = int(np.abs(steps_by_hand[-1][1].astype(int) - newest[..., 0]).max())
    path = out or Path(f"preprocess-{env.game}.png")
    write_png(path, _page(env, frames, steps_by_hand if by_hand else steps_by_hand[:1], obs, stack, difference))
    result = {
        "picture": str(path),
        "env": env.spec.id,
        "steps": played,
        "seed": seed,
        "screen_bytes": frames[-1].nbytes,
        "obs_shape": list(env.spec.obs_shape),
        "obs_bytes": obs.nbytes,
        "largest_difference_by_hand": difference,
    }
    if json:
        print(jsonlib.dumps(result, indent=1))
    else:
        print("\n".join(_lines(env, result)))
    return result


def _by_hand(frames: list[np.ndarray], screen: tuple[int, int], maxpool: bool) -> list[tuple[str, np.ndarray]]:
    """The preprocessing of the frames of one step: (name, grey picture uint8 [H, W]) of each stage."""
    grey = [luminance(frame) for frame in frames[-2:]]
    done = [("luminance 0.299 R + 0.587 G + 0.114 B", grey[-1])]
    if maxpool and len(frames) > 1:
        done.append(("maximum of the last two frames", np.maximum(*grey)))
    if screen != done[-1][1].shape:
        resized = cv2.resize(done[-1][1], screen[::-1], interpolation=cv2.INTER_AREA)
        done.append((f"resized to {screen[0]}x{screen[1]}, area interpolation", resized))
    return done


def _page(
    env: Atari | AtariModes | Viewed,
    frames: list[np.ndarray],
    by_hand: list[tuple[str, np.ndarray]],
    obs: np.ndarray,
    stack: int,
    difference: int | None,
) -> np.ndarray:
    count = len(frames)
    screens = [(f"screen, frame {count - 1} of {count}", frames[-2])] if count > 1 else []
    screens.append((f"screen, frame {count} of {count}: 210x160 RGB", frames[-1]))
    row = [_tile(panels.upscale(frame, (2, 3)), title) for title, frame in screens]
    row += [_tile(panels.upscale(_rgb(p), (2, 3)), title) for title, p in by_hand if p.shape == (210, 160)]
    newest = pictures(obs, stack)[-1]
    small = [(title, _rgb(p)) for title, p in by_hand if p.shape != (210, 160)]
    if difference is None:
        given = f"observation: view {env.view.spec}" if isinstance(env, Viewed) else "observation"
    else:
        same = "the same" if not difference else f"differs by up to {difference}"
        given = f"observation of the environment: {same}"
    second = [_tile(panels.fit(p, 420), title) for title, p in [*small, (given, newest)]]
    parts = [
        _tile(panels.fit(p, 252), "t" if k == stack - 1 else f"t-{stack - 1 - k}")
        for k, p in enumerate(_times(obs, stack))
    ]
    shape = "x".join(map(str, obs.shape))
    net = panels.caption(panels.beside(*parts), f"network input, divided by 255: {shape} uint8, {obs.size:,} bytes")
    return _stacked(panels.beside(*row), panels.beside(*second), net)


def _times(obs: np.ndarray, stack: int) -> list[np.ndarray]:
    """One picture per time step of a stack; channels other than RGB stand side by side."""
    shown = pictures(obs, stack)
    each = len(shown) // stack
    return [panels.beside(*shown[k * each : (k + 1) * each], gap=2) for k in range(stack)]


def _tile(picture: np.ndarray, title: str) -> np.ndarray:
    return panels.caption(picture, title, size=14)


def _rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def _stacked(*rows: np.ndarray, gap: int = 12) -> np.ndarray:
    """Pictures below each other, left-aligned."""
    width = max(row.shape[1] for row in rows)
    out = np.full((sum(row.shape[0] + gap for row in rows) - gap, width, 3), panels.BACKGROUND, np.uint8)
    y = 0
    for row in rows:
        out[y : y + row.shape[0], : row.shape[1]] = row
        y += row.shape[0] + gap
    return out


def _lines(env: Atari | AtariModes | Viewed, result: dict[str, Any]) -> list[str]:
    shape = "x".join(map(str, result["obs_shape"]))
    lines = [
        f"{result['env']} after {result['steps']:,} random steps from seed {result['seed']}; {env.protocol.line()}",
        f"a screen of {result['screen_bytes']:,} bytes becomes {shape}, {result['obs_bytes']:,} bytes",
    ]
    difference = result["largest_difference_by_hand"]
    if isinstance(env, Viewed):
        lines.append(f"the observation is the view {env.view.spec} of the screen")
    elif difference is None:
        lines.append("the observation keeps the colours: the luminance is shown but not used")
    else:
        same = "identical" if not difference else f"different by up to {difference} of 255"
        lines.append(f"the environment uses ALE's grey screens; the result of the steps shown here is {same}")
    return [*lines, f"picture: {result['picture']}"]
