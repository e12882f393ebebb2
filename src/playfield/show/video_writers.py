"""Writers of GIF and MP4 files, frame by frame: what `Film` writes with."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol

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


class _Bytes:
    """The file that FFmpeg writes to. It never raises, because PyAV crashes where a file of its own cannot be
    written: the first error is kept, and what comes after it is dropped."""

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._file: BinaryIO = open(path, "w+b", buffering=0)  # noqa: SIM115 - closed by close()
        self._at = 0

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest and self.error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self.error is None:
            self._at = self._file.seek(offset, whence)
        return self._at

    def tell(self) -> int:
        return self._at

    def check(self) -> None:
        """Raise the error that was kept."""
        if self.error is not None:
            raise self.error

    def index_first(self) -> None:
        """Move the index of an MP4 file, which lies at its end, before the pictures; see `_shifted`."""
        boxes = dict(_boxes(self._file))
        start, size = boxes[b"moov"]
        self._file.seek(start)
        index = _shifted(self._file.read(size), size)
        first = min(at for name, (at, _) in boxes.items() if name != b"ftyp")
        end = start
        while end > first:  # from the end, because the new places overlap the old ones
            begin = max(first, end - (1 << 20))
            self._file.seek(begin)
            piece = self._file.read(end - begin)
            self._file.seek(begin + size)
            self._file.write(piece)
            end = begin
        self._file.seek(first)
        self._file.write(index)

    def close(self) -> None:
        self._file.close()


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """(name, (offset, size)) of the outermost boxes of an MP4 file."""
    at, end = 0, file.seek(0, os.SEEK_END)
    while at < end:
        file.seek(at)
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        yield name, (at, size)
        at += size


def _shifted(index: bytes, by: int) -> bytes:
    """The index of an MP4 file, its `moov` box, with the places of the pictures moved by `by` bytes."""
    data = bytearray(index)
    inner = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}  # boxes of boxes on the way to the places

    def walk(start: int, end: int) -> None:
        while start < end:
            size, name = struct.unpack_from(">I4s", data, start)
            if name in inner:
                walk(start + 8, start + size)
            elif name in (b"stco", b"co64"):
                kind = "I" if name == b"stco" else "Q"
                (count,) = struct.unpack_from(">I", data, start + 12)
                places = struct.unpack_from(f">{count}{kind}", data, start + 16)
                struct.pack_into(f">{count}{kind}", data, start + 16, *(place + by for place in places))
            start += size

    walk(0, len(data))
    return bytes(data)


class Mp4Writer:
    """H.264 through PyAV, one thread: x264's bits depend on the number of threads."""

    def __init__(self, path: Path, fps: float) -> None:
        rate = Fraction(fps).limit_denominator(1001)
        self.file = _Bytes(path)
        # No dates and no version in the container: the same frames give the same bytes.
        self.container = av.open(self.file, "w", format="mp4", options={"fflags": "+bitexact"})
        try:
            self.stream: Any = self.container.add_stream("libx264", rate=rate)
        except Exception as error:
            self.container.close()
            self.file.close()
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
        try:
            with self._as_os_error():
                try:
                    if self.count:
                        self.container.mux(self.stream.encode(None))
                finally:
                    self.container.close()
            if self.count:
                self.file.index_first()
        finally:
            self.file.close()

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            self.file.check()
            raise OSError(str(error)) from error
        self.file.check()
