"""A run directory with an untrained agent, and the live page served from a thread."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import struct
import threading
import time
from pathlib import Path

import torch
import uvicorn

from playfield.algos._actor_critic import ActorCritic
from playfield.envs import make_envs
from playfield.runs import checkpoint
from playfield.show.watch.game import Source
from playfield.show.watch.guard import hosts_for
from playfield.show.watch.server import Hub, configure, listen

TOKEN = "a-test-token"


def weights_of(spec, net: str, seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = ActorCritic(spec, net, shared=len(spec.obs_shape) == 3)
        torch.nn.init.normal_(made.policy.weight, std=0.5)  # an untrained policy is almost uniform
    return {k: v.detach() for k, v in made.named_parameters()}


def make_run(run: Path, env: str = "CartPole-v1", steps: tuple[int, ...] = (100, 200)) -> Path:
    """A run with a checkpoint at each of `steps` and a short monitor.csv."""
    envs = make_envs(env, 1)
    spec = envs.spec
    envs.close()
    net = "nips" if spec.pixels else "mlp"
    run.mkdir(parents=True)
    info = {"env": spec.id, "algo": "ppo", "config": {"net": net}, "protocol": spec.protocol, "seed": 1, "steps": 999}
    (run / "run.json").write_text(json.dumps(info | {"spec": dataclasses.asdict(spec)}))
    rows = "".join(f"{i % 9}.0,5,{i}.0,{5 * i}\n" for i in range(1, 60))
    (run / "monitor.csv").write_text(f'#{{"t_start": 0, "env_id": "x"}}\nr,l,t,step\n{rows}')
    for step in steps:
        add_checkpoint(run, spec, net, step)
    return run


def make_folder(root: Path, env: str = "CartPole-v1", algos=("ppo", "a2c"), seeds=(1, 2, 3)):
    """Runs of each algorithm and seed; the scores of a game are 10 x seed + 0, 1, 2, ..."""
    first = make_run(root / env / algos[0] / "1", env)
    for algo in algos:
        for seed in seeds:
            run = root / env / algo / str(seed)
            if run != first:
                shutil.copytree(first, run)
            info = json.loads((run / "run.json").read_text()) | {"algo": algo, "seed": seed}
            (run / "run.json").write_text(json.dumps(info))
            rows = "".join(f"{10 * seed + i}.0,5,{i}.0,{50 * i}\n" for i in range(1, 20))
            (run / "monitor.csv").write_text(f'#{{"t_start": 0, "env_id": "x"}}\nr,l,t,step\n{rows}')
    return root


def add_checkpoint(run: Path, spec, net: str, step: int) -> None:
    tree = {"parts": {"learner": {"weights": weights_of(spec, net, step)}}}
    path = checkpoint.save(run / "checkpoints", step, tree, {}, keep=9)
    checkpoint.mark_best(run / "checkpoints", path, float(step), {})


@dataclasses.dataclass
class Served:
    hub: Hub
    port: int

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/#t={TOKEN}"


@contextlib.contextmanager
def served(source: Source, seed: int = 0):
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    hub = Hub(source, seed, hosts_for("127.0.0.1", port), TOKEN)
    server = uvicorn.Server(configure(hub))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        for _ in range(500):
            if server.started:
                break
            time.sleep(0.01)
        yield Served(hub, port)
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        assert not thread.is_alive()


def unpack(data: bytes) -> tuple[dict, bytes]:
    (size,) = struct.unpack_from("<I", data)
    return json.loads(data[4 : 4 + size]), data[4 + size :]
