"""The live page through a real server: frames, commands, malformed messages, following a run, and Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import websockets

from playfield.errors import UsageError
from playfield.show.watch import server as server_module
from playfield.show.watch.game import Session, Source, action_for, pack
from playfield.show.watch.server import listen
from watch_fixtures import TOKEN, add_checkpoint, make_run, served, unpack


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "cartpole")


@pytest.fixture(scope="module")
def page(run):
    with served(Source(str(run))) as found:
        yield found


def talk(page, conversation):
    """Run `conversation(socket)` on a connection of its own."""

    async def go():
        async with websockets.connect(
            f"ws://127.0.0.1:{page.port}/ws",
            origin=page.origin,
            subprotocols=["playfield", f"token.{TOKEN}"],
            max_size=None,
        ) as socket:
            return await asyncio.wait_for(conversation(socket), 20)

    return asyncio.run(go())


async def say(socket, **message):
    await socket.send(json.dumps(message))


async def frames(socket, count, until=None):
    """Receive, acknowledging, until `count` frames came or `until(header)` holds."""
    found = []
    while len(found) < count:
        header, body = unpack(await socket.recv())
        if header["kind"] == "frame":
            found.append((header, body))
            await say(socket, command="ack")
            if until and until(header):
                break
    return found


async def closing_code(socket):
    """Receive until the server closes the connection; with which code."""
    try:
        while True:
            await socket.recv()
    except websockets.ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


@pytest.mark.parametrize("env", ["CartPole-v1", "breakout"])
def test_a_random_agent_is_seen_playing(env):
    async def conversation(socket):
        hello, _ = unpack(await socket.recv())
        await say(socket, command="speed", speed=0)
        return hello, await frames(socket, 6)

    with served(Source(env, agent="random")) as page:
        hello, seen = talk(page, conversation)
    assert hello["env"] == env
    assert hello["protocol"]
    moments = [(header["game"], header["step"]) for header, _ in seen]  # a random player's game is soon over
    assert len(set(moments)) == 6
    for header, body in seen:
        height, width = header["frame"]
        stack = header["stack"]
        assert len(body) == height * width * 3 + (np.prod(stack) if stack else 0)
        assert np.frombuffer(body[: height * width * 3], np.uint8).max() > 0
        assert np.allclose(header["probs"], 1 / len(hello["actions"]), atol=1e-4)
    if env == "breakout":
        assert seen[0][0]["lives"] == 5
        assert seen[0][0]["aspect"] == pytest.approx(160 / 210 * 12 / 7, abs=1e-4)
        assert seen[0][0]["stack"] == [84, 84, 4]


def test_the_frames_are_those_of_the_policy(run, page):
    """The same probabilities and values as the policy gives for the observations that were sent."""

    async def conversation(socket):
        return await frames(socket, 4)

    policy = Source(str(run)).policy("last")
    for header, _ in talk(page, conversation):
        thoughts = policy.explain(np.array([header["obs"]], np.float32))
        assert np.allclose(thoughts["probs"][0], header["probs"], atol=2e-3)
        assert thoughts["value"][0] == pytest.approx(header["value"], abs=2e-3)


def test_only_the_latest_frame_is_sent_and_only_when_asked(page):
    async def conversation(socket):
        await say(socket, command="speed", speed=0)
        while True:
            header, _ = unpack(await socket.recv())
            if header["kind"] == "frame":
                break
        await asyncio.sleep(0.5)
        got = []
        with contextlib.suppress(TimeoutError):
            while len(got) < 9:
                got.append(unpack(await asyncio.wait_for(socket.recv(), 0.3))[0]["kind"])
        assert set(got) <= {"run"}
        await say(socket, command="ack")
        return (await frames(socket, 1))[0][0]

    second = talk(page, conversation)
    assert len(second["trail"]) > 3  # the steps between are told, their pictures are not
    assert second["trail"][-1][0] == second["step"]


def test_pause_step_and_restart(page):
    async def conversation(socket):
        await say(socket, command="pause")
        await asyncio.sleep(0.2)
        at = (await frames(socket, 1))[-1][0]
        await asyncio.sleep(0.2)
        await say(socket, command="step")
        stepped = (await frames(socket, 1))[-1][0]
        await say(socket, command="restart")
        fresh = (await frames(socket, 5, lambda h: h["seed"] != at["seed"]))[-1][0]
        return at, stepped, fresh

    at, stepped, fresh = talk(page, conversation)
    assert (stepped["game"], stepped["step"]) >= (at["game"], at["step"])
    assert stepped["step"] - at["step"] <= 2
    assert fresh["step"] == fresh["game"] == 0


def test_a_person_takes_over_and_is_flagged(page):
    async def conversation(socket):
        before = (await frames(socket, 1))[0][0]
        await say(socket, command="human", on=True)
        await say(socket, command="keys", keys=["right", "nonsense", 7, None])
        seen = await frames(socket, 40, lambda h: h["human"] and h["over"])
        return before, [h for h, _ in seen if h["human"]]

    before, seen = talk(page, conversation)
    assert not before["human"]
    assert not before["human_game"]
    assert {h["action"] for h in seen[2:]} == {1}
    assert all(h["human_game"] for h in seen[2:])
    assert seen[-1]["over"]  # always to the right: the pole falls within 40 steps
    assert seen[-1]["scores"][-1][1] == 1


def test_the_picker_offers_what_is_kept_and_follows_training(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "POLL_PERIOD", 0.2)
    run = make_run(tmp_path / "run")
    source = Source(str(run))
    assert source.choices() == ["follow", "best", "200", "100"]

    async def conversation(socket):
        first = (await frames(socket, 1))[0][0]
        add_checkpoint(run, source.spec, "mlp", 300)
        newer = (await frames(socket, 400, lambda h: "step 300" in h["label"]))[-1][0]
        await say(socket, command="checkpoint", choice="100")
        older = (await frames(socket, 400, lambda h: "step 100" in h["label"]))[-1][0]
        for wrong in ("../../etc", "999", "/etc/passwd", "ckpt-000000000100", "", "last\0"):
            await say(socket, command="checkpoint", choice=wrong)
        return first, newer, older, (await frames(socket, 3))[-1][0]

    with served(source) as page:
        first, newer, older, still = talk(page, conversation)
    assert "step 200" in first["label"]
    assert "step 300" in newer["label"]
    assert older["choice"] == still["choice"] == "100"


def test_watching_changes_nothing_in_the_run(run, page):
    def digest():
        return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(run.rglob("*")) if p.is_file()}

    async def conversation(socket):
        await say(socket, command="checkpoint", choice="best")
        await frames(socket, 5)
        while True:
            header, _ = unpack(await socket.recv())
            if header["kind"] == "run":
                return header
            if header["kind"] == "frame":
                await say(socket, command="ack")

    before = digest()
    news = talk(page, conversation)
    assert news["curve"]["games"] == 59
    assert news["curve"]["points"][-1] == [295, pytest.approx(np.mean([i % 9 for i in range(1, 60)]), abs=1e-3)]
    assert digest() == before


def test_a_link_out_of_the_run_is_not_read(tmp_path):
    from playfield.show.watch.rundata import Curve

    run = make_run(tmp_path / "run")
    assert Curve(run).look()
    real = (run / "monitor.csv").rename(tmp_path / "elsewhere.monitor.csv")
    (run / "monitor.csv").symlink_to(real)
    assert Curve(run).look() is None


BAD = [
    ("not json", 1007), ("", 1007), ("[" * 50_000, 1007), ('{"command":', 1007), ("[]", 1008), ("3", 1008),
    ('{"command": 3}', 1008), ('{"command": "delete"}', 1008), ('{"command": "__class__"}', 1008), ('{"a": 1}', 1008),
    (b"\x00\x01", 1003), ("x" * 70_000, 1009),
]  # fmt: skip


@pytest.mark.parametrize(("message", "code"), BAD, ids=range(len(BAD)))
def test_malformed_messages_end_that_connection_only(page, message, code):
    async def conversation(socket):
        await socket.send(message)
        return await closing_code(socket)

    assert talk(page, conversation) == code
    assert talk(page, lambda socket: frames(socket, 1))


ODD = [
    {"command": "speed", "speed": 1e400}, {"command": "speed", "speed": -1}, {"command": "speed", "speed": "fast"},
    {"command": "speed"}, {"command": "overlay", "overlay": "__init__"}, {"command": "overlay", "overlay": ["value"]},
    {"command": "checkpoint", "choice": 7}, {"command": "human", "on": "yes"}, {"command": "keys", "keys": {"a": 1}},
    {"command": "keys", "keys": ["left"] * 1000}, {"command": "ack", "extra": "x" * 1000},
]  # fmt: skip


@pytest.mark.parametrize("message", ODD, ids=range(len(ODD)))
def test_values_out_of_range_are_ignored(page, message):
    async def conversation(socket):
        await frames(socket, 1)
        await socket.send(json.dumps(message))
        return await frames(socket, 2)

    assert len(talk(page, conversation)) == 2


def test_a_flood_of_messages_is_cut_off(page):
    async def conversation(socket):
        with contextlib.suppress(websockets.ConnectionClosed):
            for _ in range(5000):
                await say(socket, command="ack")
        return await closing_code(socket)

    assert talk(page, conversation) == 1008


def test_a_silent_client_is_dropped(page, monkeypatch):
    monkeypatch.setattr(server_module, "ACK_TIMEOUT", 0.4)

    async def conversation(socket):
        return await closing_code(socket)  # never an ack

    assert talk(page, conversation) == 1008


def test_too_many_tabs_get_a_clear_message(page, monkeypatch):
    for _ in range(100):  # the tabs of other tests are still closing
        if page.hub.clients == 0:
            break
        time.sleep(0.05)
    monkeypatch.setattr(server_module, "CLIENTS", 0)

    async def conversation(socket):
        return unpack(await socket.recv())[0]

    assert "close one" in talk(page, conversation)["text"]


def test_overlay_of_a_pixel_agent(tmp_path):
    session = Session(Source(str(make_run(tmp_path / "run", "breakout", (5,)))), 0)
    session.overlay = "value"
    header, body = unpack(session.frame())
    assert header["overlay"] == [84, 84]
    heat = np.frombuffer(body[-84 * 84 :], np.uint8)
    assert heat.max() == 255
    assert len(body) == 210 * 160 * 3 + 84 * 84 * 5
    session.close()


ATARI = ("NOOP", "FIRE", "UP", "RIGHT", "LEFT", "UPRIGHT", "UPRIGHTFIRE")


@pytest.mark.parametrize(
    ("names", "keys", "action"),
    [
        (ATARI, [], "NOOP"), (ATARI, ["fire"], "FIRE"), (ATARI, ["up", "right"], "UPRIGHT"),
        (ATARI, ["up", "right", "fire"], "UPRIGHTFIRE"), (ATARI, ["left", "fire"], "FIRE"), (ATARI, ["down"], "NOOP"),
        (ATARI, ["left", "right"], "NOOP"), (ATARI, ["left", "right", "up"], "UP"),
        (("left", "right"), ["right"], "right"), (("left", "coast", "right"), [], "coast"),
        (("torque -1", "torque 0", "torque +1"), ["left"], "torque -1"),
        (("torque -1", "torque 0", "torque +1"), ["right"], "torque +1"),
    ],
)  # fmt: skip
def test_keys_are_the_nearest_action(names, keys, action):
    assert names[action_for(names, keys)] == action


def test_messages_never_hold_nan():
    with pytest.raises(ValueError):
        pack({"value": float("nan")})


def test_a_busy_port_names_a_free_one():
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(UsageError, match=r"--port \d+ is free"):
        listen("127.0.0.1", port)
    taken.close()


def test_ctrl_c_ends_it_without_a_traceback():
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from playfield.show.watch.server import watch\n"
        "try:\n    watch('CartPole-v1', agent='random', open_browser=False)\n"
        "except KeyboardInterrupt:\n    raise SystemExit(130)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[1].startswith("http://127.0.0.1:")
    assert "/#t=" in lines[1]
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "Traceback" not in err
