"""A line from the process that leads a training to another worker's: a pipe on one machine, TCP between machines.

Messages are plain values, arrays and tensors, see `wire`. Over TCP, gradients and weights go beside them as raw
bytes, from the memory of one machine into that of the other.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from playfield.runs.wire import Message, from_bytes, from_json, to_bytes, to_json

_HEADER = struct.Struct(">cQ")  # what follows, and its bytes
_MESSAGE, _BULK = b"m", b"b"
_JOINED = 2**16  # bytes up to which a message goes with its header
MOST = 2**36  # bytes of a message
_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}  # seconds, seconds, and signs without an answer


class Line(Protocol):
    """One end of a line."""

    def send(self, message: Any) -> None:
        """Send a message. OSError where the other end is gone; TypeError and ValueError: it cannot be sent."""

    def receive(self) -> Any:
        """The next message. EOFError or OSError where the other end is gone."""

    def poll(self, seconds: float) -> bool:
        """Whether there is something to receive within that time."""

    def close(self) -> None:
        """Nothing is sent any more."""


class Near:
    """A line to a process of this machine."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: Any) -> None:
        """See `Line`."""
        self._connection.send_bytes(message.near if isinstance(message, Message) else to_bytes(message))

    def receive(self) -> Any:
        """See `Line`."""
        return from_bytes(self._connection.recv_bytes())

    def poll(self, seconds: float) -> bool:
        """See `Line`."""
        return self._connection.poll(seconds)

    def close(self) -> None:
        """See `Line`."""
        self._connection.close()


class Far:
    """A line to another machine.

    Attributes:
        sent, received: bytes so far.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # messages are small and waited for
        # A line may be idle for as long as the first machine evaluates: what lies between must not forget it, and
        # where it did, whoever waits is to hear of that.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _ALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._buffers: list[memoryview] = []
        self.sent = self.received = 0

    def fileno(self) -> int:
        """The number of the socket."""
        return self._socket.fileno()

    def timeout(self, seconds: float | None) -> None:
        """From now on a call raises TimeoutError after so many seconds; None: it waits."""
        self._socket.settimeout(seconds)

    def send(self, message: Any) -> None:
        """See `Line`."""
        data = message.far if isinstance(message, Message) else to_json(message)
        header = _HEADER.pack(_MESSAGE, len(data))
        if len(data) <= _JOINED:
            self._socket.sendall(header + data)
        else:
            self._socket.sendall(header)
            self._socket.sendall(data)
        self.sent += len(header) + len(data)

    def send_bulk(self, buffers: Sequence[memoryview]) -> None:
        """Send bytes that the other end expects."""
        size = sum(buffer.nbytes for buffer in buffers)
        self._socket.sendall(_HEADER.pack(_BULK, size))
        for buffer in buffers:
            self._socket.sendall(buffer)
        self.sent += _HEADER.size + size

    def expect(self, buffers: Sequence[memoryview]) -> None:
        """Where bytes of `send_bulk` go, whenever some come before a message."""
        self._buffers = list(buffers)

    def receive(self, most: int = MOST) -> Any:
        """See `Line`. ValueError for what is no message, or one of more than `most` bytes."""
        while True:
            header = bytearray(_HEADER.size)
            self._fill(memoryview(header))
            kind, size = _HEADER.unpack(header)
            self.received += _HEADER.size + size
            if kind == _BULK and size == sum(buffer.nbytes for buffer in self._buffers):
                for buffer in self._buffers:
                    self._fill(buffer)
                continue
            if kind != _MESSAGE or size > most:
                raise ValueError("what came over the network is no message of playfield")
            data = bytearray(size)
            self._fill(memoryview(data))
            return from_json(data)

    def _fill(self, buffer: memoryview) -> None:
        while buffer.nbytes:
            count = self._socket.recv_into(buffer)
            if not count:
                raise EOFError
            buffer = buffer[count:]

    def poll(self, seconds: float) -> bool:
        """See `Line`."""
        return bool(wait([self._socket], seconds))

    def cut(self) -> None:
        """End the connection, also for a thread that waits at this end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """Leave the connection to another process that has it too."""
        self._socket.close()

    def close(self) -> None:
        """See `Line`."""
        self.cut()
        self._socket.close()
