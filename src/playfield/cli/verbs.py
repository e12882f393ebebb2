"""The commands of `playfield`. A command's module is imported when it is run, so that `playfield --help` is quick."""

from __future__ import annotations

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command: `function` of `cli/module.py` takes words and returns the exit code; `about` is its docstring.

    `lasting`: what it does lies on the disk, so that it has done its work even if nothing of it could be printed,
    unless it was asked for what it prints (`output.want`).
    """

    module: str
    function: str
    about: str
    lasting: bool = False

    def __call__(self, words: list[str]) -> int:
        module = importlib.import_module(f"playfield.cli.{self.module}")
        with importlib.import_module("playfield.envs.hang").of_command_line():
            code: int = getattr(module, self.function)(words)
        return code


VERBS = {
    "train": Command("train", "train", "Train an agent, or resume a run.", lasting=True),
    "eval": Command("agents", "evaluate", "Evaluate an agent over full games: raw scores and their protocol."),
    "record": Command("agents", "record", "Film an agent: MP4 and GIF.", lasting=True),
    "watch": Command(
        "agents",
        "watch",
        "Watch an agent play, live in the browser, or all runs of a folder while they train.",
        lasting=True,
    ),
    "explain": Command(
        "agents", "explain", "Explain an agent: saliency maps, and what would change its action.", lasting=True
    ),
    "collect": Command(
        "agents", "collect", "Record a dataset of an agent's play: screens, RAM, actions, rewards.", lasting=True
    ),
    "autoencoder": Command(
        "autoencoder",
        "autoencoder",
        "Train an auto-encoder on collected screens; its latents are features.",
        lasting=True,
    ),
    "replay": Command("replay", "replay", "Inspect a run's replay buffer."),
    "preprocess": Command("preprocess", "preprocess", "Show how a screen becomes an observation."),
    "compare": Command(
        "compare",
        "compare",
        "Train algorithms side by side, or draw what was trained: one picture, one table.",
        lasting=True,
    ),
    "runs": Command("runs", "runs", "List the runs under a folder, with scores and states; remove or prune them."),
    "tune": Command(
        "tune", "tune", "Search good hyper-parameters: many trainings, the best as a preset file.", lasting=True
    ),
    "lesson": Command(
        "lesson", "lesson", "Run an experiment of a course or a book, its results beside yours.", lasting=True
    ),
    "games": Command("games", "games", "List all games, or all that is known of one."),
    "nets": Command("nets", "nets", "List network bodies with their size and speed, or one layer by layer."),
    "completion": Command(
        "completion", "completion", "Print the completion of words for a shell: bash, zsh or fish."
    ),
    "bench": Command("bench", "bench", "Measure speed beside a peer, both in one run."),
}
