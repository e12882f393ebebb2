"""An experiment as a TOML file: what a person writes, and what is written back with every value resolved.

```toml
envs = ["CartPole-v1", "Acrobot-v1"]
seeds = 10                      # or a list of seeds
steps = "50k"                   # or a table by environment, or minutes = 5
dir = "runs/classic"
statistic = "median"            # of its games, the score of a training; the mean without it

[options]                       # of `playfield train`, for all
num_envs = 8

[evaluation]                    # of each training; none without
games = 30

[[algorithms]]
algo = "ppo"

[[algorithms]]
algo = "dqn"
label = "double DQN"
double = true
envs = ["CartPole-v1"]          # only there; seeds, steps and minutes may be given here, too
```

A label without options may stand as text: `algorithms = ["ppo", "dqn --double"]`.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield import compute
from playfield.arguments import ALIASES, seeds
from playfield.envs import arguments, protocol_line
from playfield.envs.names import resolve
from playfield.errors import DataError, UsageError, unknown
from playfield.experiments.grid import FIRST_SEEDS, Kind
from playfield.experiments.words import check_words
from playfield.options import Option
from playfield.play.statistics import MEAN, Statistic, named
from playfield.runs import catalog
from playfield.runs.console import Say
from playfield.runs.info import VERSION, is_run
from playfield.runs.toml_file import TomlFile, read_toml, toml_key, toml_value
from playfield.training.prepare import Prepared
from playfield.training.request import PROTOCOL_PARTS, TAKES

NAME = "experiment.toml"
"""The file beside the results."""
SHARED = ("envs", "seeds", "steps", "minutes")
TOP = (*SHARED, "algorithms", "dir", "jobs", "statistic", "options", "evaluation", "versions")
OWN = (*SHARED, "algo", "label", "games", "plays")
"""Keys of an algorithm that are no options of `playfield train`."""
SETTINGS = (
    *("preset", "protocol", "view", "device", "precision", "env_kwargs", "env_timeout", "init_from"),
    *("eval_every", "eval_games", "workers", "workers_as"),
)
EVALUATION = {"games": "games", "every": "eval_every", "every_games": "eval_games"}


@dataclass(frozen=True)
class Experiment:
    """The contents of a file.

    Attributes:
        kinds: what is to be trained.
        directory: where; None: the file does not say.
        jobs: trainings at once; None: the file does not say.
        statistic: of its games, the score of a training.
        plays: (environment, label) -> the protocol line that was resolved when the file was written.
        versions: of packages, when it was written.
    """

    kinds: tuple[Kind, ...]
    directory: Path | None = None
    jobs: int | None = None
    statistic: Statistic = MEAN
    plays: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read(path: Path) -> Experiment:
    """The experiment in a TOML file. Raises UsageError with file and line for a mistake, DataError for no TOML."""
    return _Reader(read_toml(path)).experiment()


class _Reader:
    """Makes an experiment of the tables of a file."""

    def __init__(self, file: TomlFile) -> None:
        self.file, self.top = file, file.table

    def experiment(self) -> Experiment:
        for key in self.top:
            if key not in TOP:
                raise self.file.unknown("setting of an experiment", key, TOP)
        if "algorithms" not in self.top:
            raise UsageError(f'{self.file.path}: it names no algorithms, as in algorithms = ["ppo", "dqn --double"]')
        lines = self.top["algorithms"]
        if not isinstance(lines, list) or not lines or not all(isinstance(x, str | dict) for x in lines):
            raise self.file.wrong("algorithms", 'algorithms is a list, as in algorithms = ["ppo"], or [[algorithms]]')
        kinds: list[Kind] = []
        plays: dict[tuple[str, str], str] = {}
        for n, line in enumerate(lines):
            after = self.file.start("algorithms", n) if isinstance(line, dict) else 0
            table = {"algo": line} if isinstance(line, str) else line
            found = self._kinds(table, after)
            kinds += found
            if isinstance(told := table.get("plays"), str):
                plays |= {(kind.env, kind.label): told for kind in found}
        for kind in kinds:
            if sum((k.env, k.label) == (kind.env, kind.label) for k in kinds) > 1:
                raise UsageError(f"{kind.name} is there twice: give them labels, as in label = 'the other'")
        directory = self.top.get("dir")
        if directory is not None and (not isinstance(directory, str) or not directory.strip()):
            raise self.file.wrong("dir", "dir takes the path of a directory")
        jobs = self._whole("jobs", self.top, 0, 1, 1024)
        try:
            statistic = named(self.top.get("statistic", "mean"))
        except UsageError as error:
            raise self.file.wrong("statistic", str(error)) from None
        versions = self.top.get("versions", {})
        if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
            raise self.file.wrong("versions", "versions is a table of texts")
        return Experiment(tuple(kinds), Path(directory) if directory else None, jobs, statistic, plays, versions)

    def _kinds(self, table: Mapping[str, Any], after: int) -> list[Kind]:
        """One algorithm, for each of its environments."""
        algo, *more = self._algo(table, after)
        known = catalog.algorithms()
        if algo not in known:
            raise self.file.wrong("algo" if after else "algorithms", str(unknown("algorithm", algo, known)), after)
        self._words_of_label(more, table, after)
        shared, words = self.top.get("options", {}), []
        if not isinstance(shared, dict):
            raise self.file.wrong("options", "options is a table, as in [options]")
        words += self._options(algo, shared, 0)
        evaluation = self.top.get("evaluation", {})
        if not isinstance(evaluation, dict):
            raise self.file.wrong("evaluation", "evaluation is a table, as in [evaluation] games = 30")
        for key, value in evaluation.items():
            if key not in EVALUATION:
                raise self.file.unknown("setting of the evaluation", key, EVALUATION)
            if key != "games":
                words += self._options(algo, {EVALUATION[key]: value}, 0, key)
        own = {key: value for key, value in table.items() if key not in OWN}
        words += more + self._options(algo, own, after)
        text = shlex.join([algo, *more, *self._options(algo, own, after)])
        label = table.get("label", text)
        if not isinstance(label, str) or not label.strip() or not label.isprintable():
            raise self.file.wrong("label", "label takes a text of one line", after)
        envs = self._names(table if "envs" in table else self.top, after if "envs" in table else 0)
        games = self._whole("games", evaluation, 0, 0, 10**6)
        if "games" in table:
            games = self._whole("games", table, after, 0, 10**6)
        return [
            Kind(
                env,
                label,
                ("--algo", algo, *words),
                self._seeds(table, after),
                *self._length(env, table, after),
                games or 0,
                self.file.where("algo", after) if after else str(self.file.path),
            )
            for env in envs
        ]

    def _algo(self, table: Mapping[str, Any], after: int) -> list[str]:
        given = table.get("algo")
        if not isinstance(given, str) or not given.strip():
            raise self.file.wrong("algo", 'each of the algorithms needs a name, as in algo = "ppo"', after)
        try:
            return shlex.split(given)
        except ValueError as error:
            raise self.file.wrong("algo", f"{given!r}: {error}", after) from None

    def _words_of_label(self, words: list[str], table: Mapping[str, Any], after: int) -> None:
        where, why = f"in {table['algo']!r}", "the algorithm comes first, then its options"
        try:
            check_words(words, where, why, "an experiment")
        except UsageError as error:
            raise self.file.wrong("algo" if after else "algorithms", str(error), after) from None

    def _options(self, algo: str, table: Mapping[str, Any], after: int, shown_as: str = "") -> list[str]:
        """Words of `playfield train` for a table of options."""
        own = {o.name: o for o in catalog.options(algo)}
        aliases = {a.replace("-", "_"): [n.replace("-", "_") for n in names] for a, names in ALIASES.items()}
        words: list[str] = []
        for key, value in table.items():
            name = key.replace("-", "_")
            name = next((n for n in (name, *aliases.get(name, ())) if n in own), name)
            if name not in own and name not in SETTINGS and name not in PROTOCOL_PARTS:
                known = [*own, *SETTINGS, *PROTOCOL_PARTS]
                raise self.file.unknown(f"option of {algo}", key, known, after, catalog.why_not(algo, name, known))
            option = own.get(name) or TAKES.get(name)
            if option is not None:
                value = self._value(shown_as or key, option, value, after)
            words += self._words(shown_as or key, name, value, after)
        return words

    def _value(self, key: str, option: Option, value: Any, after: int) -> Any:
        """A value of an option; numbers may be texts such as "50k"."""
        try:
            if isinstance(value, str) and option.type != "str":
                return option.parse(value, key)
            if option.type == "float" and type(value) is int:
                value = float(value)
            option.check(value)
        except UsageError as error:
            raise self.file.wrong(key, str(error), after) from None
        return value

    def _words(self, key: str, name: str, value: Any, after: int) -> list[str]:
        flag = f"--{name.replace('_', '-')}"
        match value:
            case bool():
                return [f"{flag}={str(value).lower()}"]
            case str() | int() | float():
                return [f"{flag}={value}"]
            case dict() if name == "env_kwargs":
                return [flag, *arguments.words(value)]
        raise self.file.wrong(key, f"{key} takes a number, a text, true or false, not {str(value)[:60]}", after)

    def _names(self, table: Mapping[str, Any], after: int) -> list[str]:
        envs = table.get("envs")
        envs = [envs] if isinstance(envs, str) else envs
        if not isinstance(envs, list) or not envs or not all(isinstance(env, str) for env in envs):
            raise self.file.wrong("envs", 'envs takes a list of environments, as in envs = ["CartPole-v1"]', after)
        for env in envs:
            try:
                resolve(env)
            except UsageError as error:
                raise self.file.wrong("envs", str(error), after) from None
            if envs.count(env) > 1:
                raise self.file.wrong("envs", f"{env} is there twice", after)
        return envs

    def _seeds(self, table: Mapping[str, Any], after: int) -> tuple[int, ...]:
        where, line = (table, after) if "seeds" in table else (self.top, 0)
        given = where.get("seeds")
        if given is None:
            return FIRST_SEEDS
        if isinstance(given, list) and all(type(seed) is int for seed in given) and given:
            text = ",".join(map(str, given)) + ","
        else:
            text = str(given) if type(given) in (int, str) else repr(given)
        try:
            return tuple(seeds("seeds", text))
        except UsageError as error:
            raise self.file.wrong("seeds", str(error), line) from None

    def _length(self, env: str, table: Mapping[str, Any], after: int) -> tuple[int | None, float | None]:
        """Steps, or minutes, of the trainings on an environment."""
        own = "steps" in table or "minutes" in table
        where, line = (table, after) if own else (self.top, 0)
        steps, minutes = where.get("steps"), where.get("minutes")
        if isinstance(steps, dict):
            if env not in steps:
                raise self.file.wrong("steps", f"steps says nothing of {env}", line)
            steps = steps[env]
        if (steps is None) == (minutes is None):
            raise self.file.wrong(
                "steps", "give steps, as in steps = 50_000, or minutes" + ", not both" * (steps is not None), line
            )
        if steps is not None:
            return self._value("steps", TAKES["steps"], steps, line), None
        return None, self._value("minutes", TAKES["minutes"], minutes, line)

    def _whole(self, name: str, table: Mapping[str, Any], after: int, low: int, high: int) -> int | None:
        if name not in table:
            return None
        value: int = self._value(name, Option(name, "int", None, "", low=low, high=high), table[name], after)
        return value


def resolved(
    directory: Path, ready: Mapping[Kind, Prepared], before: Experiment | None, statistic: Statistic = MEAN
) -> str:
    """The text of the file beside the results: every option of every kind of training, to the last default.

    Args:
        directory: of the experiment.
        ready: what is trained.
        before: what the file there says so far; its other kinds stay in it.
        statistic: that is the score of a training.
    """
    kinds = [*ready, *(before.kinds if before else ())]
    trust = " --trust" if any(":" in kind.env for kind in kinds) else ""
    lines = [
        f"# Written by `playfield compare`, which repeats it: playfield compare {NAME}{trust}",
        f"dir = {toml_value(str(directory))}",
        *([] if statistic == MEAN else [f"statistic = {toml_value(statistic.name)}"]),
        "",
        "[versions]",
        *(f"{toml_key(name)} = {toml_value(str(version))}" for name, version in _versions().items()),
    ]
    now = {(kind.env, kind.label) for kind in ready}
    for kind in before.kinds if before else ():
        if (kind.env, kind.label) not in now:
            lines += _table(kind, _as_told(kind), (before.plays if before else {}).get((kind.env, kind.label)))
    for kind, one in ready.items():
        values = {"preset": one.request.preset, **_settings(one), **_chosen(one)}
        lines += _table(_with_earlier_seeds(kind, directory, before), values, protocol_line(one.spec.protocol))
    return "\n".join(lines) + "\n"


def _chosen(one: Prepared) -> dict[str, Any]:
    """The algorithm's options, but those in whose place another stands: beside it they would be refused."""
    values = dataclasses.asdict(one.cfg)
    replaced = {name for o in catalog.options(one.request.algo) for name in o.replaced(values[o.name])}
    return {name: value for name, value in values.items() if name not in replaced}


