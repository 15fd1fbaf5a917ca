"""Loads a problem by its library name or its path, and checks what can be checked without running it.

Imports no torch: everything here is read from the file's syntax tree. What only running shows (the constructor,
``forward``, the values) is in ``reference.py``.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ..errors import ProblemError
from ..model import Precision, Problem
from .parsing import parse
from .sizes import FULL, GIVEN, literal, read_sizes, size_name, sized_source

__all__ = ["FULL", "GIVEN", "check_source", "library", "load", "size_name", "sized_source", "summary"]

_LIBRARY = Path(__file__).parent / "library"
_LIST_THEM = "`kernelgrove problems` lists those that ship."
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def library() -> tuple[str, ...]:
    """The names of the problems that ship, in alphabetical order."""
    return tuple(sorted(path.stem for path in _LIBRARY.glob("*.py") if not path.stem.startswith("_")))


def summary(name: str) -> str:
    """One line on a library problem: the first line of its ``Model``'s docstring. Raises ProblemError if unknown."""
    for node in parse(load(name).source).body:
        if isinstance(node, ast.ClassDef) and node.name == "Model":
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def load(name_or_path: str) -> Problem:
    """The problem of that library name (``rms_norm``, ``rms-norm``) or in the file of that path.

    Raises ProblemError, in one sentence, for a name or file that is not there or cannot be read, a syntax error, a
    missing ``Model``, ``get_inputs`` or ``get_init_inputs``, an import that is not installed, and a wrong ``SIZES``,
    ``PRECISION`` or ``MODE``.
    """
    name = name_or_path.strip().lower().replace("-", "_")
    if name in library():
        return check_source(_read(_LIBRARY / f"{name}.py", name), name)
    path = Path(name_or_path).expanduser()
    try:
        there = path.exists()
    except (OSError, ValueError):  # a name too long for a path, or with a NUL in it
        there = False
    if not there:
        looks_like_path = path.suffix == ".py" or os.sep in name_or_path
        near = difflib.get_close_matches(path.stem.lower().replace("-", "_"), library(), n=3, cutoff=0.5)
        what = f"There is no file {name_or_path}" if looks_like_path else f"There is no problem called {name_or_path!r}"
        raise ProblemError(f"{what}{f'; did you mean {_either(near)}?' if near else '.'}", _LIST_THEM)
    return check_source(_read(path, name_or_path), path.stem, name_or_path)


def check_source(source: str, name: str, path: str | None = None) -> Problem:
    """The problem whose text is *source*, checked as ``load`` does; messages name *path*, or *name* without one."""
    shown = path or name
    try:
        tree = parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ProblemError(
            f"{shown}:{error.lineno or 1}: syntax error, {error.msg}{f': `{line}`' if line else ''}."
        ) from None
    except (ValueError, MemoryError, RecursionError) as error:  # NUL bytes, absurd nesting
        raise ProblemError(f"{shown} is not Python source: {error}.") from None
    _check_interface(tree, shown)
    _check_imports(tree, shown)
    precision = literal(tree, "PRECISION", shown)
    if precision is not None and precision not in set(Precision):
        raise ProblemError(f"{shown}: PRECISION is {precision!r}; it must be {_either(list(Precision))}.")
    mode = literal(tree, "MODE", shown)
    if mode not in (None, "train", "eval"):
        raise ProblemError(f"{shown}: MODE is {mode!r}; it must be 'train' or 'eval'.")
    return Problem(
        name=name,
        source=source,
        path=path,
        sizes=read_sizes(tree, shown),
        precision=precision,
        mode=mode or "train",
    )


def _read(path: Path, shown: str) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except IsADirectoryError:
        raise ProblemError(f"{shown} is a folder, not a problem file.", _LIST_THEM) from None
    except OSError as error:
        raise ProblemError(f"{shown} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise ProblemError(f"{shown} is not UTF-8 text (byte {error.start}).") from None


def _check_interface(tree: ast.Module, shown: str) -> None:
    names = _bound(tree)
    need = "a problem file defines `class Model(nn.Module)`, `get_inputs()` and `get_init_inputs()`."
    if "Model" not in names:
        new = "; it has ModelNew, so it looks like a candidate" if "ModelNew" in names else ""
        raise ProblemError(f"{shown} has no class Model{new}: {need}")
    if "get_inputs" not in names:
        raise ProblemError(f"{shown} has no function get_inputs: {need}")
    if "get_init_inputs" not in names and (wanted := _required_arguments(tree)):
        raise ProblemError(
            f"{shown} has no function get_init_inputs, and the constructor of Model needs {', '.join(wanted)}: "
            f"add `def get_init_inputs()` that returns them as a list."
        )
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name in ("get_inputs", "get_init_inputs"):
            raise ProblemError(f"{shown}:{node.lineno}: {node.name} is an async function; make it a plain one.")


def _bound(tree: ast.Module) -> set[str]:
    """Names that running the file's top level may bind, in ``if`` and ``try`` blocks too."""
    found: set[str] = set()
    for node in _top_level(tree.body):
        if isinstance(node, ast.ClassDef | _Function):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                found.update(leaf.id for leaf in ast.walk(target) if isinstance(leaf, ast.Name))
    return found


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for part in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from _top_level(handler.body)


def _required_arguments(tree: ast.Module) -> list[str]:
    """What ``Model.__init__`` cannot do without, ``self`` aside; empty where the class writes no constructor."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Model":
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    arguments = item.args
                    positional = [*arguments.posonlyargs, *arguments.args]
                    required = positional[1 : len(positional) - len(arguments.defaults)]
                    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                    return [a.arg for a in required] + [a.arg for a, default in keywords if default is None]
    return []


def _check_imports(tree: ast.Module, shown: str) -> None:
    """Refuse an unconditional import of what is not installed. One in ``try`` or ``if`` may be optional."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            raise ProblemError(f"{shown}:{node.lineno}: a relative import, but a problem is one file that runs alone.")
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        for module in modules:
            if not _installed(top := module.partition(".")[0]):
                raise ProblemError(
                    f"{shown}:{node.lineno}: imports {top}, which is not installed.", "Install it first."
                )


def _installed(module: str) -> bool:
    """Whether *module*, a name without dots, can be imported; does not import it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ValueError, ImportError):  # loaded without a spec, such as __main__
        return sys.modules.get(module) is not None


def _either(names: list[str] | list[Precision]) -> str:
    quoted = [str(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
