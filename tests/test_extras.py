"""What a finished training also does (film, curve, TensorBoard, printing) never decides its outcome."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import playfield
from playfield.envs.picture import as_picture, of_shape
from playfield.runs import output
from playfield.runs.logger import TensorBoard

GREY = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


class Base(gymnasium.Env):
    observation_space, action_space = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 4}
    drawn: object = None

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), float(action), self.t == 5, False, {}

    def render(self):
        return self.drawn


class Nothing(Base):
    pass


class Text(Base):
    metadata: ClassVar = {"render_modes": ["ansi"]}


class Grows(Base):
    def render(self):
        return np.full((20 + self.t, 30), 9 * self.t, np.uint8)


for made in (Nothing, Text, Grows):
    gymnasium.register(f"Extras{made.__name__}-v0", entry_point=made)


def train(env, directory, **options):
    given = {"steps": 512, "games": 2, "console": False, "run": directory, **options}
    return playfield.train(env, "ppo", **given)


@pytest.mark.parametrize("env", ["ExtrasNothing-v0", "ExtrasText-v0"])
def test_a_training_whose_env_draws_nothing_ends_well(env, tmp_path, caplog):
    result = train(env, tmp_path / "run")
    assert result.files.keys() == {"curve"}
    assert result.files["curve"].is_file()
    assert result.evaluation["games"] == 2
    assert list((tmp_path / "run" / "eval").iterdir())
    (line,) = result.warnings
    assert line.startswith("no film: ")
    assert env in line
    assert line in caplog.text
    assert not (tmp_path / "run" / "films").exists()


def test_pictures_that_change_their_size_are_filmed(tmp_path):
    result = train("ExtrasGrows-v0", tmp_path / "run")
    assert result.files.keys() == {"curve", "mp4", "gif"}
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (np.dstack([GREY, GREY, GREY, GREY * 0]), GREY),
        ([GREY * 0, GREY], GREY),
        (GREY / 255, GREY),
        (GREY.astype(np.float32), GREY),
        (GREY.astype(np.int64), GREY),
        (GREY > 100, (GREY > 100) * np.uint8(255)),
    ],
    ids=["grey", "one channel", "alpha", "list", "0 to 1", "0 to 255", "int64", "bool"],
)
def test_what_can_be_converted_is(drawn, expected):
    picture = as_picture(drawn)
    assert picture.dtype == np.uint8
    assert picture.shape == (2, 3, 3)
    assert np.array_equal(picture, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        (None, "None"),
        ("a map", "text"),
        (np.zeros((2, 2, 2)), "(2, 2, 2)"),
        (np.full((2, 2), np.nan), "nan"),
        (np.full((2, 2), 300), "300"),
        (np.full((2, 2), -1.0), "-1"),
        (np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"),
        (np.array([["a", "b"]]), "<U1"),
    ],
)
def test_what_is_no_picture_is_named(drawn, said):
    with pytest.raises(ValueError) as caught:
        as_picture(drawn)
    assert said in str(caught.value)


def test_a_picture_of_another_size_is_centred_or_shrunk():
    white = np.full((2, 4, 3), 255, np.uint8)
    padded = of_shape(white, (4, 4, 3))
    assert padded[1:3].min() == 255
    assert padded[[0, 3]].max() == 0
    assert of_shape(np.repeat(white, 4, axis=0), (4, 4, 3)).shape == (4, 4, 3)


def test_a_broken_plot_or_film_is_a_line(tmp_path, monkeypatch, caplog):
    from playfield.show import film, plots

    def broken(*_args, **_options):
        raise RuntimeError("no fonts\nat all")

    monkeypatch.setattr(film, "film_best_game", broken)
    monkeypatch.setattr(plots, "save_curve", broken)
    result = train("CartPole-v1", tmp_path / "run")
    assert result.warnings == ("no film: RuntimeError: no fonts", "no learning curve: RuntimeError: no fonts")
    assert result.files == {}
    assert result.evaluation["games"] == 2


def test_without_matplotlib_and_av_a_training_ends_well(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None; sys.modules['av'] = None\n"
        "import playfield\n"
        "r = playfield.train('CartPole-v1', steps=512, games=1, run='a', console=False)\n"
        "assert r.evaluation['games'] == 1 and len(r.warnings) == 2, r.warnings\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120, stderr=subprocess.PIPE)


def test_whatever_tensorboard_raises_is_a_line(tmp_path):
    board = TensorBoard(tmp_path)
    board.log(1, {"a": 1.0})

    class Bad:
        def write(self, _data):
            raise RuntimeError("no")

        def close(self):
            raise OSError(5, "Input/output error")

    board.close()
    board._file = Bad()
    board.log(2, {"a": 1.0})
    assert board.error == "TensorBoard is off: no"
    board.close()


class Failing(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BrokenPipeError(), OSError(5, "EIO")])
def test_say_that_cannot_write_does_not_end_a_training(error, tmp_path):
    calls = []

    def say(line):
        calls.append(line)
        raise error

    result = train("CartPole-v1", tmp_path / "run", say=say, film=False)
    assert result.evaluation["games"] == 2
    assert len(calls) == 1


def test_say_of_a_narrow_encoding_says_it_in_ascii():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "cp1252")
    say = output.lasting(lambda line: print(line, file=stream, flush=True))
    say("训练 é")
    assert raw.getvalue().decode("cp1252").strip() == r"\u8bad\u7ec3 \xe9"


def test_errors_of_a_callback_itself_are_not_hidden():
    def say(line):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        output.lasting(say)("line")


def test_the_evaluation_is_saved_before_it_is_said(tmp_path):
    from playfield.play.evaluate import evaluate_and_save

    train("CartPole-v1", tmp_path / "run", games=0, film=False)

    def say(line):
        if "mean score" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_and_save(tmp_path / "run", "last", 2, say=say)
    assert len(list((tmp_path / "run" / "eval").iterdir())) == 1


def playfield_words(words, cwd, **how):
    env = os.environ | {"COLUMNS": "100"} | how.pop("env", {})
    given = {"cwd": cwd, "env": env, "timeout": 120, "stderr": subprocess.PIPE, **how}
    return subprocess.run([sys.executable, "-m", "playfield", *words], **given)


def shell(line, cwd):
    line = line.replace("playfield", f"{sys.executable} -m playfield")
    return subprocess.run(["bash", "-c", line], cwd=cwd, timeout=120, capture_output=True, text=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("playfield games > /dev/full", 5, "No space left on device"),
        ("playfield --help > /dev/full", 5, "No space left on device"),
        ("playfield games >&-", 5, "it is closed"),
        ("playfield games --json | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("playfield games | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("playfield nets nature > /dev/full", 5, "No space left on device"),
        ("playfield eval CartPole-v1 --agent random --games 1 > /dev/full", 5, "No space left on device"),
        ("playfield nonsense > /dev/full 2> /dev/full", 2, ""),
    ],
)
def test_commands_that_only_print_say_that_they_could_not(line, code, said, tmp_path):
    done = shell(line, tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == (0 if not said else 2 if "eval" in line else 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("where", ["> /dev/full", ">&- 2>&- <&-", "| head -c 1 > /dev/null; exit ${PIPESTATUS[0]}"])
def test_a_training_that_cannot_print_does_all_its_work(where, tmp_path):
    done = shell(f"playfield train CartPole-v1 --steps 512 --games 1 --no-film --run a {where}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    run = tmp_path / "a"
    assert (run / "curve.png").is_file()
    assert list((run / "eval").iterdir())
    assert (run / "checkpoints" / "last").exists()


def test_a_name_that_the_terminal_cannot_write_is_escaped(tmp_path):
    name = "训练 é"
    words = ["train", "CartPole-v1", "--steps", "512", "--games", "1", "--no-film", "--run", name]
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = playfield_words(words, tmp_path, env=env, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert rb"\u8bad\u7ec3 \xe9/curve.png" in done.stdout
    assert list((tmp_path / name / "eval").iterdir())


FULL = """
import resource, sys
import numpy as np
from playfield.errors import StorageError
from playfield.show.film import Film
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
noise = np.random.default_rng(0)
try:
    with Film(sys.argv[1], 30) as film:
        for _ in range(60):
            film.add(noise.integers(0, 255, (64, 64, 3), np.uint8))
