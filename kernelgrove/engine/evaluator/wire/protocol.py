"""Messages between the evaluator's processes. Standard library only: a worker imports this.

Two kinds of channel:

* **trusted** (pool and judge, judge and nursery): length-prefixed JSON over a stream socket, or JSON datagrams
  with file descriptors beside them.
* **untrusted** (judge and worker): one ``SOCK_SEQPACKET`` datagram a message. What a worker sends is a fixed
  header and at most 60,000 bytes of JSON; it is never unpickled, and anything else is a ``ProtocolBreak``.
  A worker's word is believed only where it harms itself: that it failed, or that it was slow.
"""

from __future__ import annotations

import array
import errno
import json
import math
import secrets
import socket
import struct
import time
import unicodedata
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

#: Bumped whenever figures of two versions may not be compared; stored with every evaluation.
PROTOCOL_VERSION = 8

_MAGIC = b"KGw1"
_HEADER = struct.Struct("<4sHI")  # magic, kind, the number that the request carried
MAX_REPLY = 60_000
_LENGTH = struct.Struct("<Q")
_MAX_STREAM = 256 << 20
_PATIENCE_S = 5.0


class Reply(IntEnum):
    """What a worker may answer."""

    READY = 1
    LOADED = 2
    CALLED = 3
    TIMED = 4
    COUNTED = 5
    COMPILED = 6
    FAILED = 7
    ARMED = 8
    DELIVERED = 9
    SEALED = 10
    QUEUED = 11
    FINISHED = 12
    CLAIMED = 13
    PACED = 14


class ProtocolBreak(Exception):
    """A worker sent something that is not a reply to what it was asked."""


class PeerGone(Exception):
    """The other end closed its socket: the process is dead or dying."""


# ------------------------------------------------------------------------------------------ trusted streams


def send_stream(sock: socket.socket, message: Mapping[str, Any]) -> None:
    """Send one JSON document; the caller serialises concurrent senders."""
    body = json.dumps(message, allow_nan=False).encode()
    sock.sendall(_LENGTH.pack(len(body)) + body)


def receive_stream(sock: socket.socket) -> dict[str, Any]:
    """Receive one JSON document. Raises PeerGone at end of stream."""
    (length,) = _LENGTH.unpack(_read_exactly(sock, _LENGTH.size))
    if length > _MAX_STREAM:
        raise PeerGone(f"a message of {length} bytes is not ours")
    document: dict[str, Any] = json.loads(_read_exactly(sock, length))
    return document


def _read_exactly(sock: socket.socket, count: int) -> bytes:
    chunks = []
    while count:
        chunk = sock.recv(min(count, 1 << 20))
        if not chunk:
            raise PeerGone("end of stream")
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)


# ---------------------------------------------------------------------------------------- datagrams with fds


def send_with_fds(sock: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one JSON datagram (at most about 200 KB) with file descriptors."""
    body = json.dumps(message, allow_nan=False).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
    try:
        sock.sendmsg([body], rights)
    except (BrokenPipeError, ConnectionResetError) as gone:
        raise PeerGone(str(gone)) from gone


def send_patiently(sock: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """``send_with_fds``, again for a while where the kernel says that this user has too many descriptors on their way:
    where workers run as the judge's own user, one of them may have seen to that."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            send_with_fds(sock, message, fds)
            return
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def receive_with_fds(sock: socket.socket, limit: int = 1 << 18, max_fds: int = 4) -> tuple[dict[str, Any], list[int]]:
    """Receive one JSON datagram and its file descriptors. Raises PeerGone at end of stream."""
    try:
        body, ancillary, _flags, _address = sock.recvmsg(limit, socket.CMSG_SPACE(4 * max_fds))
    except ConnectionResetError as gone:
        raise PeerGone(str(gone)) from gone
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if not body:
        raise PeerGone("end of stream")
    return json.loads(body), list(fds)


# ------------------------------------------------------------------------------------------ worker's replies


def fresh_number() -> int:
    """A request's number, which its reply carries: drawn at random, so that no reply is sent before its request was
    read. READY, which nobody asks for, has 0."""
    return secrets.randbelow((1 << 32) - 1) + 1


def send_reply(sock: socket.socket, kind: Reply, number: int, payload: Mapping[str, Any]) -> None:
    """Sent by a worker. Text that is too long is cut by ``shorten`` before it comes here."""
    body = json.dumps(payload, allow_nan=False).encode()
    if len(body) > MAX_REPLY:
        raise ValueError(f"a reply of {len(body)} bytes is over {MAX_REPLY}")
    sock.send(_HEADER.pack(_MAGIC, int(kind), number) + body)


def parse_reply(data: bytes, number: int, expected: Reply) -> tuple[Reply, dict[str, Any]]:
    """Check a datagram from a worker. Raises ProtocolBreak unless it is *expected* (or FAILED), to request *number*."""
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise ProtocolBreak(f"the worker sent {len(data)} bytes that are no reply: {data[:60]!r}")
    _magic, kind_number, got = _HEADER.unpack_from(data)
    if got != number or kind_number not in (int(expected), int(Reply.FAILED)):
        which = "" if got == number else ", to another request"
        raise ProtocolBreak(f"the worker answered kind {kind_number}{which} when asked {expected.name}")
    try:
        payload = json.loads(data[_HEADER.size :], parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ProtocolBreak(f"the worker's reply is not JSON: {clean(str(error), 200)}") from None
    if not isinstance(payload, dict):
        raise ProtocolBreak("the worker's reply is not an object")
    return Reply(kind_number), payload


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def finite_floats(value: Any, limit: int) -> list[float]:
    """*value* as a list of at most *limit* finite non-negative floats. Raises ProtocolBreak."""
    if not isinstance(value, list) or len(value) > limit:
        raise ProtocolBreak("the worker's reply lacks its list of times")
    numbers = []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item) or item < 0:
            raise ProtocolBreak("the worker's list of times holds something that is no time")
        numbers.append(float(item))
    return numbers


def clean(text: str, limit: int = 6000) -> str:
    """*text* as it may be printed and stored, whoever wrote it: at most *limit* characters, no control characters but
    line feeds and tabs, nothing invisible, no half of a surrogate pair."""
    cut = text[:limit]
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(c for c in cut if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def fitting(items: Sequence[Mapping[str, Any]], most: int = 200, room: int = 50_000) -> list[Mapping[str, Any]]:
    """The first of *items*, at most *most* and as many as *room* bytes of JSON hold."""
    kept = []
    for item in items[:most]:
        room -= len(json.dumps(item)) + 2
        if room < 0:
            break
        kept.append(item)
    return kept


def shorten(text: str, limit: int = 4000) -> str:
    """*text* with its middle left out, so that the first lines and the last ones survive."""
    if len(text) <= limit:
        return text
    head = limit // 3
    return f"{text[:head]}\n… {len(text) - limit} characters left out …\n{text[head - limit :]}"
