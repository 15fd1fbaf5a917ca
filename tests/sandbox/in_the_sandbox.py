"""A nursery in small, for the tests of the sandbox: forks one worker, which enters and tries what it should not.

``python in_the_sandbox.py QUESTION``: QUESTION is JSON: ``path`` (sys.path), ``policy``, ``imports`` (modules to import
before the fork), ``facts`` (paths and numbers that the attempts need), ``attempts`` (names of functions below).
Prints ``{"layers": [...], "enter_ms": x, "status": wait status, "results": {attempt: text}}``. An attempt's text is
its return value, or the name of the exception it raised. Standard library only: it also runs as another user, under
another interpreter.
"""

# ruff: noqa: PTH104, PTH109, PTH115, PTH123, PTH208 - it tries what a hostile program would write

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
FACTS: dict = {}


def _errno(result: int) -> str:
    return f"errno {ctypes.get_errno()}" if result < 0 else "worked"


# ------------------------------------------------------------------------------------------------ what must work


def works_torch() -> str:
    torch = sys.modules["torch"]
    a = torch.arange(64.0 * 64).reshape(64, 64)
    return str(torch.equal(a @ torch.eye(64), a))


def works_threads() -> str:
    torch = sys.modules["torch"]
    return str(float((torch.ones(512, 512) @ torch.ones(512, 512)).sum()))


def works_lazy_import() -> str:
    assert "wave" not in sys.modules and "_sqlite3" not in sys.modules
    import sqlite3
    import wave

    return f"{wave.__name__} {sqlite3.connect(':memory:').execute('select 2').fetchone()[0]}"


def works_scratch() -> str:
    Path("folder").mkdir()
    Path("folder/a").write_text("text")
    os.rename("folder/a", "b")
    return Path(FACTS["scratch"], "b").read_text()


def works_gcc() -> str:
    source = b'#include <stdio.h>\nint main(){puts("compiled");return 0;}'
    subprocess.run(["gcc", "-x", "c", "-", "-o", "program"], input=source, check=True)
    return subprocess.run(["./program"], capture_output=True, check=True, text=True).stdout.strip()


def works_python() -> str:
    command = [sys.executable, "-I", "-c", "import decimal; print(decimal.Decimal(7))"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def works_cuda() -> str:
    torch = sys.modules["torch"]
    a = torch.eye(256, device="cuda")
    image = torch.ones(1, 4, 16, 16, device="cuda")
    convolved = torch.nn.functional.conv2d(image, torch.ones(4, 4, 3, 3, device="cuda"))
    torch.cuda.synchronize()
    return f"{float((a @ a).sum())} {float(convolved[0, 0, 0, 0])}"


TRITON = """
import torch, triton, triton.language as tl

@triton.jit
def double(x, y, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, 2 * tl.load(x + at, mask=at < n), mask=at < n)

def run():
    x = torch.arange(1000.0, device="cuda")
    y = torch.full_like(x, float("nan"))
    double[(triton.cdiv(1000, 256),)](x, y, 1000, BLOCK=256)
    return str(torch.equal(y, 2 * x))

def shaped(t):
    return torch.nn.functional.gelu(t) * 2 + 1

def run_compiled():
    x = torch.randn(1000, device="cuda")
    return str(torch.allclose(torch.compile(shaped)(x), shaped(x), atol=1e-5))
"""


def candidate():
    Path("candidate.py").write_text(TRITON)  # triton and dynamo read sources from their files
    spec = importlib.util.spec_from_file_location("candidate", "candidate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def works_triton() -> str:
    return candidate().run()


def works_torch_compile() -> str:
    return candidate().run_compiled()


def works_where_the_folder_above_is_closed() -> str:
    path = Path(tempfile.mkstemp()[1])
    return f"{os.access(FACTS['scratch'], os.W_OK)} {path.parent == Path(FACTS['scratch'])}"


def works_priorities() -> str:
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [core])
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    return f"{len(os.sched_getaffinity(0))} core, niceness {os.nice(1)}"


# ------------------------------------------------------------------------------------------------ what must not


def read_secret() -> str:
    return Path(FACTS["secret"]).read_text()


def list_folder() -> str:
    return str(os.listdir(FACTS["folder"]))


def list_home() -> str:
    return str(os.listdir(FACTS["home"]))


def read_shadow() -> str:
    return Path("/etc/shadow").read_text()


def write_to_library() -> str:
    return str(Path(FACTS["library"], "planted.py").write_text("x"))


def write_to_shm() -> str:
    return str(Path("/dev/shm/kernelgrove-planted").write_text("x"))


def write_to_tmp() -> str:
    return str(Path("/tmp/kernelgrove-planted").write_text("x"))


def write_core_pattern() -> str:
    with open("/proc/sys/kernel/core_pattern", "r+") as file:
        return str(file.write("core"))


def truncate_secret() -> str:
    os.truncate(FACTS["secret"], 0)
    return "worked"


def parent_environment() -> str:
    return Path(f"/proc/{FACTS['judge']}/environ").read_text()


def parent_memory() -> str:
    with open(f"/proc/{FACTS['judge']}/mem", "rb") as file:
        return str(file.read(1))


def ptrace_parent() -> str:
    return _errno(libc.ptrace(16, FACTS["judge"], 0, 0))


def read_parent_memory() -> str:
    here = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(here), 8)
    return _errno(libc.process_vm_readv(FACTS["judge"], local, 1, local, 1, 0))


