"""Writers of GIF and MP4 files, frame by frame: what `Film` writes with."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from PIL import GifImagePlugin, Image

from playfield.errors import UsageError


class VideoWriter(Protocol):
    """Takes frames uint8 [H, W, 3] of one size; raises OSError where the file cannot be written."""

    def add(self, frame: np.ndarray) -> None: ...
    def close(self) -> None: ...


class GifWriter:
    """A streaming GIF writer: each frame stores only the changed pixels, with its own colour table."""

    SHORTEST = 2  # 1/100 s; browsers show anything shorter for 10
    LONGEST = 65535

    def __init__(self, path: Path, fps: float) -> None:
        self.fps = fps
        self.file = open(path, "wb")  # noqa: SIM115 - closed by close()
        self.shown: np.ndarray | None = None  # the frame written last, packed colours uint32 [H, W]
        self.waiting: np.ndarray | None = None  # the newest frame; its delay is not yet known
        self.since = 0  # 1/100 s, the time at which `waiting` starts
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
            return  # an identical frame only lengthens the delay of the one before
        self.waiting = packed

    def close(self) -> None:
        with self.file:
            if self.waiting is not None:
                self._flush(max(round(100 * self.count / self.fps), self.since + self.SHORTEST))
                self.file.write(b";")

    def _flush(self, until: int) -> None:
        assert self.waiting is not None
        while self.since < until:  # more than once only for a delay of over ten minutes
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
        transparent = len(colors) < 256 and not fresh.all()
        if not transparent:
            colors, index = np.unique(crop, return_inverse=True)
        channels = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1).astype(np.uint8)
        if len(colors) > 256:
            image = Image.fromarray(channels[index.reshape(crop.shape)]).quantize(256, dither=Image.Dither.NONE)
        else:
            pixels = np.full(crop.shape, len(colors) if transparent else 0, np.uint8)
            pixels[fresh if transparent else ...] = index.reshape(-1 if transparent else crop.shape)
            image = Image.fromarray(pixels)
            image.putpalette(channels.tobytes() + (b"\0\0\0" if transparent else b""))
        control = struct.pack("<BHB", 0b100 | transparent, delay, len(colors) if transparent else 0)
        self.file.write(b"\x21\xf9\x04" + control + b"\0")
        for block in GifImagePlugin.getdata(image, (left, top), include_color_table=True):
            self.file.write(block)


class Mp4Writer:
    """H.264 through PyAV, one thread: x264's bits depend on the number of threads."""

    def __init__(self, path: Path, fps: float) -> None:
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
        # Without these tags some players decode small films as BT.601 and others as BT.709.
        tags = "colorprim=bt709:transfer=bt709:colormatrix=bt709:fullrange=off"
        # Without it x264's macroblock-tree code for some CPUs is not deterministic, even within one process.
        deterministic = "cpu-independent=1"
        self.stream.options = {"crf": "18", "preset": "medium", "x264-params": f"{tags}:{deterministic}"}
        self.count = 0

    def add(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self.count == 0:
            self.stream.height, self.stream.width = frame.shape[:2]
        video_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        video_frame = video_frame.reformat(format="yuv420p", dst_colorspace="itu709")
        video_frame.pts, video_frame.time_base = self.count, self.tick
        self.count += 1
        with self._as_os_error():
            self.container.mux(self.stream.encode(video_frame))

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
        except av.FFmpegError as error:
            raise OSError(str(error)) from error
