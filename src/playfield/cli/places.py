"""`--on`: where the trainings of an experiment run."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playfield import compute
from playfield.cli.parser import Parser
from playfield.errors import UsageError
from playfield.experiments import ray_link, ray_words
from playfield.experiments.cluster import STORES, Cluster
from playfield.experiments.cluster_state import Node, Pins
from playfield.experiments.job import Job
from playfield.experiments.places import Place
from playfield.runs.catalog import providers
from playfield.runs.output import complain
from playfield.runs.registered import packages_of
from playfield.training.prepare import Prepared

HERE, SLURM = "local", "slurm"


def add_on(p: Parser, slurm: bool = True) -> None:
    """Add the options; without `slurm` a job array is no place."""
    p.add_argument(
        "--on",
        metavar="PLACE",
        help="where trainings run: local (default); ray: a Ray cluster, that of RAY_ADDRESS or one on this machine; "
        f"HOST:PORT or ray://HOST:PORT: that cluster{'; slurm: write the script of a job array' * slurm}",
    )
    p.add_argument(
        "--store",
        choices=STORES,
        help="how the files of runs reach the nodes of a cluster; shared: --dir is on a disk that all see; driver: "
        "they are sent to and from this machine; auto: driver for nodes that do not see --dir (default)",
    )


def check_on(a: argparse.Namespace, slurm: bool = True) -> None:
    """Raise UsageError where `--on` cannot be; `slurm` as for `add_on`."""
    if a.on not in (None, HERE, SLURM):
        ray_link.asked(a.on, (HERE, "ray", *([SLURM] * slurm)))
        ray_link.require_ray()
    elif a.store is not None:
        raise UsageError(f"--store is for a cluster: --on ray or --on HOST:PORT, not {a.on or HERE}")


def here(a: argparse.Namespace) -> bool:
    """Whether trainings run on this machine."""
    return a.on in (None, HERE)


def nodes_of(place: Place[Any] | None) -> list[Node] | None:
    """The nodes of a cluster that can be used now; None where they are not known, or this machine is the place."""
    return [one for one in place.nodes.values() if one.usable] if isinstance(place, Cluster) else None


def at_once(place: Place[Any] | None, parallel: int, workers: int) -> int:
    """How many of `parallel` trainings with so many workers may run at once: a node has a core for each worker."""
    return min(parallel, place.at_once(workers)) if isinstance(place, Cluster) else parallel


def pins_of(prepared: Prepared) -> Pins:
    """What decides the bits of a training besides its words."""
    chosen, need = prepared.compute, prepared.need
    packages = packages_of(prepared.spec) | providers(prepared.request.algo, prepared.cfg)
    return Pins(chosen.device, chosen.precision, chosen.workers, need.memory, float(need.disk), packages)


@contextlib.contextmanager
def opened(
    a: argparse.Namespace, root: Path, prepared: Callable[[Job], Prepared]
) -> Iterator[tuple[Place[Any] | None, Callable[[], int]]]:
    """The place, None for this machine, and how many trainings it takes at once. Raises UsageError where it cannot.

    Args:
        root: directory of the experiment.
        prepared: what a job is, as it was chosen for this machine.
    """
    if a.on in (None, HERE, SLURM):
        yield None, compute.cores
        return
    address = ray_link.asked(a.on)
    for line in ray_words.beginning(address):
        complain(line)
    with contextlib.closing(ray_link.RayLink(address)) as link:
        cluster = Cluster(link, root, lambda job: pins_of(prepared(job)), complain, a.store or STORES[0])
        try:
            cluster.open()
            yield cluster, cluster.slots
        finally:
            cluster.forget()
