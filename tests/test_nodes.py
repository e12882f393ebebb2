"""One training on several machines: the bits of one machine, and what happens when one of them is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from playfield.cli import main
from playfield.errors import DataError, EnvError, UsageError
from playfield.runs import catalog, checkpoint, machine, registered
from playfield.runs.line import Far
from playfield.runs.wire import to_json
from playfield.training import join, meeting, rendezvous
from playfield.training.meeting import Address
from playfield.training.prepare import PROCESS_BYTES
from playfield.training.processes import Pool
from playfield.training.rendezvous import Refused, Rendezvous, greet
from test_worker_processes import BATCH, CPU, PIXELS, SMALL, VECTOR, Q, children, result, spec_of, trained, until

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is shared as Linux has it"),
]
SLOW = 300.0  # seconds, on a machine that is busy with other things
SECRET = "correct horse battery staple"
LINES: list[Far] = []  # to be closed, also when a test fails: an open one fails a test of another file
ONE_EACH = [
    ("ppo", "CartPole-v1", SMALL, "fp32"),
    ("ppo", "breakout", PIXELS, "bf16"),
    ("a2c", "CartPole-v1", dataclasses.replace(VECTOR, num_envs=6), "fp32"),
    ("a2c", "CartPole-v1", BATCH, "fp32"),
    ("pqn", "CartPole-v1", dataclasses.replace(Q, optimizer="radam"), "fp32"),
]
ENVIRONMENT = {
    **os.environ,
    "PLAYFIELD_TOKEN": SECRET,
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def joined(port, **more):
    words = [sys.executable, "-m", "playfield", "train", "--join", f"127.0.0.1:{port}"]
    return subprocess.Popen(words, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **more)


@contextlib.contextmanager
def machines(count, workers=1):
    """A pool of so many machines, this one included; the others are processes of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYFIELD_TOKEN", SECRET)
        port = free_port()
        others = [joined(port) for _ in range(count - 1)]
        try:
            where = Address("127.0.0.1", port)
            pool = Pool(workers, Rendezvous(where, workers, count, CPU, lambda _: None).machines())
            try:
                yield pool, others
            finally:
                pool.close()
            for other in others:
                if other.poll() is None:
                    other.communicate(timeout=30)
        finally:
            for other in others:
                other.kill()
                other.communicate()


@pytest.fixture(scope="module")
def three():
    with machines(3) as (pool, _):
        yield pool


@pytest.mark.parametrize(("algo", "env", "cfg", "fmt"), ONE_EACH)
def test_machines_end_with_the_bits_of_one(three, algo, env, cfg, fmt):
    assert result(algo, env, cfg, fmt, pool=three) == result(algo, env, cfg, fmt)


@pytest.mark.slow
def test_machines_with_several_workers_each_too():
    cfg = dataclasses.replace(PIXELS, num_envs=4)
    with machines(2, workers=2) as (pool, others):
        until(lambda: len(children(others[0].pid)) == 1, SLOW)  # it starts once the machine is taken
        assert result("ppo", "breakout", cfg, "bf16", pool=pool, workers=4) == result(
            "ppo", "breakout", cfg, "bf16", workers=4
        )
        os.kill(int(children(others[0].pid)[0].name), signal.SIGKILL)
        why = r"^machine 2 \(.*\) lost a worker process, which was ended by SIGKILL \(the memory may have run out\)$"
        with pytest.raises(EnvError, match=why):
            pool.ready("ppo", spec_of("breakout"))
    assert others[0].returncode == 0


@pytest.mark.parametrize("first", ["one", "three"])
def test_a_run_goes_on_with_another_number_of_machines(tmp_path, three, first):
    pools = [None, three] if first == "one" else [three, None]
    whole = result("ppo", "CartPole-v1", SMALL, rounds=6)
    run = trained("ppo", "CartPole-v1", SMALL, rounds=6, pool=pools[0], directory=tmp_path, save_seconds=0.0)
    assert run.final_hash() == whole[0]
    run.close()
    middle = checkpoint.load(checkpoint.checkpoints(tmp_path / "checkpoints")[-2])
    assert 0 < middle.step < 6 * SMALL.batch
    for other in pools:
        assert result("ppo", "CartPole-v1", SMALL, rounds=6, pool=other, resume=middle)[:2] == whole[:2]


