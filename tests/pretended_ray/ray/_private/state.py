"""What is free on nodes."""

from __future__ import annotations

import json
import os


def available_resources_per_node():
    """The text of a file, where there is one."""
    try:
        with open(os.environ["PRETENDED_FREE"]) as file:
            return json.load(file)
    except KeyError:
        return {}
