"""Damaged and hostile files of a run: no traceback, exit code 3, bounded memory, nothing written elsewhere."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import damage
import playfield
from playfield.cli import main
from playfield.errors import DataError, PlayfieldError, UsageError
from playfield.play.evaluate import evaluate_and_save
from playfield.runs.info import is_run
from playfield.show.watch.game import Source

QUIET: dict[str, Any] = {"console": False, "tensorboard": False, "games": 0, "film": False}
VERBS: dict[str, Callable[[Path], Any]] = {
    "load": playfield.load_policy,
    "random": lambda run: evaluate_and_save(run, "last", 1, agent="random", save=False),
    "watch": lambda run: Source(str(run)),
    "resume": lambda run: playfield.train(resume=run, steps=700, **QUIET),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("runs")
    small = {
        "ppo": {"num_envs": 4, "rollout_steps": 32},
        "dqn": {"num_envs": 4, "capacity": 500, "learning_starts": 200},
    }
    for algo, config in small.items():
        playfield.train("CartPole-v1", algo, steps=512, run=home / algo, config=config, **QUIET)
    return {algo: home / algo for algo in small}


def tried(use: Callable[[Path], Any], run: Path) -> int:
    """The exit code; anything but an error of playfield's own is raised."""
    try:
        use(run)
    except PlayfieldError as error:
        return error.exit_code
    return 0


def test_every_kind_of_damage_to_run_json(runs, tmp_path):
    info = json.loads((runs["ppo"] / "run.json").read_text())
    codes = []
    for n, (what, text) in enumerate(damage.infos(info, 35, seed=1)):
        run = Path(shutil.copytree(runs["ppo"], tmp_path / str(n)))
        (run / "run.json").write_text(text)
        for verb, use in VERBS.items():
            code = tried(use, run)
            assert code in (0, 3), (verb, what, code)
            codes.append(code)
        shutil.rmtree(run)
    assert codes.count(3) > 60


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("config",), None),
        (("config", "net"), "nope"),
        (("config", "net"), "mlp:width=9"),
        (("spec", "kind"), "atari"),
        (("spec", "id"), "Nowhere-v0"),
        (("spec", "obs_shape"), [7]),
        (("spec", "num_actions"), 3),
        (("spec", "obs_dtype"), "uint8"),
        (("spec", "action_names"), ["left"]),
        (("compute", "workers"), 0),
        (("compute", "device"), "tpu"),
        (("extensions",), {}),
        (("seed",), -1),
        (("versions",), []),
        (("protocol",), "x"),
        (("env",), ...),
    ],
)
def test_what_ended_in_tracebacks_is_named(path, new, runs, tmp_path):
    run = Path(shutil.copytree(runs["ppo"], tmp_path / "run"))
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(damage.changed(info, path, new)))
    assert tried(VERBS["resume"], run) == 3


def test_damaged_rows_are_left_out_and_said(runs, tmp_path):
    for name in ("metrics.csv", "monitor.csv"):
        for n, (what, data) in enumerate(damage.tables((runs["ppo"] / name).read_bytes(), 6, seed=2)):
            run = Path(shutil.copytree(runs["ppo"], tmp_path / f"{name}-{n}"))
            (run / name).write_bytes(data)
            assert tried(VERBS["resume"], run) in (0, 3), what
            shutil.rmtree(run)
    run = Path(shutil.copytree(runs["ppo"], tmp_path / "run"))
    with open(run / "monitor.csv", "a") as file:
        file.write("nan,5,1.0,500\n1e400,5,1.0,500\n1,\0,1.0,500\n1,5\n")
    result = playfield.train(resume=run, steps=700, **QUIET)
    assert result.warnings == ("monitor.csv had 4 damaged lines, which were left out",)


@pytest.mark.parametrize("kind", ["resealed", "retensored"])
@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_checkpoint_with_right_checksums_and_wrong_content(algo, kind, runs, tmp_path):
    """What it holds would be used as indices and sizes, by compiled code too."""
    run = tmp_path / "run"
    shutil.copytree(runs[algo], run)
    for what, do in list(getattr(damage, kind)(run, 12, seed=3)):
        shutil.rmtree(run)
        shutil.copytree(runs[algo], run)
        do()
        for verb in ("load", "resume"):
            assert tried(VERBS[verb], run) in (0, 3, 4), (verb, what)


def sparse(path: Path) -> None:
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(3 << 30)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")
@pytest.mark.parametrize("make", [sparse, pipe, device])
@pytest.mark.parametrize("name", ["run.json", "metrics.csv", "monitor.csv", "checkpoints/last", "lock"])
def test_files_that_never_end(name, make, runs, tmp_path):
    run = Path(shutil.copytree(runs["ppo"], tmp_path / "run"))
    make(run / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    codes = {verb: tried(use, run) for verb, use in VERBS.items()}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    if name == "run.json":
        assert set(codes.values()) == {3}
    elif name.endswith(".csv"):
        assert codes["resume"] == 3


@pytest.mark.parametrize("name", ["checkpoints", "replay", "replay/0", "eval", "films", "checkpoints/best"])
def test_links_out_of_the_run_are_refused(name, runs, tmp_path):
    other = Path(shutil.copytree(runs["dqn"], tmp_path / "other"))
    run = Path(shutil.copytree(runs["dqn"], tmp_path / "run"))
    (other / name).mkdir(exist_ok=True, parents=True)
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).symlink_to(other / name, target_is_directory=True)
    before = {p: p.stat().st_mtime_ns for p in other.rglob("*")}
    assert tried(lambda run: playfield.train(resume=run, steps=2_000, save_seconds=0, **QUIET), run) == 3
    assert tried(VERBS["load"], run) == 3
    assert {p: p.stat().st_mtime_ns for p in other.rglob("*")} == before


def test_a_run_may_be_reached_through_a_link(runs, tmp_path):
    (tmp_path / "link").symlink_to(runs["ppo"], target_is_directory=True)
    assert playfield.load_policy(tmp_path / "link").spec.id == "CartPole-v1"


def test_a_directory_that_one_may_not_look_into(monkeypatch, tmp_path):
    def refuse(path, **_how):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", refuse)
        with pytest.raises(DataError, match=r"cannot look into .*: Permission denied"):
            is_run(tmp_path)
    assert not is_run("a" * 300)
    assert not is_run("a\0b")


def test_metrics_that_cannot_be_written_at_resume(runs, tmp_path, monkeypatch):
    run = Path(shutil.copytree(runs["ppo"], tmp_path / "run"))
    there = os.open

    def refuse(path, flags, *more, **how):
        if str(path).endswith("metrics.csv") and flags & os.O_WRONLY:
            raise PermissionError(13, "Permission denied")
        return there(path, flags, *more, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert tried(VERBS["resume"], run) == 5


def test_text_from_files_is_printed_without_its_escape_sequences(runs, tmp_path, capsys):
    run = Path(shutil.copytree(runs["ppo"], tmp_path / "run"))
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "algo": "\x1b]0;owned\x07\x1b[2J"}))
    assert main(["eval", str(run), "--games", "1"]) == 3
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "\x07" not in error
    with pytest.raises(UsageError):
        playfield.load_policy("\x1b[31m")
    assert main(["eval", "\x1b[31m"]) == 2
    assert "\\x1b[31m" in capsys.readouterr().err
