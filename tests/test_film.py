"""Films are decoded again with Pillow and PyAV."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from playfield.errors import StorageError, UsageError
from playfield.show.film import Film

RNG = np.random.default_rng


def read_gif(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Frames and their delays in ms, as Pillow reads them."""
    frames, delays = [], []
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")).copy())
            delays.append(image.info["duration"])
    return frames, delays


def read_mp4(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def moving_square(n: int, height: int = 40, width: int = 56) -> list[np.ndarray]:
    frames = []
    for i in range(n):
        frame = np.full((height, width, 3), (16, 16, 20), np.uint8)
        frame[:8] = (200, 72, 72)
        frame[20:28, 2 * i % (width - 8) :][:, :8] = (66, 72, 200)
        frames.append(frame)
    return frames


def write(path: Path, frames: list[np.ndarray], fps: float = 15) -> Path:
    with Film(path, fps) as f:
        for frame in frames:
            f.add(frame)
    assert f.frames == len(frames)
    assert list(path.parent.iterdir()) == [path], "a temporary file is left"
    return path


@pytest.mark.parametrize("fps", [10, 15, 24, 30, 50])
def test_gif_frames_and_total_time_are_exact(tmp_path: Path, fps: int) -> None:
    frames = moving_square(20)
    seen, delays = read_gif(write(tmp_path / "a.gif", frames, fps))
    assert len(seen) == 20
    assert all(np.array_equal(a, b) for a, b in zip(seen, frames, strict=True))
    assert abs(sum(delays) - 1000 * 20 / fps) <= 5
    assert max(delays) - min(delays) <= 10
    with av.open(str(tmp_path / "a.gif")) as container:  # a second decoder
        assert sum(1 for _ in container.decode(video=0)) == 20


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), colors=st.integers(1, 256), n=st.integers(1, 6))
def test_gif_is_exact_up_to_256_colors(tmp_path_factory: pytest.TempPathFactory, seed: int, colors: int, n: int):
    rng = RNG(seed)
    palette = rng.integers(0, 256, (colors, 3), dtype=np.uint8)
    shape = tuple(rng.integers(1, 40, 2))
    frames = [palette[rng.integers(0, colors, shape)] for _ in range(n)]
    seen, delays = read_gif(write(tmp_path_factory.mktemp("gif") / "a.gif", frames, 10))
    distinct = [f for i, f in enumerate(frames) if i == 0 or not np.array_equal(f, frames[i - 1])]
    assert len(seen) == len(distinct)
    assert all(np.array_equal(a, b) for a, b in zip(seen, distinct, strict=True))
    assert sum(delays) == 100 * n


def test_gif_where_all_256_colors_change_is_exact(tmp_path: Path) -> None:
    palette = 65_521 * np.arange(256) % 2**24
    palette = np.stack([palette >> 16, palette >> 8 & 255, palette & 255], 1).astype(np.uint8)
    first = palette[np.arange(1024).reshape(32, 32) % 256]
    second = np.roll(first, 1, axis=1)
    second[0, 0] = first[0, 0]  # one pixel stays, and no colour is left to mark it
    seen, _ = read_gif(write(tmp_path / "a.gif", [first, second]))
    np.testing.assert_array_equal(seen, [first, second])


def test_gif_of_more_colors_is_close(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64].astype(np.uint8)
    seen, _ = read_gif(write(tmp_path / "a.gif", [np.stack([4 * x, 4 * y, 2 * (x + y)], 2)]))
    assert np.abs(seen[0].astype(int) - np.stack([4 * x, 4 * y, 2 * (x + y)], 2)).mean() < 12


def test_gif_repeats_become_delay(tmp_path: Path) -> None:
    a, b = moving_square(2)
    seen, delays = read_gif(write(tmp_path / "a.gif", [a, a, a, b, b, a], 10))
    np.testing.assert_array_equal(seen, [a, b, a])
    assert delays == [300, 200, 100]


