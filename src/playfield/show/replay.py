"""`playfield replay`: a summary of a run's replay buffer, and its transitions as numbers and pictures."""

from __future__ import annotations

import json as jsonlib
import math
import sys
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np

from playfield.compute import readable_size
from playfield.errors import DataError, UsageError
from playfield.replay.buffer import OVER, TERMINATED, TRUNCATED
from playfield.replay.saved import Memory, find_memory
from playfield.show import panels
from playfield.show.formats import check_picture
from playfield.show.panels import pictures, write_png

LARGE, SMALL = 252, 126  # pixels: height of the frames of a single transition, and of one among several


def show(
    name: str,
    *,
    index: int | None = None,
    sample: int = 0,
    seed: int = 0,
    lane: int | None = None,
    out: Path | None = None,
    json: bool = False,
) -> dict[str, Any]:
    """Print a summary of the replay buffer in the newest checkpoint of a run, or some of its transitions.

    Args:
        name: a run directory, or `last`.
        index: print this transition; 0 is the oldest, negative ones count from the newest.
        sample: print that many different transitions, sampled uniformly.
        seed: of the sampling.
        lane: index or sample only the transitions of this environment.
        out: picture of the transitions (default: `transition-17.png` or `transitions.png` in the current directory).
        json: print one JSON object instead.

    Returns:
        What is printed with `json`.

    Raises:
        UsageError: no such run, environment or transition; `out` with observations that are not pixels.
        DataError: a damaged replay buffer.
    """
    if out is not None:
        check_picture(out)
    memory = find_memory(name)
    for line in memory.skipped:
        print(f"playfield: skipped a damaged checkpoint: {line}", file=sys.stderr)
    try:
        if index is None and not sample:
            found = summary(memory)
            print(jsonlib.dumps(found, indent=1) if json else table(found))
            return found
        places = _places(memory, index, sample, seed, lane)
        rows = [_row(memory, place, which) for which, place in places]
        path = None
        if memory.spec.pixels:
            path = out or Path("transitions.png" if sample else f"transition-{rows[0]['number']}.png")
            write_png(path, sheet(memory, [place for _, place in places], rows))
        elif out is not None:
            raise UsageError(f"--out writes pictures: observations of {memory.spec.id} are vectors")
    except lz4.block.LZ4BlockError:
        raise DataError(f"{memory.run}: damaged observation in the replay buffer") from None
    result = {"run": str(memory.run), "step": memory.step, "transitions": rows, "picture": path and str(path)}
    if json:
        print(jsonlib.dumps(result, indent=1))
    else:
        print("\n\n".join(_text(memory, row) for row in rows) + (f"\n\npicture: {path}" if path else ""))
    return result


def summary(memory: Memory) -> dict[str, Any]:
    """Summary of a replay buffer, JSON-able. Fractions and counts are over the transitions that can be sampled."""
    replay, config = memory.replay, memory.info["config"]
    order = replay.order()
    kinds = replay.kinds.reshape(-1)[order]
    lanes = order // replay.size
    games = sum(  # the finished ones, and the current one of each environment
        int((kinds[lanes == lane] & OVER > 0).sum()) + (kinds[lanes == lane][-1:] & OVER == 0).sum()
        for lane in range(replay.num_envs)
    )
    per_entry = (replay.nbytes - replay.frames.nbytes) / (replay.num_envs * replay.size)
    if replay.made["packed"]:
        per_entry += replay.frames.nbytes / max(replay.entries, 1)
    else:
        shape = np.prod(memory.spec.obs_shape) // replay.made["stack"]
        per_entry += float(shape) * np.dtype(memory.spec.obs_dtype).itemsize
    actions = np.bincount(replay.actions.reshape(-1)[order], minlength=memory.spec.num_actions)
    return {
        "run": str(memory.run),
        "env": memory.spec.id,
        "algo": memory.info["algo"],
        "step": memory.step,
        "length": len(order),
        "entries": replay.entries,
        "capacity": replay.num_envs * replay.size,
        "lanes": replay.num_envs,
        "index": replay.index.tolist(),
        "games": int(games),
        "terminated": float((kinds & TERMINATED > 0).mean()) if len(order) else 0.0,
        "truncated": float((kinds & TRUNCATED > 0).mean()) if len(order) else 0.0,
        "rewards": _histogram(replay.rewards.reshape(-1)[order]),
        "actions": dict(zip(memory.spec.action_names, actions.tolist(), strict=True)),
        "priorities": _priorities(memory),
        "bytes_per_transition": per_entry,
        "compressed": replay.made["packed"],
        "n_step": replay.n_step,
        "gamma": replay.gamma,
        "clipped": bool(config.get("clip_reward")),
        "files": memory.files,
        "disk_bytes": memory.disk_bytes,
    }


