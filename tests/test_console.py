"""The console: formats, and real pipes and terminals."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.runs import console as consoles
from playfield.runs.console import Console, format_seconds, format_value, plain_block, sparkline


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.42, "0.42"),
        (1.2e-05, "1.2e-05"),
        (10240, "10,240"),
        (10240.0, "10,240"),
        (24.5312, "24.5"),
        (1234.56, "1,234.6"),
        (98765.4, "98,765"),
        (999.96, "1,000.0"),
        (-0.0123456, "-0.0123"),
        (0.0, "0"),
        (3e20, "3e+20"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (np.float32(0.5), "0.5"),
        ("on", "on"),
        (2**70, "1,180,591,620,717,411,303,424"),
    ],
)
def test_format_value(value: Any, text: str) -> None:
    assert format_value(value) == text


@given(st.floats(max_value=1e308, min_value=-1e308) | st.integers())
@settings(max_examples=100, deadline=None)
def test_format_value_is_near_the_truth(value: float) -> None:
    text = format_value(value)
    number = float(text.replace(",", ""))
    assert (math.isnan(number) and math.isnan(value)) or number == value or abs(number - value) <= 0.006 * abs(value)
    assert len(text) < 30 or isinstance(value, int)


def test_format_seconds() -> None:
    times = (0, 3.14, 9.96, 59.4, 61, 522, 3723, 183_845, -1, math.nan)
    assert [format_seconds(s) for s in times] == [
        "0.0 s",
        "3.1 s",
        "10 s",
        "59 s",
        "1 min 01 s",
        "8 min 42 s",
        "1 h 02 min",
        "2 d 3 h",
        "0.0 s",
        "?",
    ]


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, math.nan], 8) == ""
    assert sparkline([2.0, 2.0], 8) == "▁▁"
    assert sparkline([0.0] * 50 + [1.0] * 50, 2) == "▁█"


def test_plain_block_is_a_table() -> None:
    lines = plain_block("head", {"time/fps": 12, "train/loss": 0.5, "rollout/ep_rew_mean": 24.5}).splitlines()
    assert lines[0] == "head"
    assert len({len(line) for line in lines[1:]}) == 1
    assert [line.strip("| ").split(" ")[0] for line in lines[2:-1]] == [
        "rollout/",
        "ep_rew_mean",
        "train/",
        "loss",
        "time/",
        "fps",
    ]


def test_plain_console_prints_now_and_then_and_at_the_end() -> None:
    now = [0.0]
    stream = io.StringIO()
    console = Console("breakout", 1000, stream, period=10, clock=lambda: now[0])
    for step in range(100, 700, 100):
        console.log(step, {"time/fps": 100, "x": step})
        now[0] += 4
    console.close()
    heads = re.findall(r"breakout, (\d+) of 1,000 steps \((\d+)%\), ([\d.]+ s) left", stream.getvalue())
    assert heads == [("100", "10", "9.0 s"), ("400", "40", "6.0 s"), ("600", "60", "4.0 s")]


def test_quiet_console_and_closed_streams(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Console(quiet=True)
    closed = io.StringIO()
    closed.close()
    dead = Console(stream=closed)
    for console in (quiet, dead):
        console.log(1, {"a": 1})
        console.note("x")
        console.close()
    assert dead.quiet
    assert capsys.readouterr().out == ""


DEMO = """
import math, sys, time
from playfield.runs.logger import Sinks
with Sinks(sys.argv[1], "breakout", "breakout, ppo", 1000, tensorboard=False) as sinks:
    for step in range(1, 101):
        sinks.episode(step * 10, step, 20)
        sinks.log(step * 10, {"train/loss": 0.5 / step, "train/bad": math.nan})
        sinks.console._shown = -math.inf
        time.sleep(0.3 * (step == 1))  # let the reader go away
    sinks.console.note("saved [bold]x[/bold]")
print("done")
sys.exit(7)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize("where", ["| head -2", ">&-", "> /dev/full"])
def test_output_that_nobody_reads_stops_nothing(tmp_path: Path, where: str) -> None:
    script = tmp_path / "demo.py"
    script.write_text(DEMO)
    command = f'"{sys.executable}" "{script}" "{tmp_path}" {where}; echo "rc ${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert "rc 7" in done.stdout
    assert len(read_csv(tmp_path / "metrics.csv")) == 100


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_a_terminal_gets_a_table_in_place(tmp_path: Path, term: str) -> None:
    import pty

    script = tmp_path / "demo.py"
    script.write_text(DEMO)
    main, side = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "90", "LINES": "40", "PYTHONUTF8": "1"}
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=side, stderr=side, stdin=side, env=environment
    ) as process:
        os.close(side)
        output = b""
        while True:
            try:
                part = os.read(main, 65536)
            except OSError:  # the other side has closed
                break
            if not part:
                break
            output += part
    os.close(main)
    assert process.returncode == 7
    text = output.decode()
    assert "Traceback" not in text
    if term == "dumb":
        assert "\x1b" not in text
        assert "1,000 of 1,000 steps (100%)" in text
        return
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text[text.rindex("breakout, ppo") :]).replace("\r", "")
    assert re.match(r"breakout, ppo +1,000 of 1,000 steps\n━+ 100%\n", last)
    assert re.search(r"steps/s   \d\.\d s so far   0\.0 s left", last)
    assert re.search(r"score 50.5   best game 100   ▁.*█\n", last)
    assert re.search(r"bad +nan *\n +loss +0.005 *\n", last)
    assert text.count("\x1b[1A") > 100  # it went back up to redraw
    assert "saved [bold]x[/bold]" in text
    assert text.index("\x1b[?25h") < text.index("breakout")  # the cursor is there, also after a kill


def test_a_table_is_plain_in_a_pipe(capsys):
    output = consoles.console(60)
    rows = consoles.table(output, "agent", "score", title="[scores]")
    rows.add_row("[ppo]", "12.5")
    output.print(rows)
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [["[scores]"], ["agent", "score"], ["[ppo]", "12.5"]]
    assert err == ""
    consoles.console(60, stderr=True).print("note")
    assert capsys.readouterr().err == "note\n"
