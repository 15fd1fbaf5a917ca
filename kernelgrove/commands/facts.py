"""``problems`` and ``gpus``: what ships, and what this machine has."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import options


def problems(json: options.Json = False) -> None:
    """List the problems that ship."""
    from ..problems.problem import library, load, summary

    with options.output(json) as out:
        rows: list[dict[str, Any]] = []
        for name in library():
            sizes = {size: dict(constants) for size, constants in load(name).sizes.items()}
            rows.append({"problem": name, "summary": summary(name), "sizes": sizes})
        if json:
            out.emit(rows)
            return
        from ..render import put, table

        shown = [(r["problem"], r["summary"], *(_size(r["sizes"].get(s)) for s in ("full", "small"))) for r in rows]
        put(table(("problem", "what", "full", "small"), shown))
        print("\nAny file with Model, get_inputs and get_init_inputs is a problem too: kernelgrove run path/to/file.py")


def _size(constants: Any) -> str | None:
    return " ".join(f"{name}={value}" for name, value in constants.items()) if constants else None


def gpus(
    name: Annotated[str | None, typer.Argument(metavar="GPU", help="Show everything known of one.")] = None,
    json: options.Json = False,
) -> None:
    """List the GPUs known, and those of this machine."""
    from ..engine.gpus import detect, specs

    with options.output(json) as out:
        known = [specs.find(name)] if name else list(specs.load().values())
        found = detect.detect()
        if json:
            here = [
                {"index": g.index, "name": g.name, "target": g.spec, "driver": g.driver, "memory_mb": g.memory_mb}
                for g in found.gpus
            ]
            out.emit({"gpus": [spec.facts() for spec in known], "here": here, "reason": found.reason})
            return
        from ..render import put, table

        if name:
            put(table(("fact", "value"), known[0].facts().items()))
            return
        rows = [
            (
                *(s.name, s.architecture, s.arch, s.memory_gb, s.bandwidth_gbs, s.l2_mb, s.sms),
                *(s.fp32_tflops, s.tf32_tflops, s.fp16_tflops, s.bf16_tflops),
            )
            for s in known
        ]
        headings = ("target", "architecture", "arch", "GB", "GB/s", "L2 MB", "SMs", "fp32", "tf32", "fp16", "bf16")
        put(table(headings, rows, right=headings[3:]))
        print("(arithmetic in TFLOPS, dense; kernelgrove gpus NAME shows the rest)\n")
        for gpu in found.gpus:
            print(f"here: cuda:{gpu.index} {gpu.name}, target {gpu.spec or 'unknown: give --target'}")
        if not found.gpus:
            print(f"here: none. {found.reason}")
