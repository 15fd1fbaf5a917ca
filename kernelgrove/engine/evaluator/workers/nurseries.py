"""The judge's side of nurseries: start one, fork workers, freeze, kill and bury them."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kernelgrove.errors import EvaluatorError

from .. import sandbox
from ..wire.protocol import PeerGone, ProtocolBreak, Reply, receive_with_fds, send_patiently, send_with_fds
from .handle import KILL_LIMIT_S, Order, Worker, WorkerDied, WorkerTimeout

_OBEY_LIMIT_S = 15.0  # a nursery may be killing a fork bomb meanwhile
_START_LIMIT_S = 120.0  # importing torch took 16 s once on a loaded two-core machine


#: Nurseries of this process that were not closed, and what is held while one is started: it must not be a stranger.
_NURSERIES: set[subprocess.Popen[bytes]] = set()
_STARTING = threading.Lock()


def _started(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    with _STARTING:
        process = subprocess.Popen(command, **options)
        _NURSERIES.add(process)
        return process


class Nursery:
    """One nursery process and its workers. Thread-safe. ``policy`` is what every worker of it gets."""

    def __init__(self, mode: str, policy: sandbox.Policy, environment: Mapping[str, str]) -> None:
        self.mode = mode
        self._policy = policy
        self._home = sandbox.Home()
        self._home.path.chmod(0o755)  # each worker's folder in it is its own user's alone
        self._environment = {**environment, **({"TRITON_INTERPRET": "1"} if mode == "interpret" else {})}
        self._changed = threading.Condition()
        self._ids = itertools.count(1)
        self._forked: dict[int, tuple[int, str]] = {}  # by fork: its pid, or 0 and why there is none
        self._obeyed: dict[int, bool] = {}
        self._hostile: set[int] = set()  # workers that have run a candidate's code
        self._frozen: dict[int, float] = {}  # since when, by the monotonic clock
        self._slept: dict[int, float] = {}  # how long in all, seconds
        self._exited: dict[int, tuple[str, bool]] = {}  # pid -> how it ended, and whether nothing of it is left
        self._late: dict[int, Callable[[], None]] = {}  # what to do when a worker that was given up is gone
        self._never: list[Callable[[], None]] = []  # and of whom something outlived it: what is held is held for good
        self._users: dict[int, sandbox.PrivateUser | None] = {}  # of workers that were not closed, by pid
        self._ready = self._closed = False
        self._gone: str | None = None
        self._settled = threading.Event()  # once it is gone: what its workers left is looked after
        self._clean = False  # and nothing of it runs any more
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock = ours
        self._sending = threading.Lock()
        with theirs, (self._home.path / "log").open("wb") as log:
            self._process = _started(
                _command(mode, theirs.fileno(), import_paths()),
                env=sandbox.clean_environment(str(self._home.path), self._environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home.path,
                start_new_session=True,
            )
        threading.Thread(target=self._listen, name=f"nursery-{mode}", daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._gone is None

    def is_dead(self, timeout_s: float) -> bool:
        """Whether it has died, as far as is known within *timeout_s*."""
        with self._changed:
            return self._changed.wait_for(lambda: self._gone is not None, timeout_s)

    def _listen(self) -> None:
        try:
            while True:
                event, _ = receive_with_fds(self._sock)
                with self._changed:
                    if event["event"] == "ready":
                        self._ready = True
                    elif event["event"] == "forked":
                        self._forked[event["id"]] = (event["pid"], event.get("why", ""))
                        if event["pid"] not in self._users:  # else one that had this number has not been closed yet
                            self._exited.pop(event["pid"], None)
                    elif event["event"] == "obeyed":
                        self._obeyed[event["id"]] = event["still"]
                    elif event["event"] == "exited":
                        self._end(event["pid"], event["words"], event["clean"])
                    self._changed.notify_all()
        except (PeerGone, OSError, ValueError) as error:
            with self._changed:
                self._gone = str(error)
                self._changed.notify_all()
            self._bury()

    def _end(self, pid: int, words: str, clean: bool) -> None:
        """Worker *pid* has ended. One that was given up before is nobody's, and its number will be another's."""
        once_clean = self._late.pop(pid, None)
        if once_clean is None:
            self._exited.setdefault(pid, (words, clean))
            return
        self._users.pop(pid, None)
        if clean:
            threading.Thread(target=once_clean, name="late", daemon=True).start()
        else:
            self._never.append(once_clean)

    def _bury(self) -> None:
        """Kill what its workers had started: they die with it, and nobody else looks after their daemons now."""
        try:
            if not self._closed:
                self._process.kill()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                sandbox.kill_tree(self._process.pid)
            with self._changed:
                uids = [user.uid for user in self._users.values() if user is not None]
            with _STARTING:
                keep = {process.pid for process in _NURSERIES if process.poll() is None}
                self._clean = sandbox.kill_strays(keep, uids)
        finally:
            self._settled.set()

    def wait_ready(self) -> None:
        """Raises EvaluatorError with the nursery's own last words when it does not come up."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._gone is not None, _START_LIMIT_S)
            if self._ready and self._gone is None:
                return
        log = self._home.path / "log"
        last = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
        raise EvaluatorError(
            f"the {self.mode} nursery did not start: {' | '.join(last) or 'no word from it'}.",
            "Run `kernelgrove doctor`.",
        )

    def fork(self, device: str, facts: Mapping[str, Any], order: Order, timeout_s: float = 30.0) -> Worker:
        """A fresh sandboxed worker, ready for a candidate."""
        prepared = order.prepared
        self.wait_ready()
        if prepared is None or prepared.scratch is None:
            scratch = tempfile.mkdtemp(prefix="w", dir=self._home.path)
        else:
            scratch = prepared.scratch
            Path(scratch).mkdir(mode=0o700)
        if prepared is not None:
            shutil.copytree(prepared.folder, scratch, dirs_exist_ok=True)
        user = sandbox.claim_user()
        policy = {**asdict(self._policy), "scratch": scratch, "uid": user.uid if user else self._policy.uid}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = next(self._ids)
        message = {"op": "fork", "id": number, "mode": self.mode, "device": device, "facts": dict(facts)}
        message |= {"policy": policy, "precision": order.precision, "one_queue": order.one_queue}
        try:
            with theirs, self._sending:
                # It kills all that is this user's once this process is gone, and must not kill who has it by then.
                claim = [] if user is None else [user.fileno()]
                send_patiently(self._sock, message, [theirs.fileno(), *claim])
            with self._changed:
                self._changed.wait_for(lambda: number in self._forked or self._gone is not None, timeout_s)
                pid, why = self._forked.pop(number, (0, f"it {'died' if self._gone else 'does not answer'}"))
                taken = pid in self._users
                if pid and not taken:
                    self._users[pid] = user
            if taken:
                self.kill(pid)  # nothing of the candidate's has run in it
                why = f"the number {pid} is still in use for a worker that has ended"
            if not pid or taken:
                raise EvaluatorError(f"the {self.mode} nursery: {why}.")
        except (EvaluatorError, PeerGone, OSError) as error:
            ours.close()
            sandbox.remove(scratch)
            if user is not None:
                user.release()
            raise EvaluatorError(f"no worker could be started: {error}") from error
        worker = Worker(self, ours, pid, scratch, user)
        try:
            worker.layers = worker.answer(Reply.READY, timeout_s)["layers"]
        except (WorkerDied, WorkerTimeout, ProtocolBreak) as error:
            worker.close()
            raise EvaluatorError(f"a worker did not enter its sandbox: {error}. {self._last_words()}") from error
        return worker

    def _last_words(self) -> str:
        text = (self._home.path / "log").read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else ""

    def kill(self, pid: int, reason: str = "") -> None:
        try:
            with self._sending:
                send_with_fds(self._sock, {"op": "kill", "pid": pid, "reason": reason})
        except (PeerGone, OSError):
            return

    def expel(self, reason: str) -> bool:
        """Kill every worker that has run a candidate's code; whether there was any."""
        with self._changed:
            pids = list(self._hostile)
        for pid in pids:
            self.kill(pid, reason)
        for pid in pids:
            self.exit_words(pid, KILL_LIMIT_S)
        return bool(pids)

    def distrust(self, pid: int) -> None:
        """Worker *pid* is about to run a candidate: ``frozen`` stops it from now on."""
        with self._changed:
            self._hostile.add(pid)

    @contextlib.contextmanager
    def frozen(self, keep: Collection[int] = ()) -> Iterator[bool]:
        """Stop every worker that has run a candidate's code, but those in *keep*, with all that they started. True if
        all of them stand still. Inside another such block the outer one's stay stopped at the end."""
        with self._changed:
            stopped = self._hostile - self._frozen.keys() - set(keep)
            self._frozen |= dict.fromkeys(stopped, time.monotonic())
        try:
            yield not stopped or self._obey("freeze", stopped)
        finally:
            if stopped:
                self._obey("thaw", stopped)
                with self._changed:
                    for pid in stopped:
                        slept = time.monotonic() - self._frozen.pop(pid)
                        self._slept[pid] = self._slept.get(pid, 0.0) + slept

    def slept_s(self, pid: int) -> float:
        """How long worker *pid* has been stopped in all, which does not count against its limits."""
        with self._changed:
            since = self._frozen.get(pid)
            return self._slept.get(pid, 0.0) + (time.monotonic() - since if since is not None else 0.0)

    def _obey(self, op: str, pids: Collection[int]) -> bool:
        number = next(self._ids)
        try:
            with self._sending:
                send_with_fds(self._sock, {"op": op, "id": number, "pids": list(pids)})
        except (PeerGone, OSError):
            return True  # with the nursery its workers are gone
        with self._changed:
            self._changed.wait_for(lambda: number in self._obeyed or self._gone is not None, _OBEY_LIMIT_S)
            return self._obeyed.pop(number, self._gone is not None)

    def exit_words(self, pid: int, timeout_s: float) -> str | None:
        """How worker *pid* ended, or None if it has not within *timeout_s*."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._exited or self._gone is not None, timeout_s)
            known = self._exited.get(pid)
            return known[0] if known else "its nursery died" if self._gone is not None else None

    def is_clean(self, pid: int) -> bool:
        """Whether worker *pid* has ended, and all that it started."""
        with self._changed:
            gone, known = self._gone is not None, self._exited.get(pid)
        if gone and known is None:
            return self._settled.wait(KILL_LIMIT_S) and self._clean
        return known is not None and known[1]

    def forget(self, pid: int, once_clean: Callable[[], None] | None = None) -> None:
        """Drop what is known of worker *pid*. *once_clean* is called when it has ended, and all that it started, if it
        does so before its nursery: as long as that is there, nobody else gets what is its."""
        with self._changed:
            known = self._exited.pop(pid, None)
            self._hostile.discard(pid)
            self._slept.pop(pid, None)
            if once_clean is None or pid not in self._users:  # closed before: its number may be another's by now
                self._users.pop(pid, None)
                return
            self._late[pid] = once_clean
            if known is not None:  # it has just ended
                self._end(pid, *known)

    def close(self) -> None:
        """Hang up, upon which the nursery kills its workers and ends, and remove all that they wrote."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # closing alone would not end the listener's recv, nor the nursery
        self._sock.close()
        self._settled.wait(2 * KILL_LIMIT_S)
        _NURSERIES.discard(self._process)
        self._home.remove()


def import_paths() -> list[str]:
    """The ``sys.path`` of a nursery: this package's root first (taken off again once it is imported), then what holds
    the standard library, torch, triton and numpy. Other folders of the caller's are none of a worker's business, and
    a copy of some library in one of them would shadow the one that a worker may read."""
    root = str(Path(__file__).resolve().parents[4])
    own = (sys.prefix, sys.base_prefix)
    kept = [
        path
        for path in sys.path
        if path.startswith(own) or any(Path(path, name).is_dir() for name in ("torch", "triton", "numpy"))
    ]
    return list(dict.fromkeys([root, *(path for path in kept if Path(path).is_absolute())]))


def _command(mode: str, fd: int, paths: list[str]) -> list[str]:
    """The command line that starts a nursery: isolated (``-I``), with *paths* as its ``sys.path``."""
    program = f"import sys; sys.path[:] = {json.dumps(paths)}; "
    program += f"from kernelgrove.engine.evaluator.inside.nursery import main; main({fd}, {mode!r})"
    return [sys.executable, "-I", "-c", program]
