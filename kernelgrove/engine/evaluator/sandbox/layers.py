"""Entering the sandbox: every layer that this machine has, in the order that works, each tried once it is on.

Order: what needs rights or paths first (descriptors, environment, limits, network namespace, building the Landlock
ruleset), then the change of user, then what that would undo (the parent-death signal), then ``no_new_privs``, and
what needs it: Landlock, seccomp last, since it denies calls that the others make.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ....errors import EnvironmentLacks
from . import environment, identity, landlock, limits, paths, seccomp, syscalls


@dataclass(frozen=True)
class Layer:
    """One layer of the sandbox: whether it holds, and how or why not."""

    name: str
    required: bool
    active: bool
    why: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name}: {'active' if self.active else 'missing'}{': ' + self.why if self.why else ''}"


@dataclass(frozen=True)
class Policy:
    """What one worker may do. Sizes are bytes, *cpu_s* seconds of CPU over all its threads.

    *memory_bytes* is what it may allocate on top of what it was forked with; *uid* the user to become where this
    process is root, private to the worker if ``kill_tree`` is told it; *processes* how many tasks (threads count)
    it may have at a time; *scratch_bytes* what its scratch folder may hold, which its nursery sees to.
    """

    read: tuple[str, ...]
    scratch: str
    gpu: bool
    uid: int | None
    memory_bytes: int | None
    cpu_s: int
    file_bytes: int
    open_files: int
    network: bool = False
    allow_unsafe: bool = False
    processes: int = 1024
    scratch_bytes: int = 2 << 30


class SandboxError(EnvironmentLacks):
    """A required layer is missing; ``layers`` holds the whole report."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        missing = [f"{layer.name} ({layer.why})" for layer in layers if layer.required and not layer.active]
        super().__init__(
            f"The sandbox lacks what untrusted code must not run without: {', '.join(missing)}.",
            "Run `kernelgrove doctor` for the whole picture, or allow it with --allow-unsafe.",
        )
        self.layers = layers


#: Names of the layers, in the order of the report; True where a worker must not run without it.
REQUIRED = {
    "environment": True,
    "session": True,
    "descriptors": False,
    "limits": False,
    "memory_limit": False,
    "process_limit": False,
    "oom_first": False,
    "scratch": False,
    "user": False,
    "capabilities": False,
    "no_new_privs": False,
    "network_namespace": False,
    "landlock_files": False,
    "landlock_tcp": False,
    "landlock_signals": False,
    "seccomp": False,
}


_TASKS = "/proc/self/task"
_NO_DESCRIPTOR = 1 << 31  # above any


class _Missing(Exception):
    """Raised by a step whose layer does not hold, with the reason."""


class _Report:
    def __init__(self) -> None:
        self.layers: dict[str, Layer] = {}

    def step(self, name: str, action: Callable[[], str]) -> bool:
        """Do *action*, which returns how its layer holds; any OSError means that it does not."""
        try:
            why, active = action(), True
        except _Missing as missing:
            why, active = str(missing), False
        except OSError as error:
            why, active = f"{error.strerror or error}", False
        self.layers[name] = Layer(name, REQUIRED[name], active, why)
        return active

    def all(self) -> tuple[Layer, ...]:
        return tuple(self.layers[name] for name in REQUIRED)


