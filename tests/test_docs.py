"""Every command and every Python snippet that README and docs show is run here, on small budgets."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

import playfield
from playfield import lessons
from playfield.cli import _tuning, main
from playfield.cli.train import understand
from playfield.experiments import ray_link
from playfield.lessons import random_agent
from playfield.runs import checkpoint
from playfield.show import explain
from tune_place import Instant

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = ["--steps", "2048", "--games", "1", "--no-film", "--no-tensorboard", "--quiet"]
SHORT_GAMES = ["--cap", "400"]  # frames: an agent that plays well plays for minutes
# Commands that need what a test machine has not: a browser, a peer, hours. Each names the test that runs it.
ELSEWHERE = {
    "playfield watch": "test_watch_live.py",
    "playfield bench": "test_bench.py",
    "playfield nets --measure": "test_net_summary.py",
    "playfield compare": "test_compare.py",
    "playfield lesson --table": "test_lessons.py",
    "playfield lesson breakout-features": "test_lesson_features.py",
    "playfield lesson stochasticity": "test_lesson_stochasticity.py",
    "playfield lesson schedules": "test_lesson_ablations.py",
    "playfield lesson batch-size": "test_lesson_ablations.py",
    "playfield lesson views": "test_lesson_ablations.py",
    "playfield train breakout": "test_train.py and .ci/run",
}
# Commands of other programs.
OTHERS = {
    "scripts/mutants": "test_mutants.py lists them, and tries one",
    "scripts/trials": "test_trials.py runs the short set",
    "pip install": ".ci/run",
    "pytest": ".ci/run",
    "tensorboard --logdir": "test_logger.py reads what it shows",
    "scripts/docs": "test_docs_site.py",
    "export ": "variables of Ray and SLURM: test_ray.py sets those of Ray, the others are sbatch's own",
    "chmod 600 ~/.ray/auth_token": "a token of a user's own",
    "ray start": "test_ray.py, by way of ray.cluster_utils",
    "ray get-auth-token": "a token of a user's own: test_ray.py has one in the environment",
    "ray up": "needs an account with a provider of machines",
    "ray attach": "needs an account with a provider of machines",
    "kubectl port-forward": "needs a Kubernetes cluster",
}


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """(title, code) of the blocks of a language on a page; the title is that of a file, or empty."""
    found = re.findall(rf'```(?:{language})(?: title="([^"]*)")?\n(.*?)```', page.read_text("utf-8"), re.S)
    return [(title, code) for title, code in found]


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for _, block in blocks(page, "bash|console|sh"):
            for line in block.splitlines():
                line = re.split(r"\s#", line)[0].strip().removeprefix("$ ")
                found += [part.strip().removeprefix("python -m ") for part in line.split("&&") if part.strip()]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with the files and runs that the docs speak of."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        for page in PAGES:
            for title, code in blocks(page, "python|toml"):
                if title:
                    (folder / title).write_text(code, "utf-8")
        _installed(folder)
        shutil.copytree(ROOT / "docs" / "experiments", folder / "docs" / "experiments")  # the files that pages name
        short: dict[str, Any] = {"games": 0, "console": False, "tensorboard": False}
        config = {"num_envs": 2, "rollout_steps": 32, "epochs": 1}
        playfield.train("breakout", steps=128, config=config, **short)
        memory = {"num_envs": 2, "learning_starts": 64, "capacity": 400, "batch_size": 8, "net": "nips:width=0.25"}
        playfield.train("breakout", "dqn", steps=128, config=memory, **short)
        for env in ("CartPole-v1", "corridor:Corridor-v0"):
            playfield.train(env, steps=2048, **short)
        playfield.train("CartPole-v1", "dqn", steps=1024, **short)
        playfield.train("CartPole-v1", "linear_a2c", steps=1024, **short)
        playfield.train("MountainCar-v0", "sarsa_lambda", steps=1024, **short)
        _collected()
        patch.setattr(_tuning, "measure", lambda ready: 1e4)
        patch.setattr("playfield.experiments.tune.Local", lambda: Instant(folder / "started"))
        assert main(["tune", "CartPole-v1", "--algo", "ppo", "--trials", "2", "--steps", "900", "--json"]) == 0
        saved = Path("runs/breakout/ppo/1/checkpoints")
        checkpoint.mark_best(saved, saved / (saved / "last").read_text("utf-8").strip(), 1.0, {})
    return folder


def _installed(folder: Path) -> None:
    """What installing the project in `folder` leaves, for its entry points."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def atari(text: str) -> bool:
    """Is an Atari game named in it?"""
    return any(game in text.lower() for game in ("breakout", "pong", "space_invaders"))


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
    assert len(commands()) > 80