def test_gif_holds_a_picture_longer_than_a_delay_can_say(tmp_path: Path) -> None:
    a, b = moving_square(2, 4, 16)
    seen, delays = read_gif(write(tmp_path / "a.gif", [*[a] * 400, b], 0.5))
    assert sum(delays) == 802_000
    assert np.array_equal(seen[0], a)
    assert np.array_equal(seen[-1], b)


def test_gif_above_50_fps_keeps_its_duration(tmp_path: Path) -> None:
    frames = moving_square(24)
    seen, delays = read_gif(write(tmp_path / "a.gif", frames, 60))
    assert abs(sum(delays) - 400) <= 10
    assert min(delays) >= 20
    assert np.array_equal(seen[-1], frames[-1])


@pytest.mark.parametrize("fps", [15, 30, 60, 29.97])
def test_mp4_frames_time_and_format(tmp_path: Path, fps: float) -> None:
    frames = moving_square(50, 64, 96)
    path = write(tmp_path / "a.mp4", frames, fps)
    seen = read_mp4(path)
    assert len(seen) == 50
    assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(seen, frames, strict=True)]) < 6
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-4)
        assert float(stream.duration * stream.time_base) == pytest.approx(50 / fps, abs=0.002)
        assert stream.codec_context.colorspace == 1  # BT.709
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index is not first"


@pytest.mark.parametrize("color", [(200, 72, 72), (255, 0, 0), (72, 160, 72), (66, 72, 200), (236, 236, 240)])
def test_colors_survive(tmp_path: Path, color: tuple[int, int, int]) -> None:
    frame = np.full((32, 32, 3), color, np.uint8)
    (gif,), _ = read_gif(write(tmp_path / "g" / "a.gif", [frame]))
    assert np.array_equal(gif, frame)
    (mp4,) = read_mp4(write(tmp_path / "m" / "a.mp4", [frame]))
    assert np.abs(mp4.astype(int) - frame).max() <= 6


