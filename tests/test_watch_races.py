"""The live page while a person changes something in the middle of a step, and while clients leave in odd ways."""

from __future__ import annotations

import base64
import logging
import os
import socket
import struct
import time

import numpy as np
import pytest

from playfield.show.watch.game import OverridablePolicy, Session, Source
from playfield.show.watch.guard import _client_may_leave
from watch_fixtures import TOKEN, make_run, served, unpack


def test_the_highlight_is_switched_off_during_an_occlusion(tmp_path):
    session = Session(Source(str(make_run(tmp_path / "run", "breakout", (5,)))), 0)
    session.overlay = "value"
    explain = session.policy.policy.explain

    def switched_off(obs):
        session.overlay = "off"
        return explain(obs)

    session.advance()
    session.policy.policy.explain = switched_off
    header, _ = unpack(session.frame())
    assert session.overlay == "off"
    assert header["overlay"] == [84, 84]
    assert unpack(session.frame())[0]["overlay"] is None
    session.close()


def test_a_person_hands_back_while_an_action_is_chosen():
    policy = OverridablePolicy(Source("CartPole-v1", agent="random").policy("last"))
    policy.human = 1

    class Observations:
        def __len__(self):
            policy.human = None  # between the question whether a person plays and the use of their action
            return 2

    assert policy.choose(Observations()).tolist() == [1, 1]


@pytest.mark.parametrize("before", [True, False])
def test_a_game_with_a_step_of_a_person_is_flagged(before):
    session = Session(Source("CartPole-v1", agent="random"), 0)
    session.take_over(before)
    step = session.player.env.step

    def changed(actions):
        session.take_over(not before)
        return step(actions)

    session.player.env.step = changed
    session.advance()
    assert session.human_game
    session.close()


def test_a_send_to_a_client_that_left_is_no_error():
    with _client_may_leave():
        raise RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.")
    with _client_may_leave():
        raise ConnectionResetError
    with pytest.raises(RuntimeError, match="a bug"), _client_may_leave():
        raise RuntimeError("a bug")


def test_clients_that_vanish_or_send_odd_bytes_leave_no_traceback(caplog):
    caplog.set_level(logging.ERROR)
    with served(Source("CartPole-v1", agent="random")) as page:
        host = b"Host: 127.0.0.1:%d\r\n" % page.port
        upgrade = (
            host + b"Origin: http://127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" % page.port
            + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16))
            + b"\r\nSec-WebSocket-Protocol: playfield, token." + TOKEN.encode() + b"\r\n\r\n"
        )  # fmt: skip

        def connect(data):
            made = socket.create_connection(("127.0.0.1", page.port))
            made.settimeout(5)
            made.sendall(data)
            return made

        for target in (b"/\xff", b"/?\xff", b"/%ff", b"\xc3\xa9"):
            with connect(b"GET " + target + b" HTTP/1.1\r\n" + host + b"\r\n") as client:
                assert client.recv(12)[9:12] in (b"400", b"404")
        for wait in (0, 0.002, 0.01, 0.05):
            client = connect(b"GET /ws HTTP/1.1\r\n" + upgrade)
            time.sleep(wait)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no goodbye
            client.close()
        for bad in (b"\x81\x82\0\0\0\0\xff\xff", b"\xff\xff", b"\x88\x80abcd"):
            with connect(b"GET /ws HTTP/1.1\r\n" + upgrade) as client:
                assert client.recv(12)[9:12] == b"101"
                client.sendall(bad)
                while client.recv(65536):  # until the server closes
                    pass
        with connect(b"GET / HTTP/1.1\r\n" + host + b"\r\n") as client:
            assert client.recv(12)[9:12] == b"200"
    assert not caplog.records, caplog.text


def test_the_value_highlight_does_not_depend_on_the_session(tmp_path):
    session = Session(Source(str(make_run(tmp_path / "run", "breakout", (5,)))), 0)
    session.advance()
    maps = [session._overlay(session._now, which) for which in ("value", "policy")]
    assert not np.array_equal(*maps)
    session.close()
