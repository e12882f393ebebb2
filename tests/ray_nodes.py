"""`ray_nodes.py NODES [CORES]`: a Ray cluster on this machine, a head without cores and nodes of CORES (one) each.

It prints a line of JSON with its address and the ids of its nodes. A line `lose ID` on standard input removes a node
without grace; at the end of standard input all of it ends.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what Ray prints goes to standard error

os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # on a busy machine nodes start slowly

from ray.cluster_utils import Cluster  # noqa: E402

SMALL: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 80 * 2**20}


def say(what: Any) -> None:
    out.write(json.dumps(what) + "\n")
    out.flush()


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **SMALL})
cores = int(sys.argv[2]) if len(sys.argv) > 2 else 1
nodes = {node.node_id: node for node in (cluster.add_node(num_cpus=cores, **SMALL) for _ in range(int(sys.argv[1])))}
say({"address": cluster.address, "nodes": list(nodes)})
for line in sys.stdin:
    cluster.remove_node(nodes.pop(line.split()[1]), allow_graceful=False)
    say("lost")
cluster.shutdown()
