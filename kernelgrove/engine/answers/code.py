"""One program out of an answer: fenced or not, in one block or several, with prose around it.

Repairs are made only to text that does not parse as it is, and a program is never invented: what is taken stands in
the answer, but for an alias ``ModelNew`` where the module has another name and no other can be meant.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator

from . import clean
from .fences import PYTHON, Block, blocks
from .problems import Unreadable

NAME = "ModelNew"

#: Longer than any kernel that was ever written by hand; what is longer is not one.
MAX_CHARS = 400_000

_START = re.compile(r"^(?:import |from [\w.]+ import |@|class |def |#!|\"\"\"|if __name__)")
_PROMPT = re.compile(r"^(?:>>> |\.\.\. |>>>$|\.\.\.$)")
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#39|#x27);")
_NUMBERED = re.compile(r"^\s*\d+(?:\s*[|:]\s?|\t)")
_SIGNS_OF_A_KERNEL = ("triton.jit", "@jit", "load_inline", "cpp_extension", "__global__", "triton.autotune")


def program(answer: str) -> str:
    """The program in *answer*: Python that parses and defines ``ModelNew`` at its top level, ending in one newline.

    Raises Unreadable, which says what is missing.
    """
    text = clean.without_reasoning(clean.plain(answer))
    if not text.strip():
        raise Unreadable(
            "The answer is empty." if not answer.strip() else "The answer holds reasoning alone, and no program."
        )
    if len(text) > MAX_CHARS:
        raise Unreadable(f"The answer has {len(text)} characters; a program has at most {MAX_CHARS}.")
    complaints: list[str] = []
    for candidate in _candidates(text):
        found = _parsed(candidate)
        if found is None:
            complaints.append(_syntax(candidate))
            continue
        code, tree = found
        named = _with_the_name(code, tree)
        if named is not None:
            return named.rstrip() + "\n"
        complaints.append(_nameless(tree))
    raise Unreadable(complaints[0] if complaints else _no_code(text))


# -------------------------------------------------------------------------------------- where a program may stand


def _candidates(text: str) -> Iterator[str]:
    """Texts that may be the program, the likeliest first."""
    fenced = [b for b in blocks(text) if b.text.strip()]
    python = [b for b in fenced if b.language in PYTHON] or [b for b in fenced if _looks_like_python(b)]
    yield from _from_blocks([b.text for b in python])
    wrapped = _from_json(text)
    if wrapped is not None:
        inner = [b.text for b in blocks(wrapped) if b.text.strip()]
        yield from _from_blocks(inner)
        yield wrapped
    if not python:
        yield from _from_prose(text)


def _looks_like_python(block: Block) -> bool:
    return f"class {NAME}" in block.text or "@triton" in block.text


def _from_blocks(texts: list[str]) -> Iterator[str]:
    """Of several blocks the last that defines ModelNew, with the others before it where it uses what they define."""
    whole = [t for t in texts if _defines(t, NAME)]
    for text in reversed(whole):
        if len(texts) > 1 and _needs(text, [t for t in texts if t is not text]):
            yield _joined(texts, text)
        yield text
    if whole:
        return
    if len(texts) > 1:
        yield "\n\n".join(texts)
    yield from sorted(texts, key=len, reverse=True)


def _joined(texts: list[str], last: str) -> str:
    """The blocks that *last* may build on, then *last*; other versions of ModelNew, and uses of it, are left out."""
    return "\n\n\n".join([t for t in texts if t is not last and not re.search(rf"\b{NAME}\b", t)] + [last])


def _defines(text: str, name: str) -> bool:
    return re.search(rf"^(?:class {name}\b|{name}\s*(?::[^=\n]+)?=[^=])", text, re.MULTILINE) is not None


def _needs(text: str, others: list[str]) -> bool:
    """Whether *text* uses names that it does not define and another block does."""
    tree = _tree(text)
    if tree is None:
        return False
    own = _top_level(tree)
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    missing = used - own
    for other in others:
        parsed = _tree(other)
        if parsed is not None and missing & _top_level(parsed):
            return True
    return False


def _top_level(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        else:
            names |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return names


def _from_json(text: str) -> str | None:
    """The program in ``{"code": "…"}``, where the whole answer, or its one fenced block, is such an object."""
    bare = text.strip()
    fenced = blocks(text)
    for candidate in (bare, *(b.text for b in fenced if b.language == "json")):
        if not candidate.startswith("{"):
            continue
        try:
            parsed = json.loads(candidate, strict=False)
        except ValueError:
            continue
        if isinstance(parsed, dict):
            for key in ("code", "program", "kernel", "implementation", "answer", "content"):
                if isinstance(parsed.get(key), str):
                    return clean.plain(parsed[key])
    return None


def _from_prose(text: str) -> Iterator[str]:
    """An answer without fences: from its first line of code to the last line with which all of it parses."""
    lines = [line for line in text.split("\n") if not re.fullmatch(r"\s*(?:`{3,}|~{3,})\w*\s*", line)]
    starts = [i for i, line in enumerate(lines) if _START.match(line.lstrip(" >\t."))]
    if not starts:
        return
    tail = lines[starts[0] :]
    yield "\n".join(tail)
    if _class_line(tail) is None:
        return
    # Prose may follow the program: paragraphs are taken off the end until the rest parses. Code is never taken off:
    # what is left of a program that was cut short would parse too, and lack a method.
    ends = [i for i, line in enumerate(tail) if not line.strip()]
    for end in reversed(ends):
        shorter = "\n".join(tail[:end])
        if _class_line(tail[:end]) is None or any(_is_code(line) for line in tail[end:]):
            return
        if _tree(shorter) is not None:
            yield shorter
            return


def _is_code(line: str) -> bool:
    return bool(line.strip()) and (line[0] in " \t" or _START.match(line) is not None or " = " in line or "):" in line)


def _class_line(lines: list[str]) -> int | None:
    return next((i for i, line in enumerate(lines) if f"class {NAME}" in line), None)


# ------------------------------------------------------------------------------------------------ reading it


def _same(text: str) -> str:
    return text


def _unprompted(text: str) -> str:
    """Without the prompts of an interactive session or the numbers of a listing, where every line has one."""
    lines = text.split("\n")
    for pattern in (_PROMPT, _NUMBERED):
        marked = [line for line in lines if line.strip()]
        if marked and all(pattern.match(line) for line in marked):
            return textwrap.dedent("\n".join(pattern.sub("", line) for line in lines))
    return text


def _undiffed(text: str) -> str:
    """A patch that only adds is the text it adds."""
    lines = [line for line in text.split("\n") if not line.startswith(("+++", "---", "@@", "diff "))]
    if lines and all(line.startswith("+") or not line.strip() for line in lines):
        return "\n".join(line[1:] for line in lines)
    return text


#: Repairs, least first; each is tried on the text before it, and all of them together.
_REPAIRS: tuple[Callable[[str], str], ...] = (
    _same,
    textwrap.dedent,
    _unprompted,
    _undiffed,
    clean.unescaped,
    clean.ascii_typography,
    lambda text: text.replace("\\n", "\n").replace('\\"', '"') if "\n" not in text.strip() else text,
    lambda text: text.expandtabs(8),
    lambda text: text.expandtabs(4),
)


def _parsed(text: str) -> tuple[str, ast.Module] | None:
    """*text*, repaired as little as will do, and its tree; None where nothing makes it parse."""
    if _ENTITY.search(text):  # "a &lt; b" parses, as "a & lt; b"
        text = next((t for t in (clean.unescaped(text), text) if _tree(t) is not None), text)
    together = text
    for repair in _REPAIRS:
        alone = repair(text)
        together = repair(together)
        for candidate in dict.fromkeys((alone, together)):
            tree = _tree(candidate)
            if tree is not None and tree.body:
                return candidate, tree
    return None


def _tree(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape such as "\d" in a docstring is the candidate's affair
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _with_the_name(code: str, tree: ast.Module) -> str | None:
    """*code* if it defines ModelNew at its top level; with an alias where one module alone can be meant."""
    if NAME in _top_level(tree):
        return code
    modules = [s.name for s in tree.body if isinstance(s, ast.ClassDef) and _is_module(s)]
    own = [name for name in modules if name.lower() not in ("model", "reference", "modelref", "referencemodel")]
    chosen = own if len(own) == 1 else modules if len(modules) == 1 else []
    if len(chosen) == 1 and any(sign in code for sign in _SIGNS_OF_A_KERNEL):
        return f"{code.rstrip()}\n\n\n{NAME} = {chosen[0]}\n"
    return None


def _is_module(statement: ast.ClassDef) -> bool:
    return any(ast.unparse(base).split(".")[-1] == "Module" for base in statement.bases)


# ---------------------------------------------------------------------------------------------- what is wrong


def _syntax(text: str) -> str:
    try:
        ast.parse(text)
    except SyntaxError as error:
        at = f" (line {error.lineno} of the program: {clean.clip(error.text or '', 80)})" if error.lineno else ""
        return f"The program does not parse: {error.msg}{at}."
    except (ValueError, RecursionError, MemoryError) as error:
        return f"The program does not parse: {clean.clip(str(error), 120) or type(error).__name__}."
    return "The program is empty."


def _nameless(tree: ast.Module) -> str:
    there = ", ".join(s.name for s in tree.body if isinstance(s, ast.ClassDef))
    has = f"it defines the classes {there}" if there else "it defines no class"
    return f"The program has no class {NAME} at its top level ({has})."


def _no_code(text: str) -> str:
    return f"The answer has no program in it: it begins with {clean.clip(text, 60)!r}."
