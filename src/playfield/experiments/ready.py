"""What the trainings of an experiment need, found out before the first one starts: mistakes, memory, time."""

from __future__ import annotations

import contextlib
import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from playfield import compute
from playfield.errors import PlayfieldError, StorageError, UsageError
from playfield.experiments.cluster_state import Node
from playfield.experiments.file import Experiment
from playfield.experiments.grid import Kind
from playfield.experiments.job import Job, reached
from playfield.experiments.words import check_words
from playfield.runs.console import Say
from playfield.runs.info import is_run, read_info
from playfield.training.prepare import Prepared, fit_together, prepare
from playfield.training.request import Request

QUICK, QUICK_PIXELS = 2_000_000, 200_000
"""Steps in all, with vectors and with pictures, up to which measuring would take longer than it tells."""


class Ready:
    """Prepares each kind of training once.

    Args:
        root: directory of the experiment.
        understand: words of `playfield train` -> fields of `Request`; raises UsageError for a mistake.
        say: receives lines for a person while something takes time.
        here: whether trainings run on this machine; otherwise its memory and its GPU do not limit them.
    """

    def __init__(
        self, root: Path, understand: Callable[[list[str]], dict[str, Any]], say: Say, here: bool = True
    ) -> None:
        self.root, self.understand, self.say, self.here = root, understand, say, here
        self._made: dict[tuple[str, ...], Prepared] = {}
        self._told = False

    def of(self, words: tuple[str, ...]) -> Prepared:
        """What trainings with these words of `playfield train` need; see `prepare`."""
        return self._made[words]

    def prepare(self, kinds: Sequence[Kind]) -> None:
        """Find every mistake in the words of these kinds, and then what does not fit here, if they run here.

        Raises UsageError, or StorageError for a disk that is too full. Nothing is written.
        """
        understood = []
        for kind in {k.train_words: k for k in kinds}.values():
            if kind.train_words not in self._made:
                with _naming(kind):
                    understood.append((kind, self.understand([*kind.train_words, "--steps", str(kind.steps or 1)])))
        for kind, options in understood:
            with _naming(kind), contextlib.nullcontext() if self.here else compute.elsewhere():
                self._made[kind.train_words] = prepare(Request(**{**options, "run": self.root}))

    def with_steps(self, kind: Kind, before: Experiment | None) -> Kind:
        """A kind with the steps that fit into its minutes: those that were chosen before, else at today's speed."""
        if kind.steps is not None:
            return kind
        assert kind.minutes is not None
        for old in before.kinds if before else ():
            if (old.env, old.label) == (kind.env, kind.label) and old.steps and kind.home(self.root).is_dir():
                if not self._told:
                    self.say("minutes: the steps that were measured when these trainings began stay; or give steps")
                self._told = True
                return replace(kind, steps=old.steps)
        self.prepare([kind])
        if why := self._unmeasured([self.of(kind.train_words)]):
            raise UsageError(f"{kind.name}: minutes are measured where the command is typed: {why}; give steps")
        self.say(f"measuring the speed of {kind.label} on {kind.env} ...")
        return replace(kind, steps=_measuring().steps_in(self.of(kind.train_words), kind.minutes))

    def same(self, kind: Kind, words: Sequence[str]) -> bool:
        """Whether other words of `playfield train` mean the same training: every option, to the last default."""
        other = replace(kind, words=tuple(words[3:]))
        if other.train_words != tuple(words):
            return False
        with contextlib.suppress(PlayfieldError):
            check_words(words[5:], "", "")
            self.prepare([kind, other])
            return meaning(self.of(kind.train_words)) == meaning(self.of(other.train_words))
        return False

    def check_presets(self, kinds: Sequence[Kind]) -> None:
        """Raise UsageError where the file of a preset says other values than when a run of that kind was started."""
        for kind in kinds:
            now = self.of(kind.train_words).request.preset_file
            for path in sorted(kind.home(self.root).glob("*/run.json")) if now is not None else ():
                assert now is not None
                then = read_info(path.parent).get("preset_file", now)
                if {**then, "file": ""} != {**now, "file": ""}:
                    raise UsageError(
                        f"{kind.name}: {now['file']} says other values than when {path.parent} was started: "
                        "use another --dir, or the file as it was"
                    )

    def check_fit(self, waiting: Sequence[Job], parallel: int) -> None:
        """Raise UsageError unless any `parallel` of these fit at once: on the disk, and on this machine in memory."""
        needs = [self.of(job.words).need for job in waiting]
        fit_together(needs if self.here else [replace(need, memory=0.0) for need in needs], parallel, self.root)

    def check_nodes(self, kinds: Sequence[Kind], waiting: Sequence[Job], nodes: Sequence[Node] | None) -> None:
        """See `check_nodes`, for the kinds of those that wait and have not begun."""
        new = {job.words for job in waiting if not is_run(job.directory)}
        lines = []
        for kind in kinds:
            if kind.train_words in new:
                with _naming(kind):
                    lines.append(check_nodes(self.of(kind.train_words), nodes, bool(kind.file)))
        for line in dict.fromkeys(line for line in lines if line):
            self.say(line)

    def say_how_long(self, waiting: Sequence[Job], parallel: int, yes: bool, provided: str = "") -> None:
        """Say how long the trainings take, where that is worth measuring; `provided` what, as words.

        Raises UsageError where it is more than a day, unless `yes`.
        """
        left: Counter[tuple[str, ...]] = Counter()
        for job in waiting:
            left[job.words] += max(1, job.steps - reached(job.directory)[0])
        pixels = any(self.of(words).spec.pixels for words in left)
        if sum(left.values()) < (QUICK_PIXELS if pixels else QUICK):
            return
        what = f"{len(waiting)} training{'s' * (len(waiting) > 1)}, {min(parallel, len(waiting))} at a time{provided}"
        if why := self._unmeasured([self.of(words) for words in left]):
            self.say(f"{what}: how long they take is not measured: {why}")
            return
        self.say(f"measuring the speed of {len(left)} kind{'s' * (len(left) > 1)} of training ...")
        counts = Counter(job.words for job in waiting)
        work = [(self.of(words), round(steps / counts[words]), counts[words]) for words, steps in left.items()]
        measuring = _measuring()
        self.say(measuring.confirm(measuring.estimate(work, parallel), what, yes))

    def _unmeasured(self, found: Sequence[Prepared]) -> str:
        """Why the speed of one of these cannot be measured on this machine; empty where it can."""
        if self.here:
            return ""
        unmeasured = _measuring().unmeasured
        return next((str(why) for one in found if (why := unmeasured(one))), "")