def test_a_training_on_machines_begins_from_given_weights(three):
    run = trained("ppo", "CartPole-v1", SMALL)
    run.close()
    weights = run.parts["learner"].state()["weights"]
    assert result("ppo", "CartPole-v1", SMALL, pool=three, begin=weights) == result(
        "ppo", "CartPole-v1", SMALL, begin=weights
    )


def test_what_an_environment_elsewhere_raises_has_the_same_words(three):
    cfg = dataclasses.replace(SMALL, num_envs=3)
    words = []
    for group in (None, three):
        with pytest.raises(EnvError) as raised:
            trained("ppo", "worker_envs:Raises-v0", cfg, pool=group)
        words.append(str(raised.value))
    assert words[0] == words[1]


def test_an_environment_that_another_machine_lacks_names_the_machine(three):
    name = socket.gethostname()
    spec = dataclasses.replace(spec_of("worker_envs:Warns-v0"), id="no_such_module:Env-v0")
    with pytest.raises(DataError, match=rf"on machine 2 \({name}\): .*no_such_module"):
        three.ready("ppo", spec)
    assert result("ppo", "CartPole-v1", SMALL, pool=three) == result("ppo", "CartPole-v1", SMALL)


@pytest.mark.parametrize(("module", "name"), [(registered, "packages_of"), (catalog, "providers")])
def test_a_machine_with_other_packages_is_named(three, monkeypatch, module, name):
    monkeypatch.setattr(module, name, lambda *_: {"mujoco": "0.1"})
    with pytest.raises(UsageError, match=r"on machine 2 \(.*\): it has other versions: mujoco .* instead of 0\.1"):
        three.ready("ppo", spec_of("CartPole-v1"), SMALL)


@pytest.mark.parametrize(
    ("signum", "why"),
    [(signal.SIGKILL, "is gone: its connection has ended"), (signal.SIGSTOP, "has not answered for")],
)
def test_a_machine_that_is_lost_is_an_error(monkeypatch, signum, why):
    monkeypatch.setattr(machine, "SILENCE", 2.5)
    with machines(2) as (pool, others):

        def lose(run):
            os.kill(others[0].pid, signum)

        with pytest.raises(EnvError, match=rf"machine 2 \(.*\) {why}"):
            trained("ppo", "CartPole-v1", SMALL, pool=pool, workers=2, on_rollout=lose)
        others[0].kill()


def begun(folder, port, *words):
    command = [sys.executable, "-m", "playfield", "train", *words, "--quiet", "--nodes", "2"]
    first = subprocess.Popen(
        [*command, "--rendezvous", f"127.0.0.1:{port}"],
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: answers(port) or first.poll() is not None, SLOW)  # one that joins waits for ten seconds only
    return first, joined(port)


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


def test_signals_and_lost_machines_leave_a_run_that_goes_on_to_the_same_hash(tmp_path):
    monitor, base = tmp_path / "a" / "monitor.csv", "--steps 4096 --games 0 --no-film --no-tensorboard"
    new = f"CartPole-v1 --run a --workers 2 --save-seconds 0 {base}".split()
    assert main([*f"train CartPole-v1 --workers 2 {base} --quiet --run".split(), str(tmp_path / "whole")]) == 0
    whole = json.loads((tmp_path / "whole" / "run.json").read_text())["result"]["hash"]

    first, second = begun(tmp_path, free_port(), *new)
    until(lambda: monitor.exists() and monitor.stat().st_size > 500, SLOW)
    second.send_signal(signal.SIGINT)
    told = [one.communicate(timeout=SLOW)[1] for one in (first, second)]
    assert (first.returncode, second.returncode) == (130, 130), told
    assert "was asked to stop by SIGINT" in told[0]
    assert "saved; go on with: playfield train --resume a --nodes 2 --rendezvous 127.0.0.1:" in told[0]
    assert "stopped by SIGINT; the first machine: stopped at step" in told[1]

    info = json.loads((tmp_path / "a" / "run.json").read_text())
    assert info.pop("nodes") == 2
    (tmp_path / "a" / "run.json").write_text(json.dumps(info))  # as if it had begun on one

    size = monitor.stat().st_size
    first, second = begun(tmp_path, free_port(), "--resume", "a")
    until(lambda: monitor.stat().st_size > size, SLOW)
    first.kill()
    told = [one.communicate(timeout=SLOW)[1] for one in (first, second)]
    assert second.returncode == 6, told
    assert told[1].count("\n") == 1
    assert "is gone: its connection has ended; when it goes on with --resume, let this one join again" in told[1]

    first, second = begun(tmp_path, free_port(), "--resume", "a")
    told = [one.communicate(timeout=SLOW)[1] for one in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), told
    info = json.loads((tmp_path / "a" / "run.json").read_text())
    assert (info["result"]["hash"], info["nodes"]) == (whole, 2)
    assert len(list((tmp_path / "a").glob("checkpoints/*"))) > 0


