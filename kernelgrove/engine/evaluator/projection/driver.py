"""A stand-in for Triton's GPU driver: kernels are compiled for a target that need not be there, and never run.

All that this project knows of Triton's compiler and runtime internals (3.6 and 3.7) is in this file:
``triton.runtime.driver.driver.set_active``; the driver protocol (``get_current_target``, ``utils.load_binary``,
``utils.get_device_properties``, ``launcher_cls``); ``JITFunction.device_caches``; ``Autotuner.run``; the cached
``compiler.max_shared_mem``; and ``cuobjdump``, which is shipped beside ``ptxas``.

``JITFunction.run`` does all of its own work (specialisation on meta tensors, heuristics, hooks, the shared memory
check, the exact grid); only loading the binary and launching it are ours.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+)")
_DEPOT = re.compile(r"\.local\s+\.align\s+\d+\s+\.b8\s+__local_depot\d+\[(\d+)\]")


@dataclass(frozen=True)
class Resources:
    """What one thread of a compiled kernel takes: registers, and bytes spilled to local memory."""

    registers: int
    spills: int


@dataclass(frozen=True)
class Launch:
    """One launch that would have happened."""

    name: str
    grid: tuple[int, int, int]
    constants: Mapping[str, str]
    num_warps: int
    num_stages: int
    shared_bytes: int
    resources: Resources


@dataclass
class Recorder:
    """What the stand-in driver saw: launches in order, and each compilation that failed, with its kernel."""

    launches: list[Launch] = field(default_factory=list)
    failures: list[tuple[Any, BaseException, str]] = field(default_factory=list)  # JITFunction, error, compiler's log
    resources: dict[bytes, Resources] = field(default_factory=dict)  # by binary
    kernels: list[Any] = field(default_factory=list)  # every JITFunction met, the last one last


def target(facts: Mapping[str, Any]) -> Any:
    """Triton's ``GPUTarget`` for GPU *facts* (keys ``backend``, ``capability`` or ``arch``)."""
    from triton.backends.compiler import GPUTarget

    if facts["backend"] == "hip":
        arch = str(facts["arch"])
        return GPUTarget("hip", arch, 64 if arch.startswith("gfx9") else 32)
    major, minor = facts["capability"]
    return GPUTarget("cuda", int(major) * 10 + int(minor), 32)


@contextlib.contextmanager
def installed(facts: Mapping[str, Any], launchers: bool = False) -> Iterator[Recorder]:
    """Launch on the stand-in for *facts* while inside; with *launchers*, also build what launching for real takes. Not
    for several threads: Triton's driver is global.

    Raises RuntimeError where Triton was imported for its interpreter: such a process cannot compile.
    """
    import triton.compiler.compiler as compiler
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        raise RuntimeError("TRITON_INTERPRET is set: kernels are interpreted in this process and cannot be compiled")
    recorder = Recorder()
    before = (driver._active, Autotuner.run, JITFunction._do_compile)
    driver.set_active(_Driver(facts, recorder, launchers))
    Autotuner.run = _run_first_valid
    JITFunction._do_compile = _watched(before[2], recorder)
    compiler.max_shared_mem.cache_clear()
    try:
        yield recorder
    finally:
        driver._active, Autotuner.run, JITFunction._do_compile = before
        compiler.max_shared_mem.cache_clear()
        for kernel in recorder.kernels:  # they hold this target's backend and binaries
            kernel.device_caches.clear()


class _Driver:
    """The part of Triton's driver protocol that compiling and launching use."""

    def __init__(self, facts: Mapping[str, Any], recorder: Recorder, launchers: bool) -> None:
        self._facts = facts
        self._target = target(facts)
        self.utils = _Utils(facts, recorder)
        self.launcher_cls = lambda src, metadata: _Launcher(src, metadata, recorder, launchers)

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        """There is only device 0."""

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_device_capability(self, device: int | None = None) -> tuple[int, int]:
        major, minor = self._facts["capability"]
        return int(major), int(minor)

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("meta")

    def get_device_interface(self) -> Any:
        import torch

        return torch.cuda

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_benchmarker(self) -> Callable[..., list[float]]:
        """Nothing can be timed here: every candidate configuration counts as equally fast."""

        def benchmark(kernel_call: Callable[[], object], quantiles: Any = None, **_: Any) -> list[float]:
            kernel_call()
            return [0.0, 0.0, 0.0]

        return benchmark


