"""The reference's own text with another forward: its class, renamed, and the names that class needs.

Parameters keep their names and shapes because ``__init__`` stays as it was written.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from kernelgrove.problems.parsing import parse


class NoClass(Exception):
    """The file has no plain ``class Model`` with a ``forward`` of its own."""


@dataclass(frozen=True)
class Rewritten:
    """Imports, then whatever else the class needs, then the class."""

    imports: str
    support: str
    model: str


def rewrite(source: str, forward: list[str]) -> Rewritten:
    """*source* cut down to what ``ModelNew`` needs, with the lines *forward* as the body of its forward.

    Raises NoClass.
    """
    tree = parse(source)
    lines = source.splitlines()
    model = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Model"), None)
    method = (
        next((n for n in model.body if isinstance(n, ast.FunctionDef) and n.name == "forward"), None) if model else None
    )
    if model is None or method is None:
        raise NoClass
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    text = "\n".join(_class_lines(lines, model, method, forward))
    wanted = _support(tree, model, method)
    support = "\n\n\n".join(_text(lines, n) for n in wanted)
    return Rewritten("\n".join(_text(lines, n) for n in imports), support, text)


def _start(node: ast.stmt) -> int:
    """The first line of a statement, decorators included (from zero)."""
    decorators = getattr(node, "decorator_list", [])
    first: int = min([node.lineno, *(d.lineno for d in decorators)])
    return first - 1


def _text(lines: list[str], node: ast.stmt) -> str:
    return "\n".join(lines[_start(node) : node.end_lineno])


def _class_lines(lines: list[str], model: ast.ClassDef, method: ast.FunctionDef, forward: list[str]) -> list[str]:
    """The class with ``Model`` renamed wherever it is a name, and forward's body replaced."""
    renamed = list(lines)
    spots = [(n.lineno - 1, n.col_offset) for n in ast.walk(model) if isinstance(n, ast.Name) and n.id == "Model"]
    head = lines[model.lineno - 1]
    spots.append((model.lineno - 1, head.index("Model", head.index("class"))))
    for line, column in sorted(set(spots), reverse=True):
        text = renamed[line].encode()
        at = column if line != model.lineno - 1 else len(head[:column].encode())
        renamed[line] = (text[:at] + b"ModelNew" + text[at + len("Model") :]).decode()
    first = method.body[0]
    docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    indent = " " * (method.col_offset + 4)
    if first.lineno == method.lineno or first.lineno <= _signature_end(method):  # def forward(self, x): return x
        returns = f" -> {ast.unparse(method.returns)}" if method.returns else ""
        signature = f"{' ' * method.col_offset}def forward({ast.unparse(method.args)}){returns}:"
        before = [*renamed[_start(model) : _start(method)], signature]
    elif docstring:
        before = renamed[_start(model) : first.end_lineno]
    else:
        before = renamed[_start(model) : _start(first)]
    after = renamed[method.end_lineno : model.end_lineno]
    return [*before, *(indent + line if line else "" for line in forward), *after]


def _signature_end(method: ast.FunctionDef) -> int:
    """The last line that the signature of *method* is known to reach."""
    parts = [n for n in ast.walk(method.args) if isinstance(n, ast.expr | ast.arg)]
    ends = [method.lineno, *(n.end_lineno or 0 for n in parts)]
    return max(ends if method.returns is None else [*ends, method.returns.end_lineno or 0])


def _support(tree: ast.Module, model: ast.ClassDef, method: ast.FunctionDef) -> list[ast.stmt]:
    """Top-level statements that the class needs, directly or through each other, in the order of the file."""
    defined: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        for name in _defines(node):
            defined.setdefault(name, []).append(node)
    skipped = set(map(id, method.body))
    needed: set[int] = set()
    queue = [n for n in ast.walk(_without(model, skipped)) if isinstance(n, ast.Name)]
    while queue:
        name = queue.pop().id
        for node in defined.get(name, []):
            if id(node) not in needed and node is not model:
                needed.add(id(node))
                queue.extend(n for n in ast.walk(node) if isinstance(n, ast.Name))
    return [n for n in tree.body if id(n) in needed and not isinstance(n, ast.Import | ast.ImportFrom)]


def _without(model: ast.ClassDef, skipped: set[int]) -> ast.Module:
    """The class without forward's body: what only that used is not needed any more."""
    statements: list[ast.stmt] = []
    for node in model.body:
        if isinstance(node, ast.FunctionDef) and any(id(n) in skipped for n in node.body):
            statements.append(
                ast.FunctionDef(node.name, node.args, [ast.Pass()], node.decorator_list, node.returns, lineno=0)
            )
        else:
            statements.append(node)
    expressions = [*model.bases, *(k.value for k in model.keywords), *model.decorator_list]
    return ast.Module([*(ast.Expr(e) for e in expressions), *statements], type_ignores=[])


def _defines(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return set()
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
