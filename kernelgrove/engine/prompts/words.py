"""Figures, fences and profiles as prompts write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from kernelgrove.model import Idea
from kernelgrove.ports import Attempt

#: Characters of an error text that a prompt shows whole; of a longer one its beginning and its end.
MESSAGE_CHARS = 6000

#: Launches of a program, or of the reference, that are shown one by one.
MAX_LAUNCHES = 16


def fenced(code: str, language: str = "python") -> str:
    """*code* in a fence that is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code.strip()}\n{fence}"


def message(text: str, limit: int = MESSAGE_CHARS) -> str:
    """An error text, its middle left out where it is long: compilers say what was wrong first or last."""
    text = text.strip()
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters …]\n{text[-half:]}"


def oneline(text: str, limit: int = 240) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def ms(value: float | None) -> str:
    return "no time" if value is None else f"{value:.4g} ms"


def figures(attempt: Attempt) -> str:
    """``0.1791 ms, 3.54x over eager (projected)``, or how it failed."""
    if attempt.outcome is None:
        return "not judged yet"
    if attempt.outcome != "ok":
        return f"{attempt.outcome}: {oneline(attempt.message)}" if attempt.message else attempt.outcome
    if attempt.time_ms is None:
        return "right, not timed"
    over = f", {attempt.speedup:.2f}x over eager" if attempt.speedup is not None else ""
    return f"{ms(attempt.time_ms)}{over} ({attempt.basis})"


def lineage(ideas: tuple[Idea, ...], tried: tuple[Attempt, ...]) -> list[str]:
    """The ideas from the first to this one, each with the best that came of it where that is known."""
    known = {attempt.idea.text: attempt for attempt in tried if attempt.outcome is not None}
    return [f"{idea.text}{f' → {figures(known[idea.text])}' if idea.text in known else ''}" for idea in ideas]


def profile(attempt: Attempt) -> list[str]:
    """What the evaluator saw of a program, a line a fact; empty where it saw nothing."""
    seen = attempt.profile
    detail = seen.get("detail") or {}
    lines = [*_baselines(seen.get("baselines") or {})]
    lines += [_kernel(kernel) for kernel in _list(detail.get("compiled"))]
    lines += list(_launches("this program", detail.get("projection")))
    lines += list(_launches("eager PyTorch", detail.get("eager")))
    if seen.get("provenance") in ("mixed", "library"):
        lines.append(
            f"it launches {'library kernels only' if seen['provenance'] == 'library' else 'library kernels too'}"
        )
    lines += [f"advice: {oneline(str(line))}" for line in _list(seen.get("advice"))]
    return lines


def _baselines(baselines: Mapping[str, Any]) -> Iterator[str]:
    known = [f"{name} {ms(value)}" for name, value in baselines.items() if value is not None]
    if known:
        yield "reference: " + ", ".join(known)


def _kernel(kernel: Any) -> str:
    if not isinstance(kernel, Mapping):
        return str(kernel)
    grid = "x".join(str(n) for n in kernel.get("grid") or () if n != 1) or "1"
    constants = " ".join(f"{name}={value}" for name, value in (kernel.get("constants") or {}).items())
    spills = kernel.get("spills") or 0
    facts = [
        f"grid {grid}",
        f"{kernel.get('num_warps')} warps",
        f"{kernel.get('num_stages')} stages",
        f"{kernel.get('registers')} registers a thread",
        f"{kernel.get('shared_bytes')} bytes of shared memory",
        f"{spills} bytes spilled" if spills else "nothing spilled",
    ]
    shown = [fact for fact in facts if not fact.startswith("None")]
    return f"kernel {kernel.get('name')}: {', '.join(shown)}" + (f"; {constants}" if constants else "")


def _launches(whose: str, projection: Any) -> Iterator[str]:
    """What bounds each launch, dearest first where there are many; the figures are projected, and say so."""
    launches = [x for x in _list(projection.get("launches")) if isinstance(x, Mapping)] if projection else []
    if not launches:
        return
    shown = launches if len(launches) <= MAX_LAUNCHES else sorted(launches, key=lambda x: -(x.get("ms") or 0.0))
    for launch in shown[:MAX_LAUNCHES]:
        parts = [
            f"{name.removesuffix('_ms')} {launch[name]:.3g}"
            for name in ("dram_ms", "l2_ms", "compute_ms")
            if isinstance(launch.get(name), int | float)
        ]
        inner = f" ({', '.join(parts)})" if parts else ""
        yield f"{whose}: {launch.get('name')} {ms(launch.get('ms'))}, bound by {launch.get('bound')}{inner}, projected"
    if len(launches) > MAX_LAUNCHES:
        yield f"{whose}: {len(launches) - MAX_LAUNCHES} further launches, each shorter"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


@cache
def example(backend: str) -> Mapping[str, str]:
    """The worked example for *backend*: ``reference`` and ``program``."""
    folder = resources.files(__package__).joinpath("examples")
    return {
        "reference": folder.joinpath("reference.txt").read_text(encoding="utf-8"),
        "program": folder.joinpath(f"{backend}.txt").read_text(encoding="utf-8"),
    }


FILTERS = {
    "fenced": fenced,
    "message": message,
    "oneline": oneline,
    "figures": figures,
    "profile": profile,
    "lineage": lineage,
    "ms": ms,
}
