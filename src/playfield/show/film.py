"""Films: GIF and MP4 files written frame by frame.

The pictures that films are made of come from `panels`; its functions can be imported from here too.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from PIL import GifImagePlugin, Image

from playfield.errors import StorageError, UsageError, unknown
from playfield.runs.storage import claim_temporary, release_temporary, remove_leftovers
from playfield.show.panels import (
    beside,
    caption,
    dim,
    fit,
    mosaic,
    probability_bars,
    q_bars,
    stack_overlay,
    stack_strip,
    tv,
    upscale,
)

__all__ = [
    "Film",
    "beside",
    "caption",
    "dim",
    "fit",
    "mosaic",
    "probability_bars",
    "q_bars",
    "stack_overlay",
    "stack_strip",
    "telling_progress",
    "tv",
    "upscale",
]

PERIOD = 10.0  # seconds between two words on how far a film is

SUFFIXES = (".gif", ".mp4")


class _Writer(Protocol):
    def add(self, frame: np.ndarray) -> None: ...
    def close(self) -> None: ...


class Film:
    """Writes a film frame by frame; the suffix of `path` decides between GIF and MP4.

    The film is written beside `path` under a temporary name and renamed when it is whole, so `path` is a
    playable film or is left as it was. Leaving the `with` block by an exception, or without a frame, leaves
    no new file. A writer that is killed leaves its temporary file, which the next film for `path` removes.

    GIF: frames of up to 256 colours are kept exactly (others lose shades), a repeated frame only makes its
    predecessor stay longer, and the film loops. GIF counts time in 1/100 s, and browsers slow down what is
    shown for less than 2/100 s: above 50 frames/s some frames are left out, and the duration stays right.
    MP4: H.264, yuv420p, BT.709, index first (it plays while it loads); an odd size is padded by one pixel.
    The same frames give the same bytes, at any time.

    Args:
        path: ends in `.gif` or `.mp4`. Missing folders are made.
        fps: frames per second, above 0.

    Raises:
        UsageError: another suffix, a bad `fps`, no MP4 encoder, a frame of another shape or dtype, no frames.
        StorageError: the file cannot be written.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        self.frames = 0
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            raise unknown("film format", suffix or self.path.name, SUFFIXES, "(the file name ends in .gif or .mp4)")
        if not (math.isfinite(fps) and fps > 0):
            raise UsageError(f"a film needs more than 0 frames per second, not {fps}")
        self._shape: tuple[int, ...] | None = None
        self._temp = claim_temporary(self.path)
        self._writer: _Writer | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # what a dead writer left is no reason not to write
                remove_leftovers(self.path.parent, self.path.name)
            self._writer = _Gif(self._temp, fps) if suffix == ".gif" else _Mp4(self._temp, fps)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error}") from error
        finally:
            if self._writer is None:
                release_temporary(self._temp)

    def add(self, frame: np.ndarray) -> None:
        """Append `frame`, uint8 [H, W, 3], the same shape each time. The array may be reused afterwards."""
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
        """Finish the film and give it its name. A second call does nothing."""
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
        """Stop and leave no file of this film behind."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(Exception):  # it is thrown away: how it ends no longer matters
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


class _Gif:
    """A streaming GIF writer: each frame stores only the pixels that changed, with its own colour table."""

    SHORTEST = 2  # 1/100 s; browsers show anything shorter for 10
    LONGEST = 65535

    def __init__(self, path: Path, fps: float) -> None:
        self.fps = fps
        self.file = open(path, "wb")  # noqa: SIM115 - closed by close()
        self.shown: np.ndarray | None = None  # what the viewer's screen holds, packed colours [H, W]
        self.waiting: np.ndarray | None = None  # the newest frame; its delay is not yet known
        self.since = 0  # 1/100 s, when `waiting` appears
        self.count = 0

    def add(self, frame: np.ndarray) -> None:
        rgb = frame.astype(np.uint32)
        packed = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
        now = round(100 * self.count / self.fps)
        self.count += 1
        if self.waiting is None:
            height, width = packed.shape
            if max(height, width) > 65535:
                raise UsageError(f"a GIF is at most 65535 pixels wide and high, not {width} x {height}")
            self.file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0x70, 0, 0))
            self.file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # loop for ever
        elif now - self.since >= self.SHORTEST and not np.array_equal(packed, self.waiting):
            self._flush(now)
        elif now - self.since >= self.SHORTEST:
            return  # the same picture again: it stays longer
        self.waiting = packed

    def close(self) -> None:
        with self.file:
            if self.waiting is not None:
                self._flush(max(round(100 * self.count / self.fps), self.since + self.SHORTEST))
                self.file.write(b";")

    def _flush(self, until: int) -> None:
        assert self.waiting is not None
        while self.since < until:  # more than once only for a picture that stays over ten minutes
            delay = min(until - self.since, self.LONGEST)
            self._write(self.waiting, delay)
            self.shown = self.waiting
            self.since += delay

    def _write(self, packed: np.ndarray, delay: int) -> None:
        changed = np.ones(packed.shape, bool) if self.shown is None else packed != self.shown
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        top, bottom = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 1)
        left, right = (int(columns[0]), int(columns[-1]) + 1) if rows.size else (0, 1)
        crop, fresh = packed[top:bottom, left:right], changed[top:bottom, left:right]
        colors, index = np.unique(crop[fresh], return_inverse=True)
        see_through = len(colors) < 256 and not fresh.all()
        if not see_through:
            colors, index = np.unique(crop, return_inverse=True)
        channels = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1).astype(np.uint8)
        if len(colors) > 256:
            image = Image.fromarray(channels[index.reshape(crop.shape)]).quantize(256, dither=Image.Dither.NONE)
        else:
            pixels = np.full(crop.shape, len(colors) if see_through else 0, np.uint8)
            pixels[fresh if see_through else ...] = index.reshape(-1 if see_through else crop.shape)
            image = Image.fromarray(pixels)
            image.putpalette(channels.tobytes() + (b"\0\0\0" if see_through else b""))
        control = struct.pack("<BHB", 0b100 | see_through, delay, len(colors) if see_through else 0)
        self.file.write(b"\x21\xf9\x04" + control + b"\0")
        for block in GifImagePlugin.getdata(image, (left, top), include_color_table=True):
            self.file.write(block)


class _Mp4:
    """H.264 through PyAV, one thread: x264's bits depend on the number of threads."""

    def __init__(self, path: Path, fps: float) -> None:
        try:
            import av
        except ImportError as error:
            raise UsageError("an MP4 film needs PyAV (pip install av); a .gif does not") from error
        self.av: Any = av
        rate = Fraction(fps).limit_denominator(1001)
        # No dates and no version in the container: the same frames give the same bytes.
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with self._as_os_error():
            # An absolute path: FFmpeg takes "a:b" for a protocol.
            self.container = av.open(str(path.absolute()), "w", format="mp4", options=options)
        try:
            self.stream: Any = self.container.add_stream("libx264", rate=rate)
        except Exception as error:
            self.container.close()
            raise UsageError("this PyAV has no H.264 encoder (libx264): write a .gif instead") from error
        self.tick = 1 / rate  # the muxer changes stream.time_base when it starts
        self.stream.time_base = self.tick
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.thread_count = 1
        # Untagged small films are read as BT.601 by some players and as BT.709 by others.
        tags = "colorprim=bt709:transfer=bt709:colormatrix=bt709:fullrange=off"
        # Without it some processors' code for macroblock trees gives other bits now and then, even in one process.
        same = "cpu-independent=1"
        self.stream.options = {"crf": "18", "preset": "medium", "x264-params": f"{tags}:{same}"}
        self.count = 0

    def add(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self.count == 0:
            self.stream.height, self.stream.width = frame.shape[:2]
        picture = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="itu709")
        picture.pts, picture.time_base = self.count, self.tick
        self.count += 1
        with self._as_os_error():
            self.container.mux(self.stream.encode(picture))

    def close(self) -> None:
        with self._as_os_error():
            try:
                if self.count:
                    self.container.mux(self.stream.encode(None))
            finally:
                self.container.close()

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        try:
            yield
        except self.av.FFmpegError as error:
            raise OSError(str(error)) from error


def telling_progress(say: Callable[[str], None], path: Path, steps: int | None) -> Callable[[np.ndarray], None]:
    """To be called with each picture of a film: every `PERIOD` seconds it says how long the film is by now."""
    count, shown = 0, time.monotonic()

    def told(_picture: np.ndarray) -> None:
        nonlocal count, shown
        count += 1
        if time.monotonic() - shown >= PERIOD:
            shown = time.monotonic()
            say(f"filming {path}: {count:,} pictures" + ("" if steps is None else f" of {steps:,}"))

    return told
