"""What a worker sends is checked to the byte; nothing of it is trusted or unpickled."""

from __future__ import annotations

import itertools
import socket
import struct
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelgrove.engine.evaluator.wire import protocol
from kernelgrove.engine.evaluator.wire.protocol import PeerGone, ProtocolBreak, Reply, parse_reply
from kernelgrove.engine.evaluator.wire.structure import flatten, pack, unpack
from kernelgrove.engine.evaluator.workers.handle import Worker


def datagram(kind: Reply, number: int, payload: dict) -> bytes:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        protocol.send_reply(ours, kind, number, payload)
        return theirs.recv(1 << 17)


def test_reply_round_trip():
    data = datagram(Reply.CALLED, 7, {"copied": True})
    assert parse_reply(data, 7, Reply.CALLED) == (Reply.CALLED, {"copied": True})


def test_failure_is_always_an_answer():
    data = datagram(Reply.FAILED, 7, {"outcome": "runtime_error"})
    assert parse_reply(data, 7, Reply.CALLED)[0] is Reply.FAILED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"outcome": "ok", "speedup": {"eager": 99.0}}\n',
        datagram(Reply.CALLED, 6, {}),
        datagram(Reply.TIMED, 7, {}),
        datagram(Reply.CALLED, 7, {})[:-2],
        struct.pack("<4sHI", b"KGw1", int(Reply.CALLED), 7) + b"[1]",
        struct.pack("<4sHI", b"KGw1", int(Reply.CALLED), 7) + b"[" * 50_000,
    ],
)
def test_anything_else_breaks_the_protocol(data):
    with pytest.raises(ProtocolBreak):
        parse_reply(data, 7, Reply.CALLED)


def test_no_reply_can_be_sent_before_its_request_was_read():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        owner = SimpleNamespace(slept_s=lambda pid: 0.0)
        worker = Worker(owner, ours, 0, "", None)  # type: ignore[arg-type]
        asked = []
        for _ in range(4):
            worker.send("go", {})
            asked.append(protocol.receive_with_fds(theirs)[0]["number"])
        steps = {later - earlier for earlier, later in itertools.pairwise(asked)}
        assert len(steps) == 3 and 0 not in asked
        protocol.send_reply(theirs, Reply.TIMED, asked[-1] + 1, {})
        with pytest.raises(ProtocolBreak, match="another request"):
            worker.answer(Reply.TIMED, 1.0)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_parser(data):
    with pytest.raises(ProtocolBreak):
        parse_reply(data, 7, Reply.CALLED)


@pytest.mark.parametrize("value", [None, [1, "2"], [float("nan")], [-1.0], [True], [1.0] * 11])
def test_times_must_be_times(value):
    with pytest.raises(ProtocolBreak):
        protocol.finite_floats(value, 10)


def test_streams_end_with_peer_gone():
    ours, theirs = socket.socketpair()
    protocol.send_stream(ours, {"id": 1})
    assert protocol.receive_stream(theirs) == {"id": 1}
    ours.close()
    with pytest.raises(PeerGone):
        protocol.receive_stream(theirs)
    theirs.close()


def test_shorten_keeps_both_ends():
    text = protocol.shorten("A" * 5000 + "B" * 5000, 1000)
    assert text.startswith("A") and text.endswith("B") and len(text) < 1100


def test_structure_is_flattened_with_paths_and_packed_without_tensors():
    value = {"loss": 1.0, "parts": (2, [3])}
    assert flatten(value) == [("['loss']", 1.0), ("['parts'][0]", 2), ("['parts'][1][0]", 3)]
    backwards = {"parts": (2, [3]), "loss": 1.0}
    assert flatten(backwards)[-1] == ("['loss']", 1.0) and flatten(backwards, ordered=True) == flatten(value)
    tensors: list[object] = []
    data = pack([1, {"x": 2.5}], lambda item: isinstance(item, float), tensors)
    assert tensors == [2.5] and unpack(data, ["back"]) == [1, {"x": "back"}]