@pytest.mark.parametrize(("height", "width"), [(41, 57), (40, 57), (41, 56), (1, 1), (3, 200)])
def test_odd_sizes_and_one_frame(tmp_path: Path, height: int, width: int) -> None:
    frame = np.full((height, width, 3), (10, 180, 90), np.uint8)
    (mp4,) = read_mp4(write(tmp_path / "m" / "a.mp4", [frame], 10))
    assert mp4.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(mp4.astype(int) - (10, 180, 90)).max() <= 6, "the padding has another colour"
    with av.open(str(tmp_path / "m" / "a.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(0.1, abs=0.01)
    seen, delays = read_gif(write(tmp_path / "g" / "a.gif", [frame], 10))
    assert np.array_equal(seen, [frame])
    assert delays == [100]


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_same_frames_same_bytes_at_any_time(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(tmp_path / "1" / f"a{suffix}", moving_square(12, 120, 160)).read_bytes()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    if suffix == ".mp4":
        time.sleep(1.1)  # FFmpeg reads the clock itself, in seconds
    for i in range(2, 12):  # x264 without cpu-independent gives other bytes every few times
        assert write(tmp_path / str(i) / f"b{suffix}", moving_square(12, 120, 160)).read_bytes() == first


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_an_exception_leaves_no_file_and_keeps_the_old_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"

    def fail() -> None:
        with Film(path, 15) as f:
            for frame in moving_square(60):
                f.add(frame)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"the film before")
    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"the film before"


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_no_frames(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match="no frames"), Film(tmp_path / f"a{suffix}", 15):
        pass
    assert list(tmp_path.iterdir()) == []


def test_bad_requests(tmp_path: Path) -> None:
    for name in ("a.avi", "a", "a.mp5"):
        with pytest.raises(UsageError, match=r"\.gif or \.mp4"):
            Film(tmp_path / name, 15)
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="frames per second"):
            Film(tmp_path / "a.gif", fps)
    f = Film(tmp_path / "a.gif", 15)
    for bad in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 0, 3), np.uint8)):
        with pytest.raises(UsageError, match="uint8"):
            f.add(bad)
    f.add(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UsageError, match=r"\(4, 4, 3\)"):
        f.add(np.zeros((4, 6, 3), np.uint8))
    f.close()
    f.close()
    with pytest.raises(UsageError, match="closed"):
        f.add(np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "file").write_text("")
    for suffix in (".gif", ".mp4"):
        with pytest.raises(StorageError, match="cannot write"):
            Film(tmp_path / "file" / f"a{suffix}", 15)


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_name_with_odd_signs(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (f"a:b {{%d}}{suffix}", f"-it's{suffix.upper()}"):
        with Film(name, 15) as f:
            f.add(np.zeros((4, 4, 3), np.uint8))
        assert Path(name).stat().st_size > 0


def test_frames_may_be_reused(tmp_path: Path) -> None:
    buffer = np.zeros((8, 8, 3), np.uint8)
    with Film(tmp_path / "a.gif", 10) as f:
        for i in range(3):
            buffer[:] = 50 * i
            f.add(buffer)
    seen, _ = read_gif(tmp_path / "a.gif")
    assert [int(s[0, 0, 0]) for s in seen] == [0, 50, 100]


KILLED = """
import os, signal, sys
import numpy as np
from playfield.show.film import Film
film = Film(sys.argv[1], 15)
for i in range(120):  # H.264 looks ahead: nothing is written before
    film.add(np.full((64, 64, 3), i, np.uint8))
print("writing", flush=True)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
film.close()
"""


def writer(path: Path, how: str) -> subprocess.Popen[str]:
    """A process that has begun a film at `path`."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path), how], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_what_a_killed_writer_left_goes_and_a_live_ones_film_stays(tmp_path: Path, suffix: str) -> None:
    path, other = tmp_path / f"film{suffix}", tmp_path / f"other{suffix}"
    for target in (path, other):
        with writer(target, "kill") as dead:
            dead.wait(30)
    left = [p for p in tmp_path.iterdir() if p.name.startswith(f".film{suffix}")]
    of_other = [p for p in tmp_path.iterdir() if p not in left]
    assert len(left) == len(of_other) == 1
    with writer(path, "wait") as live:
        own = Film(path, 15)  # a second film of this very process for the same place
        for _ in range(120):
            own.add(np.zeros((64, 64, 3), np.uint8))
        of_live = [p for p in tmp_path.iterdir() if f".tmp-{live.pid}-" in p.name]
        assert len(of_live) == 1
        with Film(path, 15) as f:
            assert not left[0].exists()
            assert of_live[0].exists()
            assert own._temp.exists()
            f.add(np.zeros((64, 64, 3), np.uint8))
        own.close()
        live.communicate("go on", timeout=30)
        assert live.returncode == 0
    assert sorted(tmp_path.iterdir()) == sorted([path, *of_other])  # another film's leftover is not ours
    frames = read_gif(path)[0] if suffix == ".gif" else read_mp4(path)
    assert len(frames) == 120  # the live writer was last


def test_a_leftover_of_an_earlier_process_of_the_same_number_goes(tmp_path: Path) -> None:
    stale = tmp_path / f".film.gif.tmp-{os.getpid()}-77"  # in a container every run may be process 7
    stale.write_bytes(b"half")
    (tmp_path / ".film.gif.tmp-1x").touch()  # somebody else's naming
    (tmp_path / "film.gif.tmp-999999999-1").touch()
    with Film(tmp_path / "film.gif", 15) as f:
        f.add(np.zeros((8, 8, 3), np.uint8))
    assert {p.name for p in tmp_path.iterdir()} == {"film.gif", ".film.gif.tmp-1x", "film.gif.tmp-999999999-1"}