def test_other_programs_are_few():
    others = [c for c in commands() if not c.startswith("playfield")]
    assert not [c for c in others if not any(c.startswith(known) for known in OTHERS)]


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("playfield")])
def test_command(command, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)
    os.utime("runs/breakout/ppo/1/checkpoints/last")  # `last` and `best` mean the newest run
    words = shlex.split(command)[1:]
    verb = words[0]
    if "--help" in words:
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        return
    if {"--nodes", "--join"} & set(words):  # test_nodes.py and test_nodes_on_ray.py have other machines
        monkeypatch.setenv("PLAYFIELD_TOKEN", "0123456789abcdef")
        monkeypatch.setattr(ray_link, "require_ray", lambda: None)
        options, _, _ = understand(words[1:])
        assert {"nodes", "join"} & options.keys()
        return
    if verb == "train" and "--resume" in words:
        words += ["--steps", "192", *SMALL[2:]]
        words = [w for i, w in enumerate(words) if not (w == "--steps" and i < len(words) - len(SMALL))]
        words = [w for w in words if w not in ("10M", "400k")]
        if "linear_a2c" in command:
            words[words.index("--steps") + 1] = "2048"
    elif verb == "train":
        for flag in ("--steps", "--minutes"):
            if flag in words:
                at = words.index(flag)
                del words[at : at + 2]
        words += SMALL
        if not words[1].startswith(("CartPole", "corridor")):
            words += ["--num-envs", "2", "--rollout-steps", "32"]
            words[words.index("--steps") + 1] = "128"
        if atari(words[1]):
            words += SHORT_GAMES
        if "autoencoder:" in command:
            words += ["--alpha", "1e-7"]  # one epoch leaves an auto-encoder with large latents, which diverge
    elif verb == "runs":
        Path("runs/compare").mkdir(exist_ok=True)
        if "--yes" in words:  # of a copy: other commands need the runs
            shutil.rmtree("copy", ignore_errors=True)
            shutil.copytree("runs", "copy")
            words = [*words, "copy"]
    elif verb == "eval":
        if "--games" in words:
            at = words.index("--games")
            del words[at : at + 2]
        words += ["--games", "1"]
        words += SHORT_GAMES if atari(command) else []
    elif verb == "record":
        for flag in ("--start", "--steps"):
            if flag in words:
                words[words.index(flag) + 1] = "20"
        words += [] if "--steps" in words else ["--steps", "20"]
        if "--mosaic" in words:  # each game of it has two emulators, for each of two files
            words[words.index("--mosaic") + 1] = "4"
            words += ["--out", "mosaic.gif"]
    elif verb == "collect":
        words += ["--steps", "16", "--num-envs", "1", "--out", fresh("datasets")]  # the last of two counts
    elif verb == "autoencoder":
        words[1] = "datasets/breakout"
        words += [] if "--resume" in words else ["--epochs", "1", "--out", fresh("autoencoders")]
    elif verb == "tune" and not words[1].startswith("--"):
        monkeypatch.setattr(_tuning, "measure", lambda ready: 1e4)
        monkeypatch.setattr("playfield.experiments.tune.Local", lambda: Instant(home / "started"))
        cut = words.index("--") if "--" in words else len(words)
        more = ["--trials", "2", "--dir", fresh("runs/tune"), "--seeds", "1"]
        more += ["--steps", "900"] if "--minutes" not in words else ["--minutes", "0.01"]
        words = [*words[:cut], *more, *words[cut:]]  # the last of two counts
    elif verb == "lesson" and len(words) > 1 and f"playfield lesson {words[1]}" not in ELSEWHERE:
        budget = lessons.load(words[1]).BUDGET
        small = (("runs", "1"), ("episodes", "3")) if budget.runs else (("episodes", "3"), ("steps", "99"))
        words += [w for what, n in small if getattr(budget, what) for w in (f"--{what}", n)]
        words.append("--quiet")  # of two budgets the last counts
        if "--gif" in words:  # an agent of three episodes does not arrive at the goal
            module = lessons.load(words[1])
            monkeypatch.setattr(module, "game", functools.partial(module.game, most=20))
        monkeypatch.setattr(random_agent, "ENVS", 2)
    elif verb == "explain":
        monkeypatch.setattr(explain, "MAX_STEPS", 60)
        words += ["--moments", "1", "--out", "why"]
    elif any(command.startswith(prefix) for prefix in ELSEWHERE):
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help", *words[1:]])
        assert stop.value.code == 0
        return
    assert main(words) == 0, capsys.readouterr().err


@pytest.fixture
def small(home, monkeypatch):
    """The directory with the runs, where Python's calls have small budgets."""
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)
    train, evaluate, run_lesson = playfield.train, playfield.evaluate, lessons.run

    def trained(env: str | None = None, algo: str = "ppo", **asked: Any) -> Any:
        quiet = {"film": False, "console": False, "tensorboard": False}
        budget = {"steps": min(asked.get("steps", 2048), 4096), "games": 1}
        return train(env, algo, **{**asked, **budget, **quiet})

    def evaluated(policy: Any, games: int = 30, **asked: Any) -> Any:
        parts = {"cap": 400} if policy.spec.family.has_lives else {}
        return evaluate(policy, min(games, 2), parts=parts, **asked)

    monkeypatch.setattr(playfield, "train", trained)
    monkeypatch.setattr(playfield, "evaluate", evaluated)
    monkeypatch.setattr(lessons, "run", lambda name, **_: run_lesson(name, runs=2, episodes=3))
    return home


@pytest.mark.parametrize(
    "page", [p for p in PAGES[1:] if blocks(p, "python")], ids=lambda page: str(page.relative_to(ROOT / "docs"))
)
def test_the_snippets_of_a_page_run(page, small):
    """All of a page, one after another, share their names."""
    space: dict[str, Any] = {"__name__": "snippets"}
    for title, code in blocks(page, "python"):
        if "import pandas" in code:
            pytest.importorskip("pandas")
        if not title:
            exec(compile(code, str(page), "exec"), space)


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