except StorageError as error:
    print(error, film.frames)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of file sizes")
@pytest.mark.parametrize("limit", [0, 100, 60_000])
@pytest.mark.parametrize("name", ["x.mp4", "x.gif"])
def test_a_film_that_does_not_fit_is_an_error_and_leaves_nothing(name, limit, tmp_path):
    words = [sys.executable, "-c", FULL, tmp_path / name, str(limit)]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_index_of_an_mp4_comes_first_as_ffmpeg_would_place_it(tmp_path):
    import av

    from playfield.show.video_writers import Mp4Writer

    noise = np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), np.uint8)
    ours = Mp4Writer(tmp_path / "ours.mp4", 30)
    theirs = Mp4Writer(tmp_path / "other.mp4", 30)
    theirs.container.close()
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    theirs.container = av.open(str(tmp_path / "theirs.mp4"), "w", format="mp4", options=options)
    stream = theirs.container.add_stream("libx264", rate=30)
    stream.time_base, stream.pix_fmt, stream.options = theirs.tick, "yuv420p", theirs.stream.options
    stream.codec_context.thread_count = 1
    theirs.stream = stream
    for frame in noise:
        ours.add(frame)
        theirs.add(frame)
    ours.close()
    theirs.container.mux(stream.encode(None))
    theirs.container.close()
    theirs.file.close()
    assert (tmp_path / "ours.mp4").read_bytes() == (tmp_path / "theirs.mp4").read_bytes()


TEXT_CALLS = {"open", "read_text", "write_text", "Popen", "run", "check_output"}


def test_text_is_read_and_written_as_utf_8_whatever_the_locale():
    root = Path(playfield.__file__).parent
    wrong = []
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = {k.arg for k in node.keywords}
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            texts += [k.value.value for k in node.keywords if k.arg == "mode" and isinstance(k.value, ast.Constant)]
            if "encoding" in given or "utf-8" in texts:
                continue
            plain_open = isinstance(node.func, ast.Name) and name == "open" and not any("b" in t for t in texts[-1:])
            as_text = any(k.arg in ("text", "universal_newlines") for k in node.keywords)
            if plain_open or name in ("read_text", "write_text") or (name in TEXT_CALLS and as_text):
                wrong.append(f"{path.relative_to(root)}:{node.lineno}")
    assert not wrong