def kill_parent() -> str:
    os.kill(FACTS["judge"], 0)
    return "worked"


def limit_parent() -> str:
    import resource

    resource.prlimit(FACTS["judge"], resource.RLIMIT_CPU, (1, 1))
    return "worked"


def renice_parent() -> str:
    os.setpriority(os.PRIO_PROCESS, os.getppid(), os.getpriority(os.PRIO_PROCESS, os.getppid()))
    return "worked"


def renice_user() -> str:
    os.setpriority(os.PRIO_USER, 0, 19)
    return "worked"


def pin_parent() -> str:
    os.sched_setaffinity(os.getppid(), os.sched_getaffinity(os.getppid()))
    return "worked"


def reschedule_parent() -> str:
    os.sched_setscheduler(os.getppid(), os.SCHED_OTHER, os.sched_param(0))
    return "worked"


def delay_parents_disk() -> str:
    number = 251 if os.uname().machine == "x86_64" else 30  # ioprio_set
    return _errno(libc.syscall(number, 1, os.getppid(), 2 << 13 | 4))


def nameless_memory() -> str:
    os.memfd_create("x")
    return "worked"


def tcp() -> str:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    return "worked"


def udp() -> str:
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    return "worked"


def netlink() -> str:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    return "worked"


def connect_unix() -> str:
    socket.socket(socket.AF_UNIX).connect(FACTS["listener"])
    return "worked"


def datagram_pair() -> str:
    socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return "worked"


def raw_pair() -> str:
    socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)
    return "worked"


def raw_unix() -> str:
    socket.socket(socket.AF_UNIX, socket.SOCK_RAW)
    return "worked"


def stream_pair() -> str:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    a.send(b"passes")
    return b.recv(10).decode()


def new_user_namespace() -> str:
    return _errno(libc.unshare(0x10000000))


def clone_namespace() -> str:
    return _cloned(0x10000011)


def clone_sibling() -> str:
    return _cloned(0x8011)


