"""Trials that are test files already: against independent computations, other libraries, and the page's matrix."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from trials.registry import Ask, Seen, trial

TESTS = Path(__file__).parent.parent


def pytest_of(ask: Ask, where: list[str], more: list[str], timeout: float) -> Seen:
    """Run tests; each is a try."""
    report = ask.folder / "report.xml"
    # From the tests' folder, so that the installed package is imported.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-m", "slow or not slow", f"--junitxml={report}", *more, *where],
        cwd=TESTS, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    seen = Seen()
    if not report.exists():
        return Seen(1, [f"pytest ended with {done.returncode}: {done.stdout[-200:]}"])
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if case.find("skipped") is not None:
            seen.figures["skipped"] = seen.figures.get("skipped", 0) + 1
            continue
        bad = case.find("failure")
        bad = case.find("error") if bad is None else bad
        seen.check(bad is None, f"{case.get('name')}: {'' if bad is None else bad.get('message', '')}")
    if not seen.count:
        seen.failures.append("no test was run")
    seen.figures["tests"] = seen.count
    return seen


def by_tests(
    number: int, name: str, expected: str, where: str, pick: str = "", *, owed: int, timeout: float = 1800
) -> None:
    """Register a trial that is the tests in the files `where` whose names match `pick`."""

    def run(ask: Ask) -> Seen:
        return pytest_of(ask, where.split(), ["-k", pick] if pick else [], timeout)

    trial(number, name, expected, short=0, long=owed)(run)


by_tests(
    20, "returns", "returns, lambda-traces and n-step targets equal sums over episodes; cut and ended are told apart",
    "test_returns.py test_linear_traces.py", owed=10,
)  # fmt: skip
by_tests(
    21,
    "replay-oracle",
    "every transition that is drawn equals that of lists of episodes; none crosses an episode or the head",
    "test_replay.py test_replay_looking.py",
    owed=12,
)
by_tests(
    24, "protocol", "observations, rewards, lives and ends equal Gymnasium's and a plain emulator's, frame for frame",
    "test_atari.py test_atari_rules.py test_preprocess.py", "not every_game", owed=40,
)  # fmt: skip
by_tests(
    25, "every-game", "every game goes on exactly from a snapshot, with and without sticky actions",
    "test_atari.py", "every_game or fresh_process", owed=100,
)  # fmt: skip
by_tests(
    26, "page-paths", "no path leads out of the page: 404, no byte of a file", "test_watch_guard.py", "path", owed=100
)
by_tests(
    27,
    "page-hosts",
    "another Host, two of them or none: 400 or 421, also for a WebSocket",
    "test_watch_guard.py",
    "host",
    owed=16,
)
by_tests(
    28, "page-origins", "another origin, method or token: refused before anything is accepted, no CORS headers",
    "test_watch_guard.py", "origin or only_get or token or websocket", owed=130,
)  # fmt: skip
by_tests(
    30, "page-messages", "malformed, odd and too many messages end that connection only", "test_watch_live.py",
    "malformed or out_of_range or flood or silent or too_many", owed=25,
)  # fmt: skip
by_tests(37, "old-runs", "runs of earlier versions resume to the hash that they had", "test_old_runs.py", owed=1)
by_tests(
    8, "formats", "newer formats are refused by name, damaged ones are not taken for newer, old ones load",
    "test_checkpoint_hostile.py test_checkpoint.py", owed=60,
)  # fmt: skip
