"""Films of agents: `Film`, the file they are written to, and functions that film one game or several.

One game is filmed as frames with panels beside it (`film_frame`); several as a grid (`film_mosaic`).
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.errors import StorageError, UsageError, unknown
from playfield.play.agent import load_policy
from playfield.play.evaluate import Evaluation, Game
from playfield.play.player import Moment, Player, fps_of
from playfield.play.policy import Policy
from playfield.runs.console import Say
from playfield.runs.storage import claim_temporary, folder_for, release_temporary, remove_leftovers
from playfield.show import panels
from playfield.show.video_writers import GifWriter, Mp4Writer, VideoWriter

SUFFIXES = (".gif", ".mp4")
STYLES = ("plain", "net", "bars", "all")
PERIOD = 10.0  # seconds between two lines of progress
GIF_FRAMES = 450  # of the best game: the MP4 has all of it, the GIF stays small

FrameCallback = Callable[[np.ndarray], None]


class Film:
    """A GIF or MP4 file that is written frame by frame; the suffix of `path` chooses the format.

    The file is written under a temporary name in the same directory and renamed by `close`, so `path` is either a
    complete film or unchanged. An exception inside the `with` block, or no frame at all, leaves no new file. A
    killed process leaves its temporary file, which the next `Film` for the same `path` removes.

    GIF: frames of up to 256 colours are stored exactly (others are quantised), a repeated frame only lengthens the
    delay of the one before, and the film loops. GIF delays are multiples of 1/100 s, and browsers slow down delays
    below 2/100 s: above 50 frames/s some frames are dropped, and the duration stays right.
    MP4: H.264, yuv420p, BT.709, index first (it plays while it loads); an odd size is padded by one pixel.
    Equal frames give equal bytes.

    Args:
        path: ends in `.gif` or `.mp4`. Missing directories are created.
        fps: frames per second, above 0.

    Raises:
        UsageError: another suffix, a bad `fps`, no MP4 encoder, a frame of another shape or dtype, no frames.
        StorageError: the file cannot be written.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        self.frames = 0
        suffix = check_suffix(self.path)
        if not (math.isfinite(fps) and fps > 0):
            raise UsageError(f"--fps must be above 0 frames per second, not {fps}")
        self._shape: tuple[int, ...] | None = None
        self._temp = claim_temporary(self.path)
        self._writer: VideoWriter | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # a temporary file that cannot be removed does no harm
                remove_leftovers(self.path.parent, self.path.name)
            self._writer = GifWriter(self._temp, fps) if suffix == ".gif" else Mp4Writer(self._temp, fps)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error}") from error
        finally:
            if self._writer is None:
                release_temporary(self._temp)

    def add(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 [H, W, 3], of the shape of the first one. The array is copied."""
        if self._writer is None:
            raise UsageError(f"{self.path} is closed: no frame can be added")
        frame = np.asarray(frame)
        if self._shape is None and frame.ndim == 3 and frame.shape[2] == 3 and frame.size:
            self._shape = frame.shape
        if frame.dtype != np.uint8 or frame.shape != self._shape:
            want = self._shape or "[H, W, 3]"
            raise UsageError(f"a frame of {self.path.name} is uint8 {want}, not {frame.dtype} {frame.shape}")
        try:
            self._writer.add(frame)
        except OSError as error:
            self.discard()
            raise StorageError(f"cannot write {self.path}: {error}") from error
        self.frames += 1

    def close(self) -> None:
        """Finish the file and rename it to `path`. A second call does nothing."""
        if self._writer is None:
            return
        if not self.frames:
            self.discard()
            raise UsageError(f"no frames for {self.path}: no film is written")
        writer, self._writer = self._writer, None
        try:
            writer.close()
            with open(self._temp, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(self._temp, self.path)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error}") from error
        finally:
            release_temporary(self._temp)

    def discard(self) -> None:
        """Stop, and delete the unfinished file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(Exception):  # the file is deleted anyway
                writer.close()
        release_temporary(self._temp)

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def film_best_game(directory: Path, result: Evaluation, say: Say | None = None) -> dict[str, Path]:
    """Film the best game of an evaluation of the run in `directory`, as `films/best-game.mp4` and `.gif`.

    Returns the paths by suffix, `{"mp4": ..., "gif": ...}`. Raises StorageError where they cannot be written.
    """
    policy = load_policy(directory)
    game = result.best
    folder = directory / "films"
    files: dict[str, Path] = {}
    if say is not None:
        say("filming the best game ...")
    with folder_for(folder):
        for suffix, limit in ((".mp4", None), (".gif", GIF_FRAMES)):
            path = folder / f"best-game{suffix}"
            count = film_game(policy, game, path, style="bars" if suffix == ".mp4" else "plain", limit=limit)
            if say is not None:
                cut = f", first {count} frames" if limit is not None and count == limit else ""
                say(f"film of the best game (score {game.score:g}){cut}: {path}")
            files[suffix[1:]] = path
    return files


def film_game(policy: Policy, game: Game, path: Path, *, style: str = "bars", limit: int | None = None) -> int:
    """Replay a game of an evaluation by its seed and actions, and film it. Returns the number of frames."""
    player = Player(policy, game.seed, game.actions.tolist())
    try:
        return film_moments(player.moments(game.number, game.number), policy.spec, path, style=style, limit=limit)
    finally:
        player.close()


def film_moments(
    moments: Iterator[Moment],
    spec: EnvSpec,
    path: Path,
    *,
    style: str = "bars",
    limit: int | None = None,
    fps: float | None = None,
    on_frame: Sequence[FrameCallback] = (),
) -> int:
    """Write one frame per moment to `path` (.gif or .mp4). Returns the number of frames.

    Args:
        style: see `film_frame`.
        limit: frames at most.
        fps: frames per second; by default the speed of the game.
        on_frame: called with each frame, uint8 [H, W, 3].
    """
    count = 0
    with Film(path, fps or fps_of(spec)) as film:
        for moment in moments:
            frame = film_frame(moment, spec, style)
            film.add(frame)
            for call in on_frame:
                call(frame)
            count += 1
            if limit is not None and count >= limit:
                break
    return count


def film_frame(moment: Moment, spec: EnvSpec, style: str) -> np.ndarray:
    """One moment as a frame of a film, uint8 [H, W, 3].

    Args:
        style: `plain` shows the game, `net` the game and the observation, `bars` the game and the action
            probabilities (action values of a value-based agent), `all` all three.
    """
    if style not in STYLES:
        raise UsageError(f"--show must be one of {', '.join(STYLES)}, not {style!r}")
    game = panels.tv(moment.frame) if spec.family.tv_frames else moment.frame
    height = game.shape[0]
    parts = [game]
    with_obs = style in ("net", "all") and spec.pixels
    if with_obs:
        parts.append(panels.stack_overlay(spec.visible(moment.obs), height))
    if style in ("bars", "all") and "q" in moment.outputs:  # epsilon-greedy probabilities tell less
        parts.append(panels.q_bars(moment.outputs["q"], spec.action_names, (height, 260), moment.action))
    elif style in ("bars", "all") and "probs" in moment.outputs:
        value = moment.outputs.get("value")
        parts.append(
            panels.probability_bars(
                moment.outputs["probs"],
                spec.action_names,
                size=(height, 260),
                chosen=moment.action,
                value=None if value is None else float(value),
            )
        )
    if style == "plain":
        return game
    if with_obs:  # the screen and the observation look alike: each gets a caption
        bars = "action values" if "q" in moment.outputs else "action probabilities"
        names = ("screen", "observation (orange: older frames)", bars)
        parts = [panels.caption(part, name, size=14) for part, name in zip(parts, names, strict=False)]
    picture = parts[0] if len(parts) == 1 else panels.beside(*parts)
    return panels.caption(picture, f"{spec.id} · score {moment.score:g}", f"step {moment.step:,}")


def check_suffix(path: Path) -> str:
    """The suffix of a film in lower case. Raises UsageError for one that is no film's."""
    if any(len(os.fsencode(part)) > 240 for part in path.parts):  # a temporary file beside it has a longer name
        raise UsageError(f"a name of a film is longer than 240 bytes: {str(path)[:40]}...")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise unknown("film format", suffix or path.name, SUFFIXES, "(the file name ends in .gif or .mp4)")
    return suffix


def check_mosaic(count: int) -> None:
    """Raise UsageError for what is no number of games in a square grid."""
    if count < 1 or math.isqrt(count) ** 2 != count or count > 100:
        raise UsageError(f"--mosaic takes a square number up to 100, such as 4, 9 or 25, not {count}")


def film_mosaic(
    policy: Policy,
    count: int,
    path: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    fps: float | None = None,
    on_frame: Sequence[FrameCallback] = (),
) -> int:
    """Film `count` games in a square grid, game i from seed `seed + i`. Returns the number of frames.

    Args:
        count: a square number, up to 100.
        steps: frames at most; by default until all games are over.
        fps, on_frame: see `film_moments`.
    """
    check_mosaic(count)
    written = 0
    grids = mosaic_frames(policy, count, seed, steps)
    with contextlib.closing(grids), Film(path, fps or fps_of(policy.spec)) as film:
        for grid in grids:
            film.add(grid)
            for call in on_frame:
                call(grid)
            written += 1
    return written


def mosaic_frames(
    policy: Policy, count: int, seed: int = 0, steps: int | None = None
) -> Generator[np.ndarray, None, None]:
    """Frames uint8 [H, W, 3] of `count` games in a square grid, game i from seed `seed + i`; see `film_mosaic`.

    Finished games stay, dimmed. The caption names environment and agent, the one of each game its score.
    """
    check_mosaic(count)
    players = [Player(policy, seed + i) for i in range(count)]
    games = [p.moments(0, 0) for p in players]
    last: list[np.ndarray | None] = [None] * count
    made = 0
    try:
        while steps is None or made < steps:
            alive = False
            for i, game in enumerate(games):
                moment = next(game, None)
                if moment is not None:
                    alive = True
                    tv = policy.spec.family.tv_frames
                    small = panels.upscale(moment.frame, (1, 2)) if tv else moment.frame
                    picture = panels.dim(small) if moment.over else small
                    which = f"game {i + 1}{', over' if moment.over else ''}"
                    last[i] = panels.caption(picture, f"score {moment.score:g}", which)
            if not alive:
                break
            grid = panels.mosaic([f for f in last if f is not None])
            yield panels.caption(grid, f"{policy.spec.id} · {policy.label}", f"step {made:,}")
            made += 1
    finally:
        for p in players:
            p.close()


def progress_callback(say: Say, path: Path, steps: int | None) -> FrameCallback:
    """A callback for `on_frame` that reports the number of frames every `PERIOD` seconds."""
    count, shown = 0, time.monotonic()

    def report(_frame: np.ndarray) -> None:
        nonlocal count, shown
        count += 1
        if time.monotonic() - shown >= PERIOD:
            shown = time.monotonic()
            say(f"filming {path}: {count:,} frames" + ("" if steps is None else f" of {steps:,}"))

    return report