def _cloned(flags: int) -> str:
    number = 56 if os.uname().machine == "x86_64" else 220
    pid = libc.syscall(ctypes.c_long(number), ctypes.c_long(flags), 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    return _errno(pid)


def io_uring() -> str:
    return _errno(libc.syscall(425, 1, ctypes.create_string_buffer(120)))


def shared_memory() -> str:
    return _errno(libc.shmget(0, 4096, 0o1600))


def forget_parent() -> str:
    return _errno(libc.prctl(1, 0, 0, 0, 0))


def ask_again_for_parent() -> str:
    return _errno(libc.prctl(1, 9, 0, 0, 0))


def send_orphans_away() -> str:
    return _errno(libc.prctl(36, 0, 0, 0, 0))


def become_root() -> str:
    os.setresuid(0, 0, 0)
    return "worked"


def no_new_privileges() -> str:
    return Path("/proc/self/status").read_text().split("NoNewPrivs:")[1].split()[0]


def much_memory() -> str:
    return str(len(bytearray(64 << 30)))


def long_file() -> str:
    with open("long", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    return "worked"


def many_descriptors() -> str:
    opened = []
    try:
        while len(opened) < 2000:
            opened.append(os.dup(0))
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return "worked"


def environment_names() -> str:
    block = Path("/proc/self/environ").read_bytes().split(b"\0")
    names = {entry.split(b"=")[0].decode() for entry in block if entry} | set(os.environ)
    return " ".join(sorted(names))


def open_descriptors() -> str:
    found = []
    for number in range(3, 256):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}").split(":")[0])
        except OSError:
            continue
    return " ".join(found)


def identity() -> str:
    return f"{os.getresuid()} {os.getgroups()} session {os.getsid(0) == os.getpid()} {os.getcwd()}"


def score() -> str:
    return Path("/proc/self/oom_score_adj").read_text().strip()


def interfaces() -> str:
    return " ".join(line.split(":")[0].strip() for line in Path("/proc/self/net/dev").read_text().splitlines()[2:])


def spin() -> str:
    while True:
        pass


# ------------------------------------------------------------------------------------------------ the nursery


def copy_for_others(package: Path, folder: Path) -> tuple[str, list[str]] | None:
    """Copy the sandbox (with the packages around it) from *package* into *folder*, for a user who can read neither
    the original nor this interpreter. Returns the system's interpreter and the search path for it; None without."""
    question = "import sys, json; print(json.dumps([sys.version_info >= (3, 11), sys.path]))"
    try:
        done = subprocess.run(["/usr/bin/python3", "-I", "-c", question], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    new_enough, search = json.loads(done.stdout)
    for name in ("__init__.py", "errors.py", "engine/__init__.py", "engine/evaluator/__init__.py"):
        (folder / "kernelgrove" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / name, folder / "kernelgrove" / name)
    part = "engine/evaluator/sandbox"
    shutil.copytree(package / part, folder / "kernelgrove" / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(__file__, folder)
    return ("/usr/bin/python3", [str(folder), *search]) if new_enough else None


def main() -> None:
    question = json.loads(sys.argv[1])
    sys.path[:] = question["path"]
    sandbox = importlib.import_module("kernelgrove.engine.evaluator.sandbox")
    for name in question.get("imports", ()):
        importlib.import_module(name)
    FACTS.update(question.get("facts", {}))
    policy = dict(question["policy"])
    policy["read"] = tuple(policy["read"]) if policy.get("read") else sandbox.default_read_paths()
    FACTS["scratch"] = policy["scratch"]
    FACTS.setdefault("judge", os.getpid())
    sandbox.become_subreaper()
    reading, writing = os.pipe()
    leaked = os.open(__file__, os.O_RDONLY)
    parent = os.getpid()
    worker = os.fork()
    if worker == 0:
        answer: dict = {"results": {}}
        try:
            begun = time.perf_counter()
            layers = sandbox.enter(sandbox.Policy(**policy), [writing], parent=parent, log_fd=2)
            answer["enter_ms"] = (time.perf_counter() - begun) * 1e3
            answer["layers"] = [layer.to_json() for layer in layers]
            for name in question["attempts"]:
                try:
                    answer["results"][name] = globals()[name]()
                except BaseException as error:
                    answer["results"][name] = f"{type(error).__name__}: {error}"
        except BaseException as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        with open(writing, "w") as pipe:
            pipe.write(json.dumps(answer))
        os._exit(0)
    os.close(writing)
    os.close(leaked)
    with open(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(worker, 0)
    sandbox.reap_orphans(())
    print(json.dumps({**(json.loads(text) if text else {}), "status": status}))


if __name__ == "__main__":
    main()