def enter(
    policy: Policy, keep_fds: Collection[int] = (), log_fd: int | None = None, parent: int | None = None
) -> tuple[Layer, ...]:
    """Lock this process in, for good. Call it in a worker right after ``fork``, while it has one thread.

    *keep_fds* stay open beside 0, 1 and 2, which become ``/dev/null`` (1 and 2 become *log_fd* where given).
    *parent* is the process whose end must end this one (default: the parent at the time of the call); the parent
    *thread* that forked must live as long as it, and if the parent is gone already, this process kills itself.
    The working directory becomes the scratch folder, which must exist.

    Returns the report; raises SandboxError where a required layer is missing, unless the policy allows that.
    """
    parent = os.getppid() if parent is None else parent
    report = _Report()
    report.step("environment", _check_environment)
    report.step("descriptors", lambda: _close_descriptors(keep_fds, log_fd))
    report.step("oom_first", _die_first)
    devices = paths.gpu_devices() if policy.gpu else ()
    who = identity.plan(policy.uid, policy.read, policy.scratch, devices)
    # Counted now: inside a user namespace every stranger looks like user 65534.
    others = limits.tasks_of(os.getuid()) - 1 if who.uid is None else limits.tasks_of(who.uid)
    report.step("scratch", lambda: _enter_scratch(policy.scratch, who.uid))
    report.step("limits", lambda: limits.set_plain(policy.cpu_s, policy.file_bytes, policy.open_files))
    report.step("memory_limit", lambda: _limit_memory(policy))
    report.step("network_namespace", lambda: _leave_network(policy))
    ruleset: list[landlock.Ruleset] = []
    built = report.step("landlock_files", lambda: _build(policy, devices, ruleset))
    report.step("user", lambda: _become(who))
    report.step("capabilities", lambda: _check_capabilities(who.keep))
    report.step("process_limit", lambda: _limit_processes(policy.processes, others))
    report.step("session", lambda: _own_session(parent))
    report.step("no_new_privs", _no_new_privs)
    if built:
        report.step("landlock_files", lambda: _enforce(ruleset[0]))
    enforced = report.layers["landlock_files"].active
    report.step("landlock_tcp", lambda: _check_tcp(policy, enforced))
    report.step("landlock_signals", lambda: _check_signals(parent, enforced))
    report.step("seccomp", lambda: _deny_calls(policy.network, policy.gpu))
    layers = report.all()
    if not policy.allow_unsafe and any(layer.required and not layer.active for layer in layers):
        raise SandboxError(layers)
    return layers


# ------------------------------------------------------------------------------------- before the change of user


def _check_environment() -> str:
    names = set(environment.inherited_names()) | set(os.environ)
    wrong = environment.forbidden(names)
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise _Missing(f"{shown} can be read in it: the nursery was not started with clean_environment()")
    return f"{len(names)} names, none of the caller's own"


def _close_descriptors(keep_fds: Collection[int], log_fd: int | None) -> str:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    for standard in (1, 2):
        os.dup2(null if log_fd is None else log_fd, standard)
    kept = sorted({0, 1, 2, *keep_fds})
    for low, high in zip(kept, [*kept[1:], _NO_DESCRIPTOR], strict=True):
        if low + 1 < high:
            _close_between(low + 1, high - 1)
    still_open = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()} - set(kept)
    if len(still_open) > 1:  # one is the listing's own
        raise _Missing(f"{len(still_open) - 1} could not be closed")
    return f"{len(kept)} open"


def _close_between(first: int, last: int) -> None:
    try:
        syscalls.call("close_range", first, last, 0)
    except OSError:  # before Linux 5.9
        os.closerange(first, min(last + 1, os.sysconf("SC_OPEN_MAX")))


def _die_first() -> str:
    limits.die_first()
    return "oom_score_adj 1000"


def _enter_scratch(scratch: str, uid: int | None) -> str:
    if os.geteuid() == 0:
        identity.hand_over(scratch, uid or 0)
    os.umask(0o077)
    os.chdir(scratch)
    return scratch


def _limit_memory(policy: Policy) -> str:
    if policy.memory_bytes is None:
        raise _Missing("no size named by the policy")
    return limits.set_memory(policy.memory_bytes, policy.gpu)


def _leave_network(policy: Policy) -> str:
    if policy.network:
        raise _Missing("the policy allows the network")
    before = Path("/proc/self/ns/net").readlink()
    how = identity.new_network()
    if Path("/proc/self/ns/net").readlink() == before:
        raise _Missing("still in the caller's")
    return how


def _build(policy: Policy, devices: Collection[str], out: list[landlock.Ruleset]) -> str:
    if landlock.ABI == 0:
        raise _Missing(landlock.ABSENT)
    if policy.gpu:
        # Left open for good: the rule is tied to this entry of /proc, which the kernel may forget and make anew.
        os.open(_TASKS, os.O_PATH | os.O_CLOEXEC)
    out.append(landlock.build(_rules(policy, devices), policy.network))
    return "built"


