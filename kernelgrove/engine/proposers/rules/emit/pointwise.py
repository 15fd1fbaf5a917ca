"""Kernels over elements: a chain of pointwise operations, one load of each operand and one store of each result."""

from __future__ import annotations

from ..graph import Value
from ..plan import Plan
from ..space import Segment
from .body import Body
from .kernel import Emitted, Frame, wrapped

#: Past this many elements an offset needs 64 bits.
INT32_ELEMENTS = 2**31


def pointwise(segment: Segment, plan: Plan, name: str, sms: int, reuse: Value | None) -> Emitted:
    """The kernel and host function *name* for *segment*, which has no reduction."""
    frame = Frame(segment, plan.constants)
    body = Body(frame, flat=True)
    body.hints = plan.hints
    long = ".to(tl.int64)" if segment.numel >= INT32_ELEMENTS else ""
    if plan.point_persistent:
        body.add(f"first = tl.program_id(0){long}")
        body.add("for block in range(first, tl.cdiv(count, BLOCK), tl.num_programs(0)):")
        body.indent += 1
        _block(body, plan, "block")
        body.indent -= 1
    elif plan.per_program > 1:
        body.add(f"first = tl.program_id(0){long} * {plan.per_program}")
        body.add(f"for step in tl.static_range({plan.per_program}):")
        body.indent += 1
        _block(body, plan, "(first + step)")
        body.indent -= 1
    else:
        _block(body, plan, f"tl.program_id(0){long}")
    pointers = [f"{frame.names.of(v)}_ptr" for v in (*segment.inputs, *segment.outputs)]
    numbers = [frame.names.of(v) for v in segment.numbers]
    parameters = [*pointers, *numbers, "count", *frame.size_parameters(), "BLOCK: tl.constexpr"]
    parameters += ["EVEN: tl.constexpr"] if plan.even else []
    head = wrapped(f"def {name}_kernel", parameters, ":", "")
    text = '    """Every element once: one load of each operand, one store."""'
    kernel = "\n".join(["@triton.jit", head, text, *body.lines, ""])
    return Emitted([kernel], _host(frame, plan, name, sms, reuse), frame.helpers)


def _block(body: Body, plan: Plan, index: str) -> None:
    body.add(f"offsets = {index} * BLOCK + tl.arange(0, BLOCK)")
    if plan.even:
        body.add("inside = tl.full([BLOCK], True, tl.int1) if EVEN else offsets < count")
    else:
        body.add("inside = offsets < count")
    for output in body.segment.outputs:
        body.store(output)


def _host(frame: Frame, plan: Plan, name: str, sms: int, reuse: Value | None) -> str:
    segment = frame.segment
    outputs = [frame.names.of(v) for v in segment.outputs]
    every = tuple(range(len(segment.sizes)))
    full = next((v for v in segment.outputs if segment.atoms(v) == every), None)
    count = f"{frame.names.of(full)}.numel()" if full else frame.product(every)
    lines = [*frame.contiguous(), *frame.size_lines(), *frame.allocate(reuse), f"count = {count}"]
    lines.append(f"BLOCK = {plan.block}")
    blocks = "triton.cdiv(count, BLOCK)"
    if plan.point_persistent:
        total = plan.point_persistent * sms
        lines.append(f"programs = min({blocks}, {total})  # {plan.point_persistent} for each of {sms} SMs")
        blocks = "programs"
    elif plan.per_program > 1:
        blocks = f"triton.cdiv(count, BLOCK * {plan.per_program})"
    arguments = [frame.names.of(v) for v in segment.inputs] + outputs + [frame.names.of(v) for v in segment.numbers]
    arguments += ["count", *frame.sizes, "BLOCK=BLOCK"]
    if plan.even:
        arguments.append(f"EVEN=count % (BLOCK * {plan.per_program}) == 0")
    arguments.append(f"num_warps={plan.point_warps}")
    lines.append(wrapped(f"{name}_kernel[({blocks},)]", arguments, ""))
    lines.append(f"return {', '.join(outputs)}")
    body = "\n".join(f"    {line}" for line in lines)
    return f"def {name}({', '.join(frame.parameters())}):\n{body}\n"