@contextlib.contextmanager
def waiting(monkeypatch, count=2, workers=1, chosen=CPU):
    """A rendezvous that waits for the rest of so many machines, its address, what it says, and what comes of it."""
    monkeypatch.setenv("PLAYFIELD_TOKEN", SECRET)
    said: list[str] = []
    where = Address("127.0.0.1", free_port())
    meets = Rendezvous(where, workers, count, chosen, said.append)
    found: list[object] = []

    def wait():
        try:
            found.extend(meets.machines())
        except UsageError as error:
            found.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield where, said, found
    finally:
        while LINES:
            LINES.pop().close()
        meeting.give_up("the test is over")
        thread.join(10.0)
        meeting.begin()
        assert not thread.is_alive()


def line_to(where):
    line = Far(socket.create_connection((where.host, where.port), timeout=5.0))
    LINES.append(line)
    line.timeout(5.0)
    return line


def test_a_stranger_cannot_join(monkeypatch):
    with waiting(monkeypatch) as (where, said, found):
        line = line_to(where)
        with pytest.raises(Refused, match="PLAYFIELD_TOKEN is another one there"):
            greet(line, b"a guess of a stranger", rendezvous.facts())
        with pytest.raises((EOFError, OSError)):
            line.receive()
        for garbage in (b"GET / HTTP/1.1\r\n\r\n" * 9, b"m" + b"\xff" * 40, to_json(["x"] * 50), b""):
            other = socket.create_connection((where.host, where.port), timeout=5.0)
            with other, contextlib.suppress(OSError):
                other.sendall(garbage)
                other.shutdown(socket.SHUT_WR)
                while other.recv(4096):
                    pass
        replayed = line_to(where)  # what another one has proved is no proof here
        first = replayed.receive()
        proof = rendezvous._proof(SECRET.encode(), "join", "0" * 64, "1" * 64, "{}")
        replayed.send({"nonce": "1" * 64, "hello": "{}", "proof": proof})
        assert len(first["nonce"]) == 64
        assert "refused" in replayed.receive()
        line.close()
        replayed.close()
        until(lambda: any("refused 127.0.0.1: it does not have the token" in text for text in said), 5.0)
        assert not found


def test_a_first_machine_without_the_token_is_not_trusted():
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = Far(socket.create_connection(server.getsockname()))
        impostor = Far(server.accept()[0])
    answer = {"playfield": rendezvous.WORD, "nonce": "0" * 64}
    impostor.send(answer)
    impostor.send({"proof": "0" * 64})
    with pytest.raises(Refused, match="it does not have the same PLAYFIELD_TOKEN"):
        greet(line, SECRET.encode(), {})
    line.close()
    impostor.close()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"versions": {"torch": "1.0"}}, "it has other versions: torch 1.0 instead of "),
        ({"versions": {"playfield": "0.0.1", "ale-py": "0.1"}}, "ale-py 0.1 instead of "),
        ({"memory": 10**6}, f"its workers need {PROCESS_BYTES / 1e6:.1f} MB of memory, and 1.0 MB are free there"),
    ],
)
def test_a_machine_that_cannot_take_part_is_told_why(monkeypatch, change, why):
    with waiting(monkeypatch) as (where, said, found):
        hello = rendezvous.facts()
        for name, value in change.items():
            hello[name] = {**hello[name], **value} if isinstance(value, dict) else value
        del hello["cores"]  # as an earlier version, which is to be told why
        line = line_to(where)
        greet(line, SECRET.encode(), hello)
        assert why in line.receive()["refused"]
        line.close()
        until(lambda: any(why in text for text in said), 5.0)
        assert not found


