"""Messages between processes and between machines; those between machines hold nothing that could run code."""

from __future__ import annotations

import contextlib
import os
import random
import socket

import numpy as np
import pytest
import torch

from playfield.envs.base import Episode
from playfield.runs.line import Far
from playfield.runs.wire import from_bytes, from_json, to_bytes, to_json


@pytest.mark.parametrize(("pack", "unpack"), [(to_json, from_json), (to_bytes, from_bytes)])
def test_messages_keep_values_types_and_bits(pack, unpack):
    sent = {
        "a": [1, 2.5, None, True, "x", (b"y", -1), 2**100, float("-inf")],
        "number": np.float32(0.1),
        "array": np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::2],
        "tensor": torch.arange(6.0).to(torch.bfloat16).view(3, 2).t(),
        "empty": torch.zeros(0, 4),
        "episode": Episode(2, np.float64(1.5), 9, True),
        7: np.zeros((), bool),
    }
    got = unpack(pack(sent))
    assert list(got) == list(sent)
    assert got["a"] == sent["a"]
    assert got["episode"] == sent["episode"]
    for key in ("number", "array", 7):
        assert type(got[key]) is type(sent[key])
        assert got[key].dtype == sent[key].dtype
        assert np.array_equal(got[key], sent[key])
    for key in ("tensor", "empty"):
        assert got[key].dtype == sent[key].dtype
        assert torch.equal(got[key], sent[key])
    with pytest.raises(TypeError, match="object"):
        pack([object()])


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system has no such settings")
def test_an_idle_line_is_kept_alive():
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = Far(socket.create_connection(server.getsockname()))
        with socket.socket(fileno=os.dup(line.fileno())) as raw:
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        line.close()


def test_bytes_that_are_no_message_are_refused():
    whole, draw = (
        to_json({"a": np.arange(5), "t": torch.ones(2, 2), "e": (Episode(0, 1.0, 2, True),)}),
        random.Random(1),
    )
    for data in (b"", b"\0" * 8, whole[:-1], whole + b"x", to_json([1])[:8] + b'{"numpy":["O",[1]]}'):
        with pytest.raises(ValueError, match="no message"):
            from_json(data)
    for _ in range(2000):
        changed = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(8, len(changed))] = draw.randrange(256)
        with contextlib.suppress(ValueError):
            from_json(changed)
