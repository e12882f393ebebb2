"""`playfield completion`: words that the shell offers for what is being typed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from playfield import lessons
from playfield.cli.parser import BOOL, Parser, make, parser_of
from playfield.cli.verbs import VERBS
from playfield.envs.names import atari_games, classic_games
from playfield.errors import PlayfieldError, UsageError
from playfield.nets import names as net_names
from playfield.play.agent import shipped
from playfield.runs import catalog
from playfield.runs.info import all_runs

EXAMPLES = """examples:
  playfield completion bash >> ~/.bashrc
  playfield completion zsh >> ~/.zshrc
  playfield completion fish > ~/.config/fish/completions/playfield.fish

It takes effect in the next shell. Games, runs, lessons, algorithms and their options are then completed with Tab."""

BASH = """_playfield() {
    COMPREPLY=()
    while IFS= read -r word; do COMPREPLY+=("$word"); done \\
        < <(playfield completion --offer "${COMP_WORDS[@]:1:$COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _playfield playfield
"""
ZSH = """_playfield() {
    local -a found
    found=("${(@f)$(playfield completion --offer "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -a found; else _files; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _playfield playfield
"""
FISH = """function __playfield_offer
    set -l words (commandline -opc) (commandline -ct)
    playfield completion --offer $words[2..-1] 2>/dev/null
end
complete -c playfield -a '(__playfield_offer)'
"""
SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
ENVS = ("train", "compare", "preprocess", "games")  # commands that are about environments
AGENTS = ("eval", "record", "watch", "explain", "collect", "replay")


def completion(words: list[str]) -> int:
    """Print the completion of words for a shell: bash, zsh or fish."""
    p = make("completion", completion.__doc__ or "", EXAMPLES)
    p.add_argument("shell", help=", ".join(SHELLS))
    p.add_argument("--offer", action="store_true", help="print what the last word may be; the scripts ask for it")
    if words[:1] == ["--offer"]:
        sys.stdout.write("".join(f"{word}\n" for word in offer(words[1:])))
        return 0
    a = p.parse(words)
    if a.shell not in SHELLS:
        raise UsageError(f"completion is for {', '.join(SHELLS)}, not {a.shell!r}")
    sys.stdout.write(SHELLS[a.shell])
    return 0


def offer(words: Sequence[str]) -> list[str]:
    """What the last of `words` may be, where the others follow `playfield`; empty where the shell may offer files."""
    *before, now = words or [""]
    if not before:
        return _beginning(now, [*VERBS, "--help", "--version"])
    if before[0] not in VERBS:
        return []
    if now == "=":  # bash gives --algo=d as three words
        now = ""
    elif before[-1] == "=":
        before = before[:-1]
    try:
        parser = parser_of(VERBS[before[0]], before[1:])
    except PlayfieldError:  # of an algorithm or a lesson that there is not
        return []
    flag, sign, value = now.partition("=")
    if sign and flag.startswith("--"):
        return [f"{flag}={word}" for word in _beginning(value, _values(parser, before, flag))]
    action = parser.actions_by_flag().get(before[-1])
    if action is not None and action.nargs != 0 and (action.metavar != BOOL or not now.startswith("-")):
        return _beginning(now, _values(parser, before, before[-1]))
    if now.startswith("-"):
        return _beginning(now, _flags(parser))
    return _beginning(now, _positional(before[0]))


def _beginning(start: str, words: Iterable[str]) -> list[str]:
    return sorted({word for word in words if word.startswith(start)})


def _flags(parser: Parser) -> list[str]:
    """All options, switches also as --no-NAME."""
    known = parser.actions_by_flag()
    off = [f"--no-{flag[2:]}" for flag, action in known.items() if action.metavar == BOOL]
    return [flag for flag in (*known, *off) if flag.startswith("--")]


def _values(parser: Parser, before: Sequence[str], flag: str) -> list[str]:
    """What an option takes, where that is a list of names."""
    action = parser.actions_by_flag().get(flag)
    metavar = str(action.metavar) if action is not None else ""
    if metavar == BOOL:
        return ["true", "false"]
    if "|" in metavar:
        return metavar.split("|")
    if flag == "--preset":
        return catalog.presets(str(parser.get_default("algo")))
    names = {
        "--algo": catalog.algorithms,
        "--net": net_names.nets,
        "--env": _environments,
        "--device": lambda: ["auto", "cpu", "cuda"],
        "--precision": lambda: ["auto", "bf16", "fp32"],
        "--protocol": lambda: ["classic", "v4", "v5"],
        "--colour": lambda: ["grey", "rgb"],
        "--checkpoint": lambda: ["last", "best"],
        "--agent": lambda: ["random"],
        "--resume": lambda: ["last", *all_runs()],
        "--vs": lambda: ["sb3", "cleanrl", "none"],
    }
    if flag == "--show" and before[0] == "record":
        return ["plain", "net", "bars", "all"]
    if flag == "--method":
        return ["occlusion", "gradient"]
    return names[flag]() if flag in names else []


def _environments() -> list[str]:
    return [*atari_games(), *classic_games()]


def _positional(verb: str) -> list[str]:
    """What a command may be about."""
    if verb in ENVS:
        return _environments()
    if verb in AGENTS:
        return ["last", *(["best", *shipped()] if verb != "replay" else []), *all_runs()]
    names = {
        "lesson": lessons.names,
        "nets": net_names.nets,
        "bench": lambda: ["ppo", "dqn", "howto", "kill", "linear", "replay", "save"],
        "completion": lambda: list(SHELLS),
    }
    return names[verb]() if verb in names else []
