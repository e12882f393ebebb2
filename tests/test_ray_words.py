"""What is said of Ray clusters: one that runs here, and why one cannot be joined. Ray is pretended."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from playfield.cli import main
from playfield.errors import UsageError
from playfield.experiments import ray_link, ray_words
from playfield.experiments.ray_link import RayLink

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_TMPDIR")
NO_TOKEN = "Token authentication is enabled but no authentication token was found. Ensure that"


@pytest.fixture(autouse=True)
def _pretended(monkeypatch, tmp_path):
    folders = [str(Path(__file__).with_name("pretended_ray")), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def listening():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one


@pytest.fixture
def port(listening):
    return f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_cluster_that_runs_here_is_named_before_another_is_started(
    variable, listening, port, tmp_path, monkeypatch
):
    (tmp_path / "ray").mkdir()
    monkeypatch.setenv(variable, str(tmp_path))
    starting = ["starting Ray here ..."]
    assert ray_words.beginning("local") == starting
    (tmp_path / "ray" / "ray_current_cluster").write_text(port + "\n")
    assert ray_words.beginning(port) == [f"joining {port} ..."]
    told = [f"note: a Ray cluster runs on this machine already, and is not used: --on {port} uses it"]
    assert ray_words.beginning("local") == [*told, *starting]
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert ray_words.beginning("local") == starting, "it says that none is to be joined"
    monkeypatch.delenv("RAY_ADDRESS")
    listening.close()
    assert ray_words.beginning("local") == starting, "it has ended"
    (tmp_path / "ray" / "ray_current_cluster").write_bytes(b"\xff nonsense")
    assert ray_words.beginning("local") == starting


@pytest.mark.parametrize(
    "words",
    ["compare CartPole-v1 --algo random --steps 10", "train CartPole-v1 --steps 10 --workers 2 --nodes 2"],
)
def test_both_commands_name_it(words, port, tmp_path, monkeypatch, capsys):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(port)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("PLAYFIELD_TOKEN", "PLAYFIELD_TOKEN_FILE"):
        monkeypatch.setenv(name, "")  # what the command sets is taken back
    monkeypatch.setattr(ray_link, "require_ray", lambda: None)

    def cannot(address):
        raise UsageError(f"{address} is not tried here")

    monkeypatch.setattr(ray_link, "RayLink", cannot)
    assert main([*words.split(), "--on", "ray"]) == 2
    note, starting, *_ = capsys.readouterr().err.splitlines()
    assert note.endswith(f"--on {port} uses it")
    assert starting == "starting Ray here ..."


def why(address, monkeypatch, trouble):
    monkeypatch.setenv("PRETENDED_RAY", trouble)
    with pytest.raises(UsageError) as told:
        RayLink(address)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_what_is_wrong_with_a_token_is_said(port, tmp_path, monkeypatch):
    own, wants = tmp_path / ".ray" / "auth_token", f"{port} cannot be joined: it wants a token: set RAY_AUTH_MODE"
    assert why(port, monkeypatch, "InvalidAuthToken").startswith(wants)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert why(port, monkeypatch, NO_TOKEN) == (
        f"{port} cannot be joined: RAY_AUTH_MODE is token, and there is no token in {own}: copy that of the cluster "
        "there"
    )
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/t")
    named = "there is no token in /nowhere/t, which RAY_AUTH_TOKEN_PATH names"
    assert named in why(port, monkeypatch, "RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty")
    (tmp_path / "t").write_text("x" * 40)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "t"))
    assert why(port, monkeypatch, "InvalidAuthToken").endswith(f"it has another token than {tmp_path / 't'}")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 40)
    assert why(port, monkeypatch, "InvalidAuthToken").endswith("it has another token than RAY_AUTH_TOKEN")
    monkeypatch.setattr(ray_link, "ANSWER", 0.5)
    silent = why(port, monkeypatch, "hangs")
    assert silent.endswith("as a Ray cluster does in 0 s, or it has another token than RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert why(port, monkeypatch, "hangs").endswith("if it wants a token, " + wants.split(": ")[-1] + (
        "=token and RAY_AUTH_TOKEN_PATH as it has them"
    ))  # fmt: skip


def test_a_port_of_the_other_kind_is_said(port, monkeypatch):
    hint = ". ray:// wants the port of Ray's client, by default ray://127.0.0.1:10001"
    assert why(f"ray://{port}", monkeypatch, "ray client connection timeout").endswith(f"connection timeout{hint}")
    monkeypatch.setattr(ray_link, "CLIENT", 0.5)
    assert why(f"ray://{port}", monkeypatch, "hangs").endswith(hint)
    assert ray_words.port_of("a:10001") == ". Port 10001 is that of Ray's client: --on ray://a:10001"
    assert [ray_words.port_of(one) for one in ("a:6379", "ray://a:10001", "auto", "local")] == [""] * 4


def test_a_client_that_is_not_answered_may_lack_the_token(tmp_path, monkeypatch):
    assert ray_words.hint("ray://a:10001").startswith("; if it wants a token, set RAY_AUTH_MODE=token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 40)
    assert ray_words.hint("ray://a:10001") == ", or it has another token than RAY_AUTH_TOKEN"
    assert ray_words.hint("ray://a:6379") == ray_words.port_of("ray://a:6379")


def test_a_cluster_of_this_machine_that_has_ended_is_said(port, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(ray_link, "ANSWER", 0.5)
    assert "; no Ray cluster seems to run on this machine any more" in why("auto", monkeypatch, "hangs")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(port)
    assert "; if it wants a token" in why("auto", monkeypatch, "hangs")


def test_without_a_cluster_on_this_machine_no_option_of_ray_is_named(monkeypatch):
    none = "Could not find any running Ray instance. Please specify the one to connect to by setting `--address` flag"
    assert why("auto", monkeypatch, none).endswith(
        "no Ray cluster runs on this machine: give the address of one (--on HOST:PORT), or start it (ray start)"
    )
    two = "Found multiple active Ray instances: {'10.0.0.1:6379', '10.0.0.1:6380'}. Please specify `--address`"
    assert why("auto", monkeypatch, two).endswith(
        "several Ray clusters run on this machine: choose one of 10.0.0.1:6379, 10.0.0.1:6380 (--on HOST:PORT)"
    )