def check_nodes(one: Prepared, nodes: Sequence[Node] | None, in_file: bool = False) -> str:
    """Whether nodes of a cluster have the GPU and the cores for a training; returns a line for a person, or "".

    Raises UsageError where none has.

    Args:
        nodes: those that can be used; None where they are not known.
        in_file: whether the options of the training are in a file, not behind a command.
    """
    chosen, auto = one.compute, one.request.device == "auto"
    if chosen.device == "cuda" and nodes is not None and not any(node.gpus for node in nodes):
        asked = "--device auto has chosen the GPU of this machine" if auto else "--device cuda"
        raise UsageError(f"{asked}, and no node has a GPU: {_use('device', 'cpu', in_file)}")
    able = [node.cpus for node in nodes or () if node.gpus or chosen.device == "cpu"]
    if able and chosen.workers > max(able):
        fits = max(n for n in range(1, max(able) + 1) if one.cfg.num_envs % n == 0)
        raise UsageError(
            f"{chosen.workers} workers need as many cores on one node, and none has more than {max(able)}: "
            f"{_use('workers', str(fits), in_file)}"
        )
    gpus = nodes is None or any(node.gpus for node in nodes)
    if gpus and auto and chosen.device == "cpu" and one.spec.pixels and not compute.has_cuda():
        there = "GPUs of nodes are" if nodes is None else "nodes have GPUs, which are"
        how = _use("device", "cuda", in_file)
        return f"note: {there} not used: --device auto follows this machine, which has none ({how} for them)"
    return ""


def _use(option: str, value: str, in_file: bool) -> str:
    written = f'"{value}"' if not value.isdecimal() else value
    return f"use {option} = {written} in the file" if in_file else f"use -- --{option} {value}"


def _measuring() -> ModuleType:
    """The module that measures, and with it torch, only where something is measured."""
    return importlib.import_module("playfield.experiments.estimate")


def meaning(one: Prepared) -> tuple[Any, ...]:
    """All that a training depends on but its seed and its length."""
    chosen = one.compute
    begins = one.begin.record["hash"] if one.begin else None
    return one.request.algo, one.cfg, one.spec, chosen.device, chosen.precision, chosen.workers, begins


@contextlib.contextmanager
def _naming(kind: Kind) -> Iterator[None]:
    try:
        yield
    except (UsageError, StorageError) as error:
        raise type(error)(f"{kind.name}: {error}") from None
