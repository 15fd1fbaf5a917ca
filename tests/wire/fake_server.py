"""A server on loopback that answers as a provider would, byte for byte in its own protocol, and counts what it bills.

The real SDK is in front of it. A test gives *answer*, a function from what was asked (and the how-many-th time) to a
step; ``dialects`` says how each step looks on the wire.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol


@dataclass(frozen=True)
class Asked:
    """One request. *prompt* is all of its text, *turns* how many messages follow the prompt."""

    model: str
    prompt: str
    turns: int
    max_tokens: int | None
    schema: bool
    stream: bool
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True)
class Say:
    """An answer. *finish* is ``stop``, ``length``, ``filter`` or ``refusal``."""

    text: str
    input_tokens: int = 1000
    output_tokens: int = 100
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    finish: str = "stop"
    thoughts: str = ""
    usage: bool = True  # False: the server says nothing of it (it is billed all the same)


@dataclass(frozen=True)
class Status:
    """An HTTP error."""

    status: int
    message: str = "no"
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reset:
    """The connection is reset after the first pieces of *say*; the provider bills it all the same."""

    say: Say
    pieces: int = 2


@dataclass(frozen=True)
class Slow:
    """No byte for *seconds*, then *say*."""

    seconds: float
    say: Say


@dataclass(frozen=True)
class Garbled:
    """A stream that begins well and then holds something that is no JSON."""

    say: Say


@dataclass(frozen=True)
class Broken:
    """An error told in the middle of a stream that began with 200."""

    say: Say
    code: str = "overloaded_error"
    message: str = "Overloaded"


Step = Say | Status | Reset | Slow | Garbled | Broken


class Dialect(Protocol):
    name: str

    def asked(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Asked: ...

    def error(self, step: Status) -> dict[str, Any]: ...

    def events(self, asked: Asked, say: Say) -> Iterator[bytes]:
        """The stream of an answer, a piece at a time."""

    def whole(self, asked: Asked, say: Say) -> dict[str, Any]:
        """The answer of a call that asked for no stream."""

    def broken(self, step: Broken) -> bytes: ...

    def garbled(self) -> bytes: ...


@dataclass(frozen=True)
class Bill:
    """What the provider charges for one call."""

    model: str
    say: Say
    reset: bool = False


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that is killed leaves its connections half-way: that is what some tests are about."""


class FakeServer:
    """Start it with ``serving``. *received* are the requests, *billed* those that a provider would charge."""

    def __init__(self, dialect: Dialect, answer: Callable[[Asked, int], Step]) -> None:
        self.dialect = dialect
        self.answer = answer
        self.received: list[Asked] = []
        self.billed: list[Bill] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.on_billed: Callable[[Bill], None] = lambda bill: None
        self._http = _Quiet(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                data = self.rfile.read(length)
                if len(data) < length:
                    return  # whoever asked died before it had asked
                body = json.loads(data)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = server.dialect.asked(self.path, body, headers)
                with server.lock:
                    server.received.append(asked)
                    number = len(server.received)
                    server.at_once += 1
                    server.most_at_once = max(server.most_at_once, server.at_once)
                try:
                    self._take(server.answer(asked, number), asked)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                finally:
                    with server.lock:
                        server.at_once -= 1

            def _take(self, step: Step, asked: Asked) -> None:
                if isinstance(step, Status):
                    self._send_json(step.status, server.dialect.error(step), step.headers)
                    return
                if isinstance(step, Slow):
                    self._bill(step.say, asked)
                    time.sleep(step.seconds)
                    step = step.say
                else:
                    say = step if isinstance(step, Say) else step.say
                    self._bill(say, asked, reset=not isinstance(step, Say))
                if isinstance(step, Say) and not asked.stream:
                    self._send_json(200, server.dialect.whole(asked, step), {})
                    return
                self._stream(step, asked)

            def _bill(self, say: Say, asked: Asked, *, reset: bool = False) -> None:
                bill = Bill(asked.model, say, reset)
                with server.lock:
                    server.billed.append(bill)
                server.on_billed(bill)

            def _stream(self, step: Say | Reset | Garbled | Broken, asked: Asked) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                say = step if isinstance(step, Say) else step.say
                for index, piece in enumerate(server.dialect.events(asked, say)):
                    if not isinstance(step, Say) and index == (step.pieces if isinstance(step, Reset) else 2):
                        break
                    self._chunk(piece)
                if isinstance(step, Reset):
                    # Linger off with a time of zero: the peer gets RST, as when a load balancer dies.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                if isinstance(step, Garbled):
                    self._chunk(server.dialect.garbled())
                elif isinstance(step, Broken):
                    self._chunk(server.dialect.broken(step))
                self.wfile.write(b"0\r\n\r\n")

            def _chunk(self, piece: bytes) -> None:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()

            def _send_json(self, status: int, document: dict[str, Any], headers: dict[str, str]) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler


@contextmanager
def serving(dialect: Dialect, answer: Callable[[Asked, int], Step]) -> Iterator[FakeServer]:
    server = FakeServer(dialect, answer)
    server.start()
    try:
        yield server
    finally:
        server.stop()