def _histogram(rewards: np.ndarray) -> dict[str, int]:
    values, counts = np.unique(rewards, return_counts=True)
    if len(values) <= 12:
        return {f"{value:g}": count for value, count in zip(values.tolist(), counts.tolist(), strict=True)}
    counts, edges = np.histogram(rewards, 10)
    return {f"{edges[k]:.3g} to {edges[k + 1]:.3g}": int(count) for k, count in enumerate(counts)}


def _priorities(memory: Memory) -> dict[str, float] | None:
    if memory.replay.tree is None or not len(memory.replay):
        return None
    values = memory.replay.tree.values[memory.replay.order()]
    low, middle, high = np.quantile(values, [0, 0.5, 1]).tolist()
    tenth = float(np.sort(values)[-max(1, len(values) // 10) :].sum() / values.sum())
    return {"alpha": memory.replay.alpha, "min": low, "median": middle, "max": high, "share_of_top_tenth": tenth}


def table(found: dict[str, Any]) -> str:
    """`summary` as text."""
    at = found["index"] if len(set(found["index"])) > 1 else found["index"][:1]
    index = ", ".join(f"{i:,}" for i in at[:16]) + (", ..." if len(at) > 16 else "")
    each, held = found["bytes_per_transition"], found["bytes_per_transition"] * found["entries"]
    rows = {
        "transitions": f"{found['length']:,} can be sampled",
        "entries": f"{found['entries']:,} of {found['capacity']:,}",
        "index": f"{index} (next to be written, in each of {found['lanes']} environments)",
        "memory": f"{each:,.0f} bytes per transition, {readable_size(held)}{' compressed' * found['compressed']}",
        "files": f"{found['files']}, {readable_size(found['disk_bytes'])}",
        "games": f"{found['games']:,}",
        "ends": f"{found['terminated']:.2%} terminated, {found['truncated']:.2%} truncated",
        "returns": f"{found['n_step']}-step, gamma {found['gamma']:g}",
    }
    if found["priorities"] is not None:
        p = found["priorities"]
        rows["priorities"] = (
            f"{p['min']:.3g} to {p['max']:.3g}, median {p['median']:.3g} (alpha {p['alpha']:g}); "
            f"the largest tenth has {p['share_of_top_tenth']:.0%} of the sum"
        )
    lines = [f"{found['run']}: replay buffer of {found['algo']} on {found['env']} at step {found['step']:,}", ""]
    lines += [f"{key:>12}  {value}" for key, value in rows.items()]
    title = "rewards (clipped to their signs)" if found["clipped"] else "rewards"
    for what, counts in ((title, found["rewards"]), ("actions", found["actions"])):
        lines += ["", what]
        widest = max([12, *map(len, counts)])
        for label, count in counts.items():
            share = count / max(found["length"], 1)
            lines.append(f"{label:>{widest}}  {count:>11,}  {share:>6.1%}  {'#' * round(40 * share)}".rstrip())
    return "\n".join(lines)


def _places(memory: Memory, index: int | None, sample: int, seed: int, lane: int | None) -> list[tuple[int, int]]:
    """(index from the oldest, position in the buffer) of the transitions asked for."""
    order, lanes = memory.replay.order(), memory.replay.num_envs
    if lane is not None:
        if lane >= lanes:
            raise UsageError(f"no lane {lane}: the environments of {memory.run} are 0 to {lanes - 1}")
        order = order[order // memory.replay.size == lane]
    if not len(order):
        raise UsageError(f"the replay buffer of {memory.run} is empty")
    if index is None:
        chosen = np.random.default_rng(seed).choice(len(order), min(sample, len(order)), replace=False)
        return [(int(i), int(order[i])) for i in np.sort(chosen)]
    if not -len(order) <= index < len(order):
        where = f" of environment {lane}" if lane is not None else ""
        raise UsageError(f"no transition {index}{where}: choose from 0 (the oldest) to {len(order) - 1}")
    return [(index % len(order), int(order[index]))]


def _row(memory: Memory, place: int, number: int) -> dict[str, Any]:
    """One transition, JSON-able."""
    replay, spec = memory.replay, memory.spec
    batch = replay.read(np.array([place]))
    obs, action, reward, next_obs, done = replay[int(np.flatnonzero(replay.order() == place)[0])]
    kind = int(replay.kinds.reshape(-1)[place])
    row = {
        "number": number,
        "lane": place // replay.size,
        "slot": place % replay.size,
        "action": action,
        "action_name": spec.action_names[action],
        "reward": reward,
        "n_step_return": float(batch.returns[0]),
        "discount": float(batch.discounts[0]),
        "terminated": done,
        "truncated": bool(kind & TRUNCATED),
        "game_over": bool(kind & OVER),
        "priority": None if replay.tree is None else float(replay.tree.values[place]),
    }
    if not spec.pixels:
        row |= {"obs": obs.tolist(), "next_obs": None if _has_no_next_obs(row) else next_obs.tolist()}
    return row


def _has_no_next_obs(row: dict[str, Any]) -> bool:
    """Whether the game terminated: no observation is stored after it."""
    return row["game_over"] and not row["truncated"]


def _text(memory: Memory, row: dict[str, Any]) -> str:
    replay = memory.replay
    how = [word for word in ("terminated", "truncated") if row[word]]
    if row["terminated"]:
        how.append("game over" if row["game_over"] else "life lost, the game goes on")
    lines = {
        "action": f"{row['action_name']} ({row['action']})",
        "reward": f"{row['reward']:g}",
        "return": f"{row['n_step_return']:g} ({replay.n_step}-step)",
        "discount": f"{row['discount']:.6g} (of the bootstrap value)",
        "end": ", ".join(how) or "no",
    }
    if row["priority"] is not None:
        lines["priority"] = f"{row['priority']:.6g}"
    if "obs" in row:
        lines["obs"] = _numbers(row["obs"])
        lines["next obs"] = "none: game over" if row["next_obs"] is None else _numbers(row["next_obs"])
    where = f"environment {row['lane']}, slot {row['slot']}"
    head = f"transition {row['number']} of {len(replay):,} (0 is the oldest): {where}"
    return "\n".join([head, *(f"{key:>12}  {value}" for key, value in lines.items())])


def _numbers(values: Any) -> str:
    array = np.asarray(values)
    text = np.array2string(array, precision=5, separator=", ", max_line_width=100, threshold=10_000)
    return text.replace("\n", "\n" + " " * 14)


def sheet(memory: Memory, places: list[int], rows: list[dict[str, Any]]) -> np.ndarray:
    """Transitions as one picture, uint8 [h, w, 3]: the observation, the next one, and the one it bootstraps from.

    Frames of a stack are labelled with their time; t is the step of the transition.
    """
    height = LARGE if len(places) == 1 else SMALL
    return panels.mosaic([_card(memory, *one, height) for one in zip(places, rows, strict=True)], gap=10)


def _card(memory: Memory, place: int, row: dict[str, Any], height: int) -> np.ndarray:
    replay = memory.replay
    obs, _, _, next_obs, _ = replay[int(np.flatnonzero(replay.order() == place)[0])]
    stack, n = int(memory.spec.protocol.get("stack", 1)), replay.n_step
    title = "game over" if _has_no_next_obs(row) else "next observation"
    see = memory.spec.visible
    blocks = [_block(see(obs), stack, 0, "observation", height), _block(see(next_obs), stack, 1, title, height)]
    if n > 1:
        last = replay.read(np.array([place])).next_obs[0]
        ends = row["discount"] == 0
        title = "terminated: no bootstrap" if ends else "bootstraps from this value"
        after = None if ends or replay.gamma == 1 else round(math.log(row["discount"]) / math.log(replay.gamma))
        blocks.append(_block(np.zeros_like(last) if ends else see(last), stack, after, title, height))
    end = "".join(f", {word}" for word in ("terminated", "truncated") if row[word])
    text = f"{row['number']}: {row['action_name']}, reward {row['reward']:g}{end}"
    right = f"return {row['n_step_return']:.3g}, discount {row['discount']:.3g}"
    if row["priority"] is not None:
        right += f", priority {row['priority']:.3g}"
    return panels.caption(panels.beside(*blocks, gap=12), text, right, size=14)


def _block(obs: np.ndarray, stack: int, after: int | None, title: str, height: int) -> np.ndarray:
    """The frames of one observation in a grid, oldest first, each with its time."""
    tiles = []
    for k, picture in enumerate(pictures(obs, stack)):
        time = "" if after is None else _time(after - stack + 1 + k)
        tiles.append(panels.caption(panels.fit(picture, height), time, size=11))
    return panels.caption(panels.mosaic(tiles, gap=4), title, size=13)


def _time(offset: int) -> str:
    return "t" if not offset else f"t{offset:+d}"