def test_another_processor_is_said(monkeypatch):
    with waiting(monkeypatch) as (where, said, _):
        hello = rendezvous.facts()
        hello["processor"] = {"model": "Z80", "features": "avx1024"}
        line = line_to(where)
        greet(line, SECRET.encode(), hello)
        assert line.receive()["machine"] == 2
        until(lambda: any("bits may differ" in text for text in said), 5.0)
        (note,) = [text for text in said if "bits may differ" in text]
        assert "has another processor, Z80 instead of" in note
        assert "avx1024" in note
        line.close()
        until(lambda: any("is gone" in text and "waiting for another" in text for text in said), 5.0)


MISTAKES = [
    ("CartPole-v1 --nodes 2", "--nodes 2 needs --rendezvous HOST:PORT"),
    ("CartPole-v1 --rendezvous h:1", "--rendezvous is for several machines: say how many with --nodes"),
    ("CartPole-v1 --nodes 2 --rendezvous h:99999", "--rendezvous h:99999: an address is written as HOST:PORT"),
    ("CartPole-v1 --nodes 0", "--nodes must be between 1 and 256"),
    (
        "CartPole-v1 --algo dqn --nodes 2 --rendezvous :29500",
        "--nodes 2: dqn trains on one machine; only PPO, A2C and PQN train on several",
    ),
    ("CartPole-v1 --nodes 2 --rendezvous :29500 --workers 1", "--nodes 2 must divide the number of workers (1)"),
    ("CartPole-v1 --nodes 3 --rendezvous :29500", "must divide the number of environments"),
    ("CartPole-v1 --nodes 2 --rendezvous :29500 --workers-as threads", "workers of 2 machines are processes"),
    ("CartPole-v1 --nodes 2 --rendezvous 192.0.2.1:29500", "listen there: Cannot assign requested address\n"),
    ("CartPole-v1 --join h:1", "give --join alone"),
    ("--join h:1 --seed 3", "--seed: the first machine says what is trained: give --join alone"),
    ("--join nothing-like-a-host::7", "an address is written as HOST:PORT"),
    ("--join no-such-host.invalid:7", "no training answers there"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_one_line(words, message, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAYFIELD_TOKEN", SECRET)
    assert main(["train", *words.split()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["CartPole-v1 --nodes 2 --rendezvous :29500", "--join 127.0.0.1:29500"])
def test_a_token_is_asked_for(words, monkeypatch, tmp_path, capsys):
    for name, value, message in (
        ("PLAYFIELD_TOKEN", "", "export PLAYFIELD_TOKEN=$(openssl rand -hex 32)"),
        ("PLAYFIELD_TOKEN", "short", "PLAYFIELD_TOKEN is too short for a secret"),
        ("PLAYFIELD_TOKEN_FILE", str(tmp_path / "none"), "cannot be read: No such file"),
    ):
        monkeypatch.delenv("PLAYFIELD_TOKEN", raising=False)
        monkeypatch.setenv(name, value)
        assert main(["train", *words.split()]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "token").write_text(f"{SECRET}\n")
    monkeypatch.setenv("PLAYFIELD_TOKEN_FILE", str(tmp_path / "token"))
    assert meeting.token() == SECRET.encode()


def test_an_address_that_does_not_answer_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("PLAYFIELD_TOKEN", SECRET)
    for module in (join, meeting):
        monkeypatch.setattr(module, "ANSWER", 0.5)
    port = free_port()
    begin = time.monotonic()
    assert main(["train", "--join", f"127.0.0.1:{port}"]) == 2
    assert time.monotonic() - begin < 5.0
    said = capsys.readouterr().err
    assert f"--join 127.0.0.1:{port}: no training answers there: Connection refused" in said
    assert said.count("\n") == 1
    with socket.create_server(("127.0.0.1", port)):  # something listens and says nothing
        assert main(["train", "--join", f"127.0.0.1:{port}"]) == 2
    assert "does not do so as a training in" in capsys.readouterr().err
