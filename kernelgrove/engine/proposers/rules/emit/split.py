"""Kernels for few and long rows: SPLITS programs a row, each with a chunk of it.

Every walk over the row is a kernel that leaves partial results in a small buffer; the next kernel combines them first
(each program for itself: SPLITS numbers from cache), and the last one computes the outputs chunk by chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Value
from ..plan import Plan
from ..space import Segment
from .body import Body
from .kernel import Emitted, Frame, wrapped
from .reducers import Reducer, levels
from .rows import warps


@dataclass
class _Walk:
    """A walk's reducers, each with the names and types of its partial results."""

    reducers: list[tuple[Reducer, list[tuple[str, str]]]]

    def components(self) -> list[tuple[str, str]]:
        return [component for _, components in self.reducers for component in components]


def split(segment: Segment, plan: Plan, name: str, reuse: Value | None) -> Emitted:
    """The kernels and host function *name* for *segment*; *plan* is already fitted."""
    frame = Frame(segment, plan.constants)
    frame.size(segment.reduced)
    walks = []
    for level in levels(segment, plan.one_pass):
        reducers = []
        for reducer in level:
            last = reducer.provides[-1]
            stem = frame.names.fresh(f"{last.name or last.kind}")
            reducers.append((reducer, reducer.components(stem)))
        walks.append(_Walk(reducers))
    bodies = [_partial(frame, plan, walks[: i + 1]) for i in range(len(walks))]
    bodies.append(_final(frame, plan, walks))
    names = [f"{name}_partial_{i}" if len(walks) > 1 else f"{name}_partial" for i in range(len(walks))]
    names.append(f"{name}_finish")
    kernels = []
    for index, (kernel, body) in enumerate(zip(names, bodies, strict=True)):
        parameters = [*_pointers(frame, walks, index), *[frame.names.of(v) for v in segment.numbers]]
        size = ": tl.constexpr" if plan.constants else ""
        parameters += [f"columns{size}", "chunk", *frame.size_parameters()]
        parameters += ["SPLITS: tl.constexpr", "BLOCK: tl.constexpr"]
        text = "The outputs, from all partial results." if index == len(walks) else "Partial results of one chunk."
        head = wrapped(f"def {kernel}", parameters, ":", "")
        kernels.append("\n".join(["@triton.jit", head, f'    """{text}"""', *body.lines, ""]))
    return Emitted(kernels, _host(frame, plan, name, names, walks, reuse), frame.helpers)


def _pointers(frame: Frame, walks: list[_Walk], index: int) -> list[str]:
    """Pointer arguments of kernel *index*: inputs, earlier partial results, and what it writes."""
    names = [frame.names.of(v) for v in frame.segment.inputs]
    names += [component for walk in walks[: index + 1] for component, _ in walk.components()]
    if index == len(walks):
        names += [frame.names.of(v) for v in frame.segment.outputs]
    return [f"{name}_ptr" for name in names]


def _chunk_head(body: Body) -> None:
    body.column_mask = "cols < last"
    body.add("part = tl.program_id(0) % SPLITS")
    body.add("row = (tl.program_id(0) // SPLITS).to(tl.int64)")
    body.add("first = part * chunk")
    body.add("last = tl.minimum(first + chunk, columns)")


def _combine(body: Body, walks: list[_Walk]) -> None:
    """Read and combine the partial results of earlier walks."""
    if not walks:
        return
    body.add("parts = tl.arange(0, SPLITS)")
    pairs = any(reducer.kind == "moments" for walk in walks for reducer, _ in walk.reducers)
    if pairs:
        body.add("lengths = tl.minimum(tl.maximum(columns - parts * chunk, 0), chunk).to(tl.float32)")
    for walk in walks:
        for reducer, components in walk.reducers:
            names = [component for component, _ in components]
            for component in names:
                body.add(f"{component} = tl.load({component}_ptr + row * SPLITS + parts)")
            reducer.combine(body, names, "lengths")
            reducer.define(body, names)