def _rules(policy: Policy, devices: Collection[str]) -> Iterator[tuple[str, int]]:
    yield from ((path, landlock.READ) for path in policy.read)
    yield from ((path, landlock.DEVICE) for path in (*paths.DEVICES, *devices))
    yield "/proc", landlock.READ
    if policy.gpu:
        # cuInit opens /proc/self/task/<thread>/comm to write and fails with error 304 where it may not. No more of
        # /proc than that: /proc/sys/kernel/core_pattern belongs to user 0, whatever its capabilities.
        yield _TASKS, landlock.READ | landlock.WRITE_FILE | landlock.TRUNCATE
    yield policy.scratch, landlock.FULL


# ------------------------------------------------------------------------------------------------ and from there on


def _become(who: identity.Identity) -> str:
    identity.become(who)
    if who.uid is None:
        raise _Missing(who.why)
    if os.getresuid() != (who.uid,) * 3 or os.getresgid() != (who.uid,) * 3:
        raise _Missing(f"still user {os.getuid()}")
    return who.why


def _check_capabilities(keep: int) -> str:
    held = syscalls.capabilities()
    if held & ~keep:
        raise _Missing(f"still held: {held:#x}")
    names = {syscalls.CAP_DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH", syscalls.CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE"}
    kept = [name for bit, name in names.items() if held >> bit & 1]
    return f"none but {', '.join(kept)}" if kept else "none"


def _limit_processes(processes: int, others: int) -> str:
    uid = os.getuid()
    if uid == 0:
        raise _Missing("RLIMIT_NPROC does not bind user 0")
    limits.limit(resource.RLIMIT_NPROC, others + processes)
    return f"{processes} tasks" + (f" beside {others} of user {uid}" if others else "")


def _own_session(parent: int) -> str:
    if os.getsid(0) != os.getpid():
        os.setsid()
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the signal was asked for, which now never comes
        os.kill(os.getpid(), signal.SIGKILL)
    if os.getsid(0) != os.getpid() or syscalls.parent_death_signal() != signal.SIGKILL:
        raise _Missing("the kernel did not take it")
    return "own session, dies with its parent, keeps its orphans"


def _no_new_privs() -> str:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if not syscalls.prctl(syscalls.PR_GET_NO_NEW_PRIVS):
        raise _Missing("the kernel did not take it")
    return ""


def _enforce(ruleset: landlock.Ruleset) -> str:
    ruleset.enforce()
    _must_fail("listing /", lambda: os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY)), errno.EACCES)
    left_out = f"; could not open {', '.join(ruleset.left_out)}" if ruleset.left_out else ""
    return f"ABI {landlock.ABI}{left_out}"


def _check_tcp(policy: Policy, enforced: bool) -> str:
    if policy.network:
        raise _Missing("the policy allows the network")
    if not enforced or landlock.ABI < 4:
        raise _Missing(f"needs Landlock ABI 4, here {landlock.ABI if enforced else 'none'}")
    with socket.socket() as probe:
        _must_fail("binding a TCP port", lambda: probe.bind(("127.0.0.1", 0)), errno.EACCES)
    return "no port can be bound or reached"


def _check_signals(parent: int, enforced: bool) -> str:
    if not enforced or landlock.ABI < 6:
        raise _Missing(f"needs Landlock ABI 6, here {landlock.ABI if enforced else 'none'}")
    if parent > 0:  # 0 where it is outside this process's PID namespace
        _must_fail("signalling the parent", lambda: os.kill(parent, 0), errno.EPERM)
    return "none reaches a process outside"


def _deny_calls(network: bool, gpu: bool) -> str:
    seccomp.install(network, gpu)
    _must_fail("unshare", lambda: syscalls.call("unshare", 0), errno.EPERM)
    _must_fail("process_vm_readv", lambda: syscalls.call("process_vm_readv", 0, 0, 0, 0, 0, 0), errno.EPERM)
    if not network:
        _must_fail("a UDP socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(), errno.EPERM)
    return f"{len(seccomp.DENIED)} calls and more by their arguments"


def _must_fail(what: str, attempt: Callable[[], object], code: int) -> None:
    """Try what the layer forbids; it holds only if that fails with *code*."""
    try:
        attempt()
    except OSError as error:
        if error.errno == code:
            return
        raise _Missing(f"{what} failed with {error}, not for the layer's sake") from None
    raise _Missing(f"{what} worked in spite of it")