def _with_earlier_seeds(kind: Kind, directory: Path, before: Experiment | None) -> Kind:
    """The kind with the seeds that were asked for earlier, too, where they have runs."""
    earlier = (
        {s for k in before.kinds if (k.env, k.label) == (kind.env, kind.label) for s in k.seeds} if before else ()
    )
    trained = {seed for seed in earlier if is_run(kind.home(directory) / str(seed))}
    return dataclasses.replace(kind, seeds=tuple(sorted(trained | set(kind.seeds))))


def _versions() -> dict[str, str]:
    return {"playfield": VERSION, **compute.versions()}


def _settings(one: Prepared) -> dict[str, Any]:
    """What is not the algorithm's own, as it was asked for or chosen."""
    request = one.request
    values: dict[str, Any] = {"precision": one.compute.precision, "workers": one.compute.workers}
    if request.device != "auto":
        values["device"] = request.device
    given = ("workers_as", "protocol", "view", "env_timeout", "init_from")
    values |= {name: getattr(request, name) for name in given if getattr(request, name) is not None}
    if request.eval_every:
        values |= {"eval_every": request.eval_every, "eval_games": request.eval_games}
    if request.env_kwargs:
        values["env_kwargs"] = request.env_kwargs
    return values | request.parts


def _as_told(kind: Kind) -> dict[str, Any]:
    """The options of a kind that was read from the file."""
    values: dict[str, Any] = {}
    words = list(kind.words[2:])
    while words:
        word = words.pop(0)
        if word == "--env-kwargs":
            given = []
            while words and not words[0].startswith("--"):
                given.append(words.pop(0))
            values["env_kwargs"] = arguments.parse(given)
            continue
        flag, _, value = word.partition("=")
        values[flag[2:].replace("-", "_")] = value
    return values


