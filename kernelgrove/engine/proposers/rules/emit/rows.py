"""Kernels over rows: a DAG of pointwise operations and reductions along one run of dimensions.

``whole`` holds a row (or several) in registers and reads it once. ``loop`` walks it in tiles, once for every level of
dependent reductions and once more for the outputs. A segment without reductions comes here too, where its broadcast
operands make rows worth having: then every program has one tile (``planes``).
"""

from __future__ import annotations

from ..graph import SCAN, Value
from ..plan import MAX_BLOCK, Plan, next_power_of_2
from ..space import Segment
from .body import Body
from .kernel import Emitted, Frame, wrapped
from .reducers import levels

#: Elements a program holds at once, and a thread: with more of either, the kernels here spill on sm_90.
MAX_TILE, MAX_A_THREAD = 32768, 128
#: Rows side by side where the reduced dimension is not the last: neighbours in memory are different rows.
STRIDED_ROWS = 32
#: Rows that leave most of a GPU idle at a program a row, and rows that keep any GPU busy without splitting them.
FEW_ROWS, MANY_ROWS = 64, 1024


def fitted(segment: Segment, plan: Plan) -> Plan:
    """*plan* as far as it applies to *segment*: the block within bounds, several rows only where they fit."""
    width = next_power_of_2(segment.column_count)
    style, tile, rows = plan.style, min(plan.tile, width), plan.rows
    splittable = segment.reduces and not segment.inner and not segment.scans and segment.row_count <= MANY_ROWS
    if style == "split" and not (splittable and segment.column_count > plan.splits * tile):
        style = "whole"
    if style == "whole" and width > MAX_BLOCK:
        style = "split" if splittable and segment.row_count <= FEW_ROWS else "loop"
    if segment.inner:
        rows = max(rows, STRIDED_ROWS)
        if style == "whole" and width * rows > MAX_TILE // 2:
            style = "loop"
        tile = min(tile, max(1, 4096 // rows))
    elif style != "whole":
        rows = 1
    if style == "whole":
        rows = min(rows, next_power_of_2(segment.row_count), max(1, MAX_TILE // width))
    one_pass = plan.one_pass if style != "whole" else ""
    backwards = plan.backwards and style == "loop" and not segment.scans
    return plan.change(style=style, tile=tile, rows=rows, one_pass=one_pass, backwards=backwards)


def warps(segment: Segment, plan: Plan) -> int:
    """The plan's warps, or about 16 elements a thread; never so few that a thread cannot hold its part."""
    width = next_power_of_2(segment.column_count) if plan.style == "whole" else plan.tile
    wanted = plan.warps or max(1, min(16, width * plan.rows // 512))
    return max(wanted, width * plan.rows // (32 * MAX_A_THREAD))


def rows(segment: Segment, plan: Plan, name: str, sms: int, reuse: Value | None) -> Emitted:
    """The kernel and host function *name* for *segment*; *plan* is already fitted."""
    frame = Frame(segment, plan.constants)
    wide = plan.rows > 1
    frame.size(segment.reduced)
    body = Body(frame, wide=wide)
    body.hints, body.reciprocal = plan.hints, plan.reciprocal
    if plan.persistent:
        _persistent_head(body, plan)
    else:
        _head(body)
    if plan.style == "whole":
        _whole(body, plan)
    else:
        _loop(body, plan)
    pointers = [f"{frame.names.of(v)}_ptr" for v in (*segment.inputs, *segment.outputs)]
    numbers = [frame.names.of(v) for v in segment.numbers]
    size = ": tl.constexpr" if plan.constants else ""
    parameters = [*pointers, *numbers, *(["rows"] if wide or plan.persistent else []), f"columns{size}"]
    parameters += [*frame.size_parameters(), *(["ROWS: tl.constexpr"] if wide else []), "BLOCK: tl.constexpr"]
    parameters += ["EVEN: tl.constexpr"] if plan.even else []
    head = wrapped(f"def {name}_kernel", parameters, ":", "")
    kernel = "\n".join(["@triton.jit", head, f'    """{_describe(segment, plan)}"""', *body.lines, ""])
    return Emitted([kernel], _host(frame, plan, name, sms, reuse), frame.helpers)


def _describe(segment: Segment, plan: Plan) -> str:
    many = "ROWS rows" if plan.rows > 1 else "One row"
    if plan.style == "whole":
        return f"{many} a program, held in registers: memory is read once."
    walks = len(levels(segment, plan.one_pass))
    return f"{many} a program, walked in tiles of BLOCK columns: {walks + bool(segment.full_outputs())} passes."


def _head(body: Body) -> None:
    if body.wide:
        body.add("row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]")
    else:
        body.add("row = tl.program_id(0).to(tl.int64)")


def _persistent_head(body: Body, plan: Plan) -> None:
    """A grid that fills the GPU once; weights that do not depend on the row are read before the rows."""
    segment = body.segment
    if plan.style == "whole" and not body.wide:
        _columns(body, plan, "tl.arange(0, BLOCK)")
        for value in segment.inputs:
            atoms = segment.atoms(value)
            if all(atom in segment.reduced for atom in atoms):
                body.get(value)
    body.add("first = tl.program_id(0).to(tl.int64)")
    if body.wide:
        body.add("for block in range(first, tl.cdiv(rows, ROWS), tl.num_programs(0)):")
        body.indent += 1
        body.add("row = block * ROWS + tl.arange(0, ROWS)[:, None]")
    else:
        body.add("for row in range(first, rows, tl.num_programs(0)):")
        body.indent += 1


def _columns(body: Body, plan: Plan, text: str) -> None:
    """The column indices of a tile and which of them are inside."""
    body.add(f"cols = {text}{'[None, :]' if body.wide else ''}")
    inside = "(row < rows) & (cols < columns)" if body.wide else "cols < columns"
    if plan.even and not body.wide:
        body.add("inside = tl.full([BLOCK], True, tl.int1) if EVEN else cols < columns")
    else:
        body.add(f"inside = {inside}")


def _whole(body: Body, plan: Plan) -> None:
    segment = body.segment
    if not (plan.persistent and not body.wide):
        _columns(body, plan, "tl.arange(0, BLOCK)")
    for output in segment.outputs:
        body.store(output)


def _loop(body: Body, plan: Plan) -> None:
    segment = body.segment
    shape = "[ROWS, BLOCK]" if body.wide else "[BLOCK]"
    full = list(segment.full_outputs())
    walks = levels(segment, plan.one_pass)
    for index, walk in enumerate(walks):
        body.last_pass = index == len(walks) - 1 and not full
        sources = [reducer.source for reducer in walk]
        body.prepare(sources)
        _carry(body, sources)
        states = []
        for reducer in walk:
            stem = body.frame.names.fresh(reducer.provides[-1].name or reducer.provides[-1].kind)
            names = [component for component, _ in reducer.components(stem)]
            reducer.start(body, names, shape)
            if reducer.kind == "moments" and reducer.mode == "tile":
                _shift(body, plan, reducer.source, names[0])
            states.append((reducer, names))
        _open(body, plan, backwards=plan.backwards and index % 2 == 1)
        for reducer, names in states:
            reducer.update(body, names)
        _close(body)
        for reducer, names in states:
            reducer.collapse(body, names, "columns")
            reducer.define(body, names)
    if full:
        body.last_pass = True
        body.prepare(full)
        _carry(body, full)
        _open(body, plan, backwards=plan.backwards and len(walks) % 2 == 1)
        for output in full:
            body.store(output)
        _close(body)
    for output in segment.outputs:
        if output not in full:
            body.store(output)


def _open(body: Body, plan: Plan, backwards: bool) -> None:
    if backwards:
        body.add("for step in range(0, tl.cdiv(columns, BLOCK)):  # backwards: the end of the row is still in cache")
        body.indent += 1
        body.add("start = (tl.cdiv(columns, BLOCK) - 1 - step) * BLOCK")
    else:
        body.add("for start in range(0, columns, BLOCK):")
        body.indent += 1
    _columns(body, plan, "start + tl.arange(0, BLOCK)")


def _close(body: Body) -> None:
    body.indent -= 1
    body.tile.clear()


def _carry(body: Body, roots: list[Value]) -> None:
    """Running totals of the scans that a walk computes."""
    for value in body.needed(roots):
        if value.op == SCAN:
            carry = body.frame.names.fresh(f"{value.name}_carry")
            start = "0.0" if value.kind == "sum" else "1.0"
            shape = "[ROWS, 1]" if body.wide else "[]"
            body.add(f"{carry} = tl.full({shape}, {start}, tl.float32)")
            body.carries[value] = carry


def _shift(body: Body, plan: Plan, source: Value, mean: str) -> None:
    """The mean of the row's first tile: close enough to the row's that sums of squares about it do not cancel."""
    _columns(body, plan, "tl.arange(0, BLOCK)")
    filled = body.filled(source, "0.0")
    body.add(f"{mean}_shift = tl.sum({filled}, {body.axis}) / tl.minimum(columns, BLOCK)")
    body.tile.clear()


def _host(frame: Frame, plan: Plan, name: str, sms: int, reuse: Value | None) -> str:
    segment = frame.segment
    outputs = [frame.names.of(v) for v in segment.outputs]
    wide = plan.rows > 1
    lines = [*frame.contiguous(), f"columns = {frame.product(segment.reduced)}"]
    row_atoms = (*segment.outer, *segment.inner)
    lines += [f"rows = {frame.product(row_atoms)}", *frame.size_lines(), *frame.allocate(reuse)]
    programs = "triton.cdiv(rows, ROWS)" if wide else "rows"
    if wide:
        lines.append(f"ROWS = {plan.rows}")
    if plan.style == "whole":
        lines.append("BLOCK = triton.next_power_of_2(columns)")
    else:
        lines.append(f"BLOCK = {plan.tile}")
    if plan.persistent:
        programs = f"min({programs}, {plan.persistent * sms})"
        note = f"  # {plan.persistent} programs for each of {sms} SMs"
        lines.append(f"programs = {programs}{note}")
        programs = "programs"
    arguments = [frame.names.of(v) for v in segment.inputs] + outputs + [frame.names.of(v) for v in segment.numbers]
    arguments += [*(["rows"] if wide or plan.persistent else []), "columns", *frame.sizes]
    arguments += [*(["ROWS=ROWS"] if wide else []), "BLOCK=BLOCK"]
    arguments += ["EVEN=columns % BLOCK == 0"] if plan.even else []
    arguments.append(f"num_warps={warps(segment, plan)}")
    if plan.stages:
        arguments.append(f"num_stages={plan.stages}")
    lines.append(wrapped(f"{name}_kernel[({programs},)]", arguments, ""))
    lines.append(f"return {', '.join(outputs)}")
    body = "\n".join(f"    {line}" for line in lines)
    return f"def {name}({', '.join(frame.parameters())}):\n{body}\n"
