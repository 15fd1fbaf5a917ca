"""Advice from a candidate's text: what is probably a cheat and what is probably a mistake, with its line.

Never a verdict: honest kernels look like this too. Reads the syntax tree alone; nothing is run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kernelgrove.problems.parsing import parse

#: Calls that a kernel rarely needs and exploits often use, by the end of their dotted name.
_SUSPICIOUS = {
    "Event.elapsed_time": "replaces or reads a timing event: times are taken outside the candidate",
    "elapsed_time": "reads a timing event: times are taken outside the candidate",
    "gc.get_objects": "walks other objects' memory: the reference and its outputs are in another process",
    "sys._getframe": "walks frames: the evaluator's are in another process",
    "os.fork": "starts a process: whatever outlives the call is killed, and its work is not waited for",
    "subprocess.Popen": "starts a process: whatever outlives the call is killed",
    "subprocess.run": "starts a process: there is none to start in the sandbox",
    "threading.Thread": "starts a thread: outputs are copied when forward returns, whatever a thread does later",
}
#: Names that are assigned to only by who wants to change what is measured.
_PATCHED = ("torch.allclose", "torch.cuda.synchronize", "torch.cuda.Event", "time.perf_counter", "time.time")


def lint(code: str) -> list[str]:
    """Advice on *code*, a line each, in the order of its lines. Code that does not parse gets none."""
    try:
        tree = parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    try:
        found = sorted({*_cheats(tree), *_mistakes(tree)})
    except RecursionError:
        return []
    return [f"line {line}: {text}" for line, text in found[:12]]


def _cheats(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _dotted(node.func)
            for end, why in _SUSPICIOUS.items():
                if name == end or name.endswith(f".{end}"):
                    yield node.lineno, f"{name}() {why}"
            if name == "setattr" and node.args and _dotted(node.args[0]).startswith(("torch", "time")):
                yield node.lineno, f"setattr() changes {_dotted(node.args[0])}: the judge's own is in another process"
        elif isinstance(node, ast.Assign | ast.AugAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                name = _dotted(target)
                if name.startswith(_PATCHED):
                    yield node.lineno, f"assigns to {name}: the judge's own is in another process"
                if isinstance(target, ast.Subscript) and ".data_ptr" in ast.unparse(target.slice):
                    yield node.lineno, "keeps something by data_ptr(): addresses come back with other contents"
        elif isinstance(node, ast.Try) and _calls_kernel(node.body):
            for handler in node.handlers:
                if any(_is_torch_call(part) for part in ast.walk(handler)):
                    line = handler.lineno
                    yield line, "falls back to PyTorch when the kernel fails: what is timed may not be the kernel"


def _mistakes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or not _is_kernel(function):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            name, given = _dotted(node.func), {keyword.arg for keyword in node.keywords}
            if name in ("tl.load", "tl.store") and not _masked(node, name) and "boundary_check" not in given:
                yield node.lineno, f"{name} has no mask: right only if the block divides the size"
            if name == "tl.load" and "mask" in given and "other" not in given and _reduced(function):
                yield node.lineno, "tl.load has a mask and no other=: what is masked is undefined in a reduction"
            if name == "tl.dot" and not given & {"input_precision", "allow_tf32"}:
                yield node.lineno, "tl.dot of fp32 operands computes in TF32 unless input_precision='ieee' is given"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "forward":
            yield from _forward(node)


def _forward(forward: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    for node in ast.walk(forward):
        if isinstance(node, ast.Call):
            name = _dotted(node.func)
            if name.endswith((".item", ".cpu", ".tolist", ".numpy")):
                yield node.lineno, f"{name.rpartition('.')[2]}() waits for the GPU in every call"
            if name == "torch.cuda.synchronize":
                yield node.lineno, "synchronize() in forward keeps the host from running ahead"


def _is_kernel(function: ast.FunctionDef) -> bool:
    return any(_dotted(getattr(d, "func", d)).endswith("jit") for d in function.decorator_list)


def _masked(call: ast.Call, name: str) -> bool:
    places = 2 if name == "tl.load" else 3
    return len(call.args) >= places or any(keyword.arg == "mask" for keyword in call.keywords)


def _reduced(function: ast.FunctionDef) -> bool:
    ends = ("sum", "max", "min", "argmax", "argmin", "reduce", "cumsum", "associative_scan")
    return any(isinstance(n, ast.Call) and _dotted(n.func) in {f"tl.{e}" for e in ends} for n in ast.walk(function))


def _calls_kernel(body: list[ast.stmt]) -> bool:
    return any(isinstance(n, ast.Call) and isinstance(n.func, ast.Subscript) for part in body for n in ast.walk(part))


def _is_torch_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _dotted(node.func).startswith(("torch.", "F.", "nn.functional"))


def _dotted(node: ast.AST) -> str:
    """``torch.cuda.Event`` of an attribute chain; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif parts:
        parts.append("")
    return ".".join(reversed(parts))
