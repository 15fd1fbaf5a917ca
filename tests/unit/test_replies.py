"""Every field of every reply is checked: what a worker makes up is a broken protocol, never the judge's failure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelgrove.engine.evaluator.wire.protocol import ProtocolBreak, Reply, clean, parse_reply
from kernelgrove.engine.evaluator.wire.replies import checked
from kernelgrove.engine.evaluator.wire.work import Compiled, Work

DELIVERY: dict[str, Any] = {"leaves": [["", [3, 4], "float32", None]], "count": 1, "copied": True}
WORK = Work("triton", "add", 8, 64, 32, 96, {"fp32": 8.0}, (8, 1, 1)).to_json() | {"grid": [8, 1, 1]}
COMPILED = Compiled("add", 24, 1024, 0, 4, 3, (8, 1, 1), {"BLOCK": "128"}).to_json() | {"grid": [8, 1, 1]}
LAYER = {"name": "user", "required": False, "active": True, "why": "uid 64100"}
RIGHT: dict[Reply, dict[str, Any]] = {
    Reply.READY: {"layers": [LAYER]},
    Reply.LOADED: {"weights": "by name"},
    Reply.CALLED: {**DELIVERY, "unwritten": [], "provenance": "mixed", "operators": ["mm"], "launches": 3},
    Reply.TIMED: {},
    Reply.COUNTED: {"works": [WORK], "launches": 1},
    Reply.COMPILED: {"compiled": [COMPILED], "seconds": 0.5},
    Reply.FAILED: {"outcome": "runtime_error", "stage": "run", "message": "ValueError: odd"},
    Reply.ARMED: {},
    Reply.DELIVERED: {**DELIVERY, "claims": [0.1, 0.2]},
    Reply.SEALED: {},
    Reply.QUEUED: {},
    Reply.FINISHED: {"said": "0f" * 16},
    Reply.PACED: {"pace": [0.2, None]},
    Reply.CLAIMED: {**DELIVERY, "claims": [], "said": [[["float", "0.5"]]]},
}


@pytest.mark.parametrize("kind", Reply)
def test_what_an_honest_worker_says_passes(kind: Reply):
    assert checked(kind, RIGHT[kind]) == RIGHT[kind]
    with pytest.raises(ProtocolBreak, match="should not have"):
        checked(kind, {**RIGHT[kind], "outcome_of_all": "ok"})
    for name in RIGHT[kind]:
        if name not in ("operators", "launches") or kind is Reply.COUNTED:
            with pytest.raises(ProtocolBreak, match=f"no {name}"):
                checked(kind, {key: value for key, value in RIGHT[kind].items() if key != name})


NAN, HUGE = float("nan"), 10**400


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Reply.LOADED, {"weights": ["by name"]}),
        (Reply.CALLED, {"copied": 1}),
        (Reply.CALLED, {"count": True}),
        (Reply.CALLED, {"count": HUGE}),
        (Reply.CALLED, {"unwritten": ["abc"]}),
        (Reply.CALLED, {"unwritten": [-99]}),
        (Reply.CALLED, {"unwritten": [[0]]}),
        (Reply.CALLED, {"leaves": [["", 5, "float32", None]]}),
        (Reply.CALLED, {"leaves": [["", [-1], "float32", None]]}),
        (Reply.CALLED, {"leaves": [["", [3], "float32"]]}),
        (Reply.CALLED, {"leaves": [[["deep"], [3], "float32", None]]}),
        (Reply.CALLED, {"leaves": [["", None, "float", 0.0]]}),
        (Reply.CALLED, {"leaves": "none"}),
        (Reply.CALLED, {"leaves": [DELIVERY["leaves"][0]] * 65}),
        (Reply.CALLED, {"provenance": "own"}),
        (Reply.CALLED, {"provenance": []}),
        (Reply.CALLED, {"operators": [{}]}),
        (Reply.CALLED, {"launches": NAN}),
        (Reply.DELIVERED, {"claims": [NAN]}),
        (Reply.DELIVERED, {"claims": [HUGE]}),
        (Reply.DELIVERED, {"claims": [-0.1]}),
        (Reply.DELIVERED, {"claims": [True]}),
        (Reply.CLAIMED, {"claims": {}}),
        (Reply.CLAIMED, {"said": [["float"]]}),
        (Reply.CLAIMED, {"said": [[["float", 0.5]]]}),
        (Reply.COUNTED, {"works": [{**WORK, "kind": "magic"}]}),
        (Reply.COUNTED, {"works": [{**WORK, "read_bytes": float("inf")}]}),
        (Reply.COUNTED, {"works": [{**WORK, "flops": {"fp32": NAN}}]}),
        (Reply.COUNTED, {"works": [{**WORK, "flops": [1.0]}]}),
        (Reply.COUNTED, {"works": [{**WORK, "grid": [1, 2]}]}),
        (Reply.COUNTED, {"works": [{**WORK, "grid": 7}]}),
        (Reply.COUNTED, {"works": [{**WORK, "unknown": 1}]}),
        (Reply.COUNTED, {"works": [{key: value for key, value in WORK.items() if key != "name"}]}),
        (Reply.COUNTED, {"works": [17]}),
        (Reply.COMPILED, {"compiled": [{**COMPILED, "registers": NAN}]}),
        (Reply.COMPILED, {"compiled": [{**COMPILED, "registers": -1}]}),
        (Reply.COMPILED, {"compiled": [{**COMPILED, "constants": {"BLOCK": 128}}]}),
        (Reply.COMPILED, {"seconds": "long"}),
        (Reply.FAILED, {"message": None}),
        (Reply.FAILED, {"outcome": ["ok"]}),
    ],
)
def test_anything_else_breaks_the_protocol(kind: Reply, change: dict[str, Any]):
    with pytest.raises(ProtocolBreak, match=next(iter(change))):
        checked(kind, {**RIGHT[kind], **change})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([kind for kind in Reply if RIGHT[kind]]), st.data())
def test_no_field_crashes_the_check(kind: Reply, data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(RIGHT[kind])))
    try:
        checked(kind, {**RIGHT[kind], name: data.draw(JSON)})
    except ProtocolBreak:
        pass


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_json_lacks_are_refused(constant: str):
    header = b"KGw1" + int(Reply.COUNTED).to_bytes(2, "little") + (9).to_bytes(4, "little")
    with pytest.raises(ProtocolBreak):
        parse_reply(header + b'{"works": [], "launches": %s}' % constant.encode(), 9, Reply.COUNTED)


def test_texts_can_be_printed_and_stored():
    hostile = "\ud800 fine\n\tπ \x1b]0;owned\x07\x9b2J\u202etxt\r\x00" + "x" * 9000
    message = checked(Reply.FAILED, {**RIGHT[Reply.FAILED], "message": hostile})["message"]
    assert message.encode() and message.startswith(" fine\n\tπ ]0;owned2Jtxt") and len(message) <= 6000
    assert clean("plain text") == "plain text" and clean("zwei\nZeilen – größer") == "zwei\nZeilen – größer"
    (name,) = checked(Reply.COMPILED, {"compiled": [{**COMPILED, "constants": {"a\x1bb": "\ud800"}}], "seconds": 0.0})[
        "compiled"
    ][0]["constants"].items()
    assert name == ("ab", "")
