"""The process that has torch and triton imported and forks a worker a candidate. It never touches CUDA itself.

Started by the judge with an empty environment and an explicit ``sys.path``. It lives as long as its socket: the
judge's end closing, for whatever reason, kills every worker, removes all that they wrote and ends it. It is a
subreaper, so that a daemon that a candidate leaves behind comes back to it and is killed; so is the judge, for the case
that the nursery itself is killed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from .. import sandbox
from ..sandbox.processes import Killing
from ..wire.protocol import PeerGone, receive_with_fds, send_with_fds
from . import worker


def main(fd: int, mode: str) -> None:
    """Import what workers need, say ``ready``, then fork and reap until the judge hangs up."""
    sock = socket.socket(fileno=fd)
    if mode == "interpret":
        from ..interpreter import counting, devices, watching  # noqa: F401 - imported once, for every worker
        from ..interpreter.adapter import install
        from ..projection import aten  # noqa: F401

        install()
    elif mode == "compile":
        from ..interpreter import devices  # noqa: F401
        from ..projection import compiling  # noqa: F401
    _import_ahead(mode)
    if "site-packages" not in sys.path[0]:
        del sys.path[0]  # the folder that this package came from; a candidate has no business there
    gc.collect()
    gc.freeze()  # a worker's collections then look at its own objects alone: 100 ms less, and no pages copied
    Nursery(sock).run()


def _import_ahead(mode: str) -> None:
    """What torch and triton import at first use would cost every worker again, or fail in its sandbox."""
    import torch
    import torch._dynamo
    import triton.compiler
    import triton.language
    import triton.runtime.autotuner
    import triton.testing

    torch.set_num_threads(1)
    if mode != "interpret":
        import triton.backends.nvidia.compiler
        import triton.backends.nvidia.driver

        with contextlib.suppress(ImportError):
            import triton.experimental.gluon  # noqa: F401 - the first launch would: 0.2 s a worker

        _compute_ahead()
    if mode == "cuda":
        _make_driver()


def _compute_ahead() -> None:
    """What Triton asks before its first compilation and remembers: a hash over all of itself, half a second, and the
    version of ptxas. A worker that cannot have it from here asks again."""
    from triton.backends.nvidia.compiler import get_ptxas_version
    from triton.runtime.cache import triton_key

    with contextlib.suppress(Exception):
        triton_key()
        for capability in (75, 80, 86, 89, 90, 100, 120):
            get_ptxas_version(capability)


def _make_driver() -> None:
    """Triton's driver, a part of which it has a C compiler build: a second a worker, where it cannot be had from here.
    It asks nothing of CUDA before a worker does."""
    from triton.backends.nvidia.driver import CudaDriver
    from triton.runtime import driver

    with contextlib.suppress(Exception):
        driver.set_active(CudaDriver())


#: While there are workers, their disk and memory are looked at so often; memory more often while one has much of it.
_LOOK_S, _CLOSE_LOOK_S = 1.0, 0.1
_STILL_NS = 50_000  # of CPU time that a stopped thread may seem to have had
_PAUSE_S = 0.005  # while some are being killed


class Nursery:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.home = Path.cwd()
        self.workers: dict[int, sandbox.Policy] = {}  # by pid; their uids are their own
        self.killing: dict[int, Killing] = {}  # those that are being killed, by pid
        self.clean: dict[int, bool] = {}  # those that were, and whether nothing of theirs is left
        self.disk = sandbox.Disk(str(self.home))
        self.claims: dict[int, list[int]] = {}  # by pid, of its user: held as long as all that is the user's is killed
        self.looked_s = 0.0  # when memory was looked at last
        self.look_s = _LOOK_S  # and how long after that it is again
        self.stepped_s = 0.0  # and those that are being killed
        self.stopped: dict[int, dict[tuple[int, int], int]] = {}  # by pid: CPU time of its threads then
        self.reasons: dict[int, str] = {}  # why a worker was killed from here, by pid

    def run(self) -> None:
        sandbox.become_subreaper()
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        send_with_fds(self.sock, {"event": "ready", "pid": os.getpid()})
        try:
            while True:
                control = self.sock.fileno()
                ready, _, _ = select.select([control, reader], [], [], self._pause_s())
                if reader in ready:
                    os.read(reader, 4096)
                    self._reap_orphans()
                self._reap()
                self._look_at_disk()
                self._look_at_memory()
                if control in ready:
                    message, fds = receive_with_fds(self.sock)
                    self._obey(message, fds, keep=(reader, writer))
        except PeerGone:
            for pid, policy in list(self.workers.items()):
                sandbox.kill_tree(pid, policy.uid)
            sandbox.reap_orphans(set())
            sandbox.remove(self.home)  # the judge would, if it lives
            os._exit(0)

    def _pause_s(self) -> float | None:
        if self.killing:
            return _PAUSE_S
        return max(0.0, self.looked_s + self.look_s - time.monotonic()) if self.workers else None

    def _obey(self, message: dict[str, Any], fds: list[int], keep: tuple[int, int]) -> None:
        if message["op"] == "fork":
            self._fork(message, fds, keep)
        elif message["op"] == "kill":
            self._kill(message["pid"], message["reason"])
            self._reap()
        elif message["op"] in ("freeze", "thaw"):
            roots = [pid for pid in message["pids"] if pid in self.workers]
            still = True
            if message["op"] == "freeze":
                still = sandbox.halt(roots)
                self.stopped |= sandbox.settled_ns(roots) if still else {}
            else:
                self._was_still(roots)
                sandbox.resume([pid for pid in roots if pid not in self.killing])
            send_with_fds(self.sock, {"event": "obeyed", "id": message["id"], "still": still})

    def _was_still(self, roots: Sequence[int]) -> None:
        """Kill workers of which something ran since they were stopped: whoever was timed meanwhile was not alone."""
        for pid in roots:
            before = self.stopped.pop(pid, {})
            after = sandbox.thread_ns([pid]) if before and pid not in self.killing else {}
            ns = max((after.get(thread, 0) - then for thread, then in before.items()), default=0)
            if ns > _STILL_NS:
                self._kill(pid, f"it went on for {ns / 1e6:.2g} ms while it was to stand still")

    def _look_at_disk(self) -> None:
        """Kill workers whose scratch folders hold more than they may. One that writes fast gets a second further."""
        if not self.disk.lost(max((policy.scratch_bytes for policy in self.workers.values()), default=0)):
            return
        for pid, policy in list(self.workers.items()):
            pids = {pid, *sandbox.descendants(pid)}
            if sandbox.holds_more(policy.scratch, pids, policy.scratch_bytes):
                self._kill(pid, f"its scratch folder holds more than {policy.scratch_bytes >> 20} MiB")

    def _look_at_memory(self) -> None:
        """Kill workers on a GPU that hold more shared memory than they may have of any: no limit counts it there."""
        if time.monotonic() - self.looked_s < self.look_s:
            return
        self.looked_s, self.look_s = time.monotonic(), _LOOK_S
        for pid, policy in list(self.workers.items()):
            most = policy.memory_bytes if policy.gpu else None
            if not most:
                continue
            held = max(sandbox.shared_bytes(one) for one in (pid, *sandbox.descendants(pid)))
            if held > most:
                self._kill(pid, f"it shares or pins more than {most >> 20} MiB of the host's memory")
            elif held > most // 4:
                self.look_s = _CLOSE_LOOK_S

    def _kill(self, pid: int, reason: str = "") -> None:
        """Begin to kill a worker with all that it started. It dies while others are looked after."""
        if reason and pid in self.workers:
            self.reasons[pid] = f"killed by the evaluator: {reason}"
        if pid in self.workers and pid not in self.killing:
            self.clean.pop(pid, None)
            self.killing[pid] = sandbox.killing(pid, self.workers[pid].uid)
            self.stepped_s = 0.0

    def _fork(self, message: dict[str, Any], fds: list[int], pipe: tuple[int, int]) -> None:
        fd, *claim = fds
        policy = sandbox.Policy(**{**message["policy"], "read": tuple(message["policy"]["read"])})
        assignment = worker.Assignment(
            message["mode"], message["device"], policy, message["facts"], message["precision"], message["one_queue"]
        )
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or no memory: none of this nursery's other workers' business
            for each in fds:
                os.close(each)
            send_with_fds(self.sock, {"event": "forked", "id": message["id"], "pid": 0, "why": str(error)})
            return
        if pid == 0:
            status = 70
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                for other in (*pipe, self.sock.fileno(), *claim, *chain.from_iterable(self.claims.values())):
                    os.close(other)
                worker.serve(socket.socket(fileno=fd), assignment)
                status = 0
            except BaseException as error:
                os.write(2, f"worker: {type(error).__name__}: {error}\n".encode()[:2000])
            finally:
                os._exit(status)
        os.close(fd)
        self.workers[pid], self.claims[pid] = policy, claim
        send_with_fds(self.sock, {"event": "forked", "id": message["id"], "pid": pid})

    def _reap_orphans(self) -> None:
        """Reap what workers left behind and has ended by itself. What has not is killed when its worker ends."""
        for orphan in sandbox.children(os.getpid()) - self.workers.keys():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(orphan, os.WNOHANG)

    def _reap(self) -> None:
        """Go on killing; kill what workers that ended left behind, then report them."""
        for pid in self.workers.keys() - self.killing.keys():  # looked for while its number is still its own
            if pid not in self.clean and _has_ended(pid):
                self._kill(pid)
        due = time.monotonic() - self.stepped_s >= _PAUSE_S
        for pid, steps in list(self.killing.items()) if due else []:
            self.stepped_s = time.monotonic()
            try:
                next(steps)
            except StopIteration as done:
                del self.killing[pid]
                if done.value or _has_ended(pid):  # else its end, whenever that is, begins it anew
                    self.clean[pid] = bool(done.value)
        ended = [pid for pid in self.clean if _has_ended(pid)]
        events: list[dict[str, Any]] = []
        for pid in ended:
            _, status = os.waitpid(pid, 0)
            del self.workers[pid]
            self.stopped.pop(pid, None)
            words = self.reasons.pop(pid, "") or sandbox.signal_name(status)
            events.append({"event": "exited", "pid": pid, "status": status, "words": words})
        if events:
            sandbox.reap_orphans(set(self.workers))
            strays = sandbox.children(os.getpid()) - set(self.workers)
            for event in events:
                for claim in self.claims.pop(event["pid"], []):
                    os.close(claim)
                clean = self.clean.pop(event["pid"]) and not strays
                send_with_fds(self.sock, {**event, "clean": clean})


def _has_ended(pid: int) -> bool:
    """Whether child *pid* has, and waits to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