def _open(body: Body) -> None:
    body.add("for start in range(first, last, BLOCK):")
    body.indent += 1
    body.add("cols = start + tl.arange(0, BLOCK)")
    body.add("inside = cols < last")


def _close(body: Body) -> None:
    body.indent -= 1
    body.tile.clear()


def _partial(frame: Frame, plan: Plan, walks: list[_Walk]) -> Body:
    body = _body(frame, plan)
    body.last_pass = False
    _chunk_head(body)
    _combine(body, walks[:-1])
    reducers = walks[-1].reducers
    body.prepare([reducer.source for reducer, _ in reducers])
    for reducer, components in reducers:
        names = [component for component, _ in components]
        reducer.start(body, names, "[BLOCK]")
        if reducer.kind == "moments" and reducer.mode == "tile":
            body.add("cols = first + tl.arange(0, BLOCK)")
            body.add("inside = cols < last")
            filled = body.filled(reducer.source, "0.0")
            body.add(f"{names[0]}_shift = tl.sum({filled}, axis=0) / tl.maximum(tl.minimum(last - first, BLOCK), 1)")
            body.tile.clear()
    _open(body)
    for reducer, components in reducers:
        reducer.update(body, [component for component, _ in components])
    _close(body)
    for reducer, components in reducers:
        names = [component for component, _ in components]
        reducer.collapse(body, names, "tl.maximum(last - first, 0)")
        for component in names:
            body.add(f"tl.store({component}_ptr + row * SPLITS + part, {component})")
    return body


def _final(frame: Frame, plan: Plan, walks: list[_Walk]) -> Body:
    segment = frame.segment
    body = _body(frame, plan)
    full = list(segment.full_outputs())
    if full:
        _chunk_head(body)
    else:
        body.add("row = tl.program_id(0).to(tl.int64)")
    _combine(body, walks)
    if full:
        body.prepare(full)
        _open(body)
        for output in full:
            body.store(output)
        _close(body)
    rest = [output for output in segment.outputs if output not in full]
    if rest and full:
        body.prepare(rest)
        body.add("if part == 0:")
        body.indent += 1
    for output in rest:
        body.store(output)
    return body


def _body(frame: Frame, plan: Plan) -> Body:
    body = Body(frame)
    body.hints, body.reciprocal = plan.hints, plan.reciprocal
    return body


def _host(frame: Frame, plan: Plan, name: str, names: list[str], walks: list[_Walk], reuse: Value | None) -> str:
    segment = frame.segment
    outputs = [frame.names.of(v) for v in segment.outputs]
    anchor = frame.names.of(segment.inputs[0])
    lines = [*frame.contiguous(), f"columns = {frame.product(segment.reduced)}"]
    lines += [f"rows = {frame.product(segment.outer)}", *frame.size_lines(), *frame.allocate(reuse)]
    lines += [f"SPLITS, BLOCK = {plan.splits}, {plan.tile}"]
    lines.append("chunk = triton.cdiv(triton.cdiv(columns, SPLITS), BLOCK) * BLOCK")
    for walk in walks:
        for component, dtype in walk.components():
            lines.append(f"{component} = torch.empty((rows, SPLITS), device={anchor}.device, dtype=torch.{dtype})")
    full = bool(segment.full_outputs())
    for index, kernel in enumerate(names):
        pointers = [pointer.removesuffix("_ptr") for pointer in _pointers(frame, walks, index)]
        arguments = [*pointers, *[frame.names.of(v) for v in segment.numbers], "columns", "chunk", *frame.sizes]
        arguments += ["SPLITS=SPLITS", "BLOCK=BLOCK", f"num_warps={warps(segment, plan)}"]
        if plan.stages:
            arguments.append(f"num_stages={plan.stages}")
        grid = "rows * SPLITS" if full or index < len(walks) else "rows"
        lines.append(wrapped(f"{kernel}[({grid},)]", arguments, ""))
    lines.append(f"return {', '.join(outputs)}")
    body = "\n".join(f"    {line}" for line in lines)
    return f"def {name}({', '.join(frame.parameters())}):\n{body}\n"