class _Utils:
    def __init__(self, facts: Mapping[str, Any], recorder: Recorder) -> None:
        self._facts = facts
        self._recorder = recorder

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[Any, ...]:
        """(module, function, registers, spilled 4-byte words, most threads a block), as the real driver returns."""
        found = self._recorder.resources.get(binary, Resources(0, 0))
        granules = math.ceil(max(found.registers, 1) / 8) * 8
        threads = min(1024, int(self._facts["registers_per_sm"]) // granules // 32 * 32)
        return None, found, found.registers, found.spills // 4, threads

    def get_device_properties(self, device: int | None = None) -> dict[str, int]:
        facts = self._facts
        return {
            "max_shared_mem": int(facts["shared_kb_per_block"]) * 1024,
            "max_num_regs": int(facts["registers_per_sm"]),
            "multiprocessor_count": int(facts["sms"]),
            "warpSize": 64 if facts["backend"] == "hip" else 32,
            "sm_clock_rate": int(float(facts["boost_clock_ghz"]) * 1e6),
            "mem_clock_rate": int(float(facts["bandwidth_gbs"]) * 1e6 / 1024),
            "mem_bus_width": 4096,
        }


class _Launcher:
    """Called by ``JITFunction.run`` in place of ``cuLaunchKernel``."""

    def __init__(self, src: Any, metadata: Any, recorder: Recorder, real: bool) -> None:
        self._src = src
        self._metadata = metadata
        self._recorder = recorder
        if real:
            _build_launcher(src, metadata)

    def __call__(self, x: int, y: int, z: int, stream: int, function: Resources, *_: Any) -> None:
        grid = (int(x), int(y), int(z))
        if min(grid) == 0:
            return  # the real launcher launches nothing
        names = self._src.fn.arg_names
        constants = {
            ".".join([names[path[0]], *(str(step) for step in path[1:])]): str(value)
            for path, value in self._src.constants.items()
        }
        metadata = self._metadata
        self._recorder.launches.append(
            Launch(
                name=self._src.fn.__name__,
                grid=grid,
                constants=constants,
                num_warps=metadata.num_warps,
                num_stages=metadata.num_stages,
                shared_bytes=metadata.shared,
                resources=function,
            )
        )


def _build_launcher(src: Any, metadata: Any) -> None:
    """Have Triton build its launcher into the cache where it compiles one for each signature (3.6 does, with gcc; 3.7
    has one for all). What that needs may not be there: whoever launches for real then builds it."""
    from triton.backends.nvidia.driver import CudaLauncher

    with contextlib.suppress(Exception):
        CudaLauncher(src, metadata)


def _watched(compile_kernel: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    """``JITFunction._do_compile``, with what it made measured and what it failed on kept.

    MLIR prints its diagnostics to file descriptor 2 and raises a bare "PassManager::run failed": hence the capture.
    """

    def _do_compile(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder.kernels.append(self)
        with _stderr() as log:
            try:
                kernel = compile_kernel(self, *args, **kwargs)
            except Exception as error:
                recorder.failures.append((self, error, log()))
                raise
        if kernel is not None:
            recorder.resources[kernel.kernel] = _resources(kernel.asm, kernel.kernel)
        return kernel

    return _do_compile


@contextlib.contextmanager
def _stderr() -> Iterator[Callable[[], str]]:
    """Collect what C++ code prints to standard error; yields a function that returns it so far."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: (file.seek(0), file.read().decode(errors="replace"))[1]
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _resources(asm: Mapping[str, Any], binary: bytes) -> Resources:
    if "ptx" in asm:
        return _nvidia(binary, asm["ptx"])
    return _amd(asm.get("amdgcn", ""))


def _nvidia(cubin: bytes, ptx: str) -> Resources:
    """As ``cuobjdump --dump-resource-usage`` prints them: a driver fills them in only when it loads the binary.

    STACK holds spills and arrays that the code asked for (range reduction of ``sin`` has one); the latter are the
    ``__local_depot`` of the PTX, which the stack rounds up to 16 bytes.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [_cuobjdump(), "--dump-resource-usage", file.name], capture_output=True, text=True, check=False
        )
    found = _RESOURCES.search(done.stdout)
    if found is None:
        return Resources(0, 0)
    arrays = sum(math.ceil(int(size) / 16) * 16 for size in _DEPOT.findall(ptx))
    return Resources(int(found[1]), max(0, int(found[2]) - arrays))


def _cuobjdump() -> str:
    import triton

    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump")


def _amd(assembly: str) -> Resources:
    """From the metadata that the assembler listing of a kernel ends with."""

    def number(key: str) -> int:
        found = re.search(rf"\.{key}:\s*(\d+)", assembly)
        return int(found[1]) if found else 0

    return Resources(number("vgpr_count"), number("private_segment_fixed_size"))


def _run_first_valid(self: Any, *args: Any, **kwargs: Any) -> Any:
    """``Autotuner.run`` without timing: the first configuration, after pruning, that compiles for the target.

    The interpreter uses the same rule, short of compiling.
    """
    from triton.compiler.errors import CompileTimeAssertionFailure
    from triton.runtime.errors import OutOfResources, PTXASError

    self.nargs = dict(zip(self.arg_names, args, strict=False))
    last: Exception | None = None
    try:
        for config in self.prune_configs(kwargs) if len(self.configs) > 1 else self.configs:
            chosen = config.all_kwargs()
            if config.pre_hook is not None:
                config.pre_hook({**self.nargs, **kwargs, **chosen})
            try:
                result = self.fn.run(*args, **kwargs, **chosen)
            except (OutOfResources, CompileTimeAssertionFailure, PTXASError) as error:
                last = error  # what Triton's own autotuner skips
                continue
            self.best_config = config
            return result
    finally:
        self.nargs = None
    assert last is not None  # an Autotuner has at least one configuration
    raise last