def _table(kind: Kind, values: Mapping[str, Any], plays: str | None) -> list[str]:
    algo = kind.words[1]
    lines = ["", "[[algorithms]]", f"algo = {toml_value(algo)}", f"label = {toml_value(kind.label)}"]
    lines += [f"envs = [{toml_value(kind.env)}]", f"seeds = {list(kind.seeds)}"]
    lines += [f"steps = {kind.steps}"] if kind.steps is not None else [f"minutes = {kind.minutes!r}"]
    lines += [f"games = {kind.games}"]
    lines += [f"plays = {toml_value(plays)}"] if plays else []
    return lines + [f"{key} = {toml_value(value)}" for key, value in values.items() if value is not None]


def stored(directory: Path) -> Experiment | None:
    """The experiment that the file beside the results says; None without one. Raises DataError for a damaged one."""
    path = directory / NAME
    if not path.exists():
        return None
    try:
        return read(path)
    except UsageError as error:
        raise DataError(str(error)) from None


def note_differences(experiment: Experiment, ready: Mapping[Kind, Prepared], say: Say) -> None:
    """Say where this machine is not what a resolved file was written with: its results may differ."""
    here = _versions()
    then = experiment.versions
    changed = [f"{name} {old} -> {here.get(name)}" for name, old in then.items() if old != str(here.get(name))]
    if changed:
        say(f"note: the file was written with other versions: {', '.join(changed)}")
    for kind, one in ready.items():
        told, here_line = experiment.plays.get((kind.env, kind.label)), protocol_line(one.spec.protocol)
        if told is not None and told != here_line:
            say(f"note: {kind.label} on {kind.env} is played under {here_line}; in the file it was {told}")
