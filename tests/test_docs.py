"""Every command that README and docs show is run here, on small budgets."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import playfield
from playfield.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = ["--steps", "2048", "--games", "1", "--no-film", "--no-tensorboard", "--quiet"]
# Commands that need what a test machine has not: a browser, a peer, hours. Each names the test that runs it.
ELSEWHERE = {
    "playfield watch": "test_watch_live.py",
    "playfield bench": "test_bench.py",
    "playfield nets --measure": "test_netinfo.py",
    "playfield compare": "test_compare.py",
    "playfield lesson --table": "test_lessons.py",
    "playfield lesson breakout-features": "test_lesson_features.py",
    "playfield train breakout": "test_session.py and .ci/run",
}


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:bash|console|sh)\n(.*?)```", page.read_text("utf-8"), re.S):
            for line in block.splitlines():
                line = line.split("  #")[0].strip().removeprefix("$ ")
                found += [part.strip() for part in line.split("&&") if part.strip()]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with the runs that the docs speak of."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for _ in range(1):
            playfield.train(
                "breakout",
                steps=256,
                config={"num_envs": 4, "rollout_steps": 32, "epochs": 1},
                games=0,
                console=False,
                tensorboard=False,
            )
        memory = {"num_envs": 4, "learning_starts": 64, "capacity": 400, "batch_size": 8, "net": "nips"}
        playfield.train("breakout", "dqn", steps=128, config=memory, games=0, console=False, tensorboard=False)
        _collected()
    return folder


def fresh(folder: str) -> str:
    """A name in `folder` that nothing has."""
    return f"{folder}/new-{len(list(Path(folder).glob('*')))}"


def _collected() -> None:
    """A dataset, and an auto-encoder trained on it."""
    from playfield.datasets import train_autoencoder
    from playfield.nets.autoencoder import Config
    from screens import made

    train_autoencoder.train(made(Path("datasets/breakout"), games=3, length=20), Config(epochs=1))


def test_the_pages_have_commands():
    assert len(commands()) > 10


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("playfield")])
def test_command(command, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    words = shlex.split(command)[1:]
    verb = words[0]
    if verb == "train" and "--resume" in words:
        words += ["--steps", "384", *SMALL[2:]]
        words = [w for i, w in enumerate(words) if not (w == "--steps" and i < len(words) - len(SMALL))]
    elif verb == "train":
        for flag in ("--steps", "--minutes"):
            if flag in words:
                at = words.index(flag)
                del words[at : at + 2]
        words += SMALL
        if not words[1].startswith("CartPole"):
            words += ["--num-envs", "4", "--rollout-steps", "32"]
            words[words.index("--steps") + 1] = "256"
    elif verb == "eval":
        if "--games" in words:
            at = words.index("--games")
            del words[at : at + 2]
        words += ["--games", "1", "--seed", "4"]  # of the seeds' first games, a short one
    elif verb == "record":
        for flag in ("--start", "--steps"):
            if flag in words:
                words[words.index(flag) + 1] = "20"
        words += [] if "--steps" in words else ["--steps", "20"]
    elif verb == "collect":
        words += ["--steps", "16", "--num-envs", "1", "--out", fresh("datasets")]  # the last of two counts
    elif verb == "autoencoder":
        words[1] = "datasets/breakout"
        words += [] if "--resume" in words else ["--epochs", "1", "--out", fresh("autoencoders")]
    elif verb == "lesson" and len(words) > 1 and words[1] not in ("--table", "breakout-features"):
        words += ["--runs", "1", "--episodes", "3", "--quiet"]  # the last of two counts
    elif verb == "explain":
        words += ["--moments", "1", "--out", "why"]
    elif any(command.startswith(prefix) for prefix in ELSEWHERE):
        with pytest.raises(SystemExit) as stop:
            main([verb, *words[1:], "--help"])
        assert stop.value.code == 0
        return
    assert main(words) == 0, capsys.readouterr().err


def test_the_readme_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(import playfield.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)[0]
    code = code.replace("steps=50_000", "steps=2048, games=1, film=False, console=False, tensorboard=False")
    exec(compile(code, "README.md", "exec"), {})


def test_the_readme_body_is_a_body():
    """The ten lines under "Add your own" build and run."""
    import torch

    from playfield.nets import bodies

    code = re.findall(r"```python\n(def tiny.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)[0]
    space = dict(vars(bodies))
    exec(compile("from __future__ import annotations\n" + code, "README.md", "exec"), space)
    body = space["tiny"]((84, 84, 4))
    assert body(torch.zeros(2, 84, 84, 4, dtype=torch.uint8)).shape == (2, body.out_features)
