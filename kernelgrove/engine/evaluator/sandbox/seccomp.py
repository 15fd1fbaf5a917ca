"""A seccomp deny-list: system calls that no kernel needs and that reach past the sandbox fail with EPERM.

Landlock leaves UDP, UNIX sockets by path and System V memory open, and a worker without a uid of its own could
reach its equals through ptrace, prlimit or a change of priority; this closes them. It is a deny-list since CUDA
drivers differ in what they call: everything not named here is allowed. ``memfd_create`` is on a GPU (some drivers need
it), and only there: no limit counts its memory.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import signal
import socket
import struct

from . import syscalls

#: Denied whatever the arguments.
DENIED = (
    # other processes' memory, descriptors, and the kernel's own
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"),
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("add_key", "request_key", "keyctl", "syslog"),
    # mounts and namespaces
    *("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr", "mount_setattr"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "unshare", "setns", "open_by_handle_at", "fanotify_init"),
    # the machine
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "acct"),
    *("swapon", "swapoff", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "iopl", "ioperm"),
    *("sethostname", "setdomainname", "quotactl", "quotactl_fd", "vhangup"),
    # memory and queues that outlive the worker
    *("shmget", "msgget", "semget", "mq_open"),
)

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]
_NR, _ARCH = 0, 4
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X32_BIT = 0x40000000
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NEW_NAMESPACES = 0x7E020000
_CLONE_PARENT = 0x8000  # a child of the nursery's: not below its worker, so not found when that is stopped
_SOCKET_TYPE = 0xF  # without SOCK_NONBLOCK and SOCK_CLOEXEC

_IOPRIO_WHO_PROCESS = 1  # <linux/ioprio.h>
_SET_MODE_FILTER, _FLAG_SPEC_ALLOW = 1, 4
_SECCOMP_MODE_FILTER = 2

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def _argument(index: int, high: bool = False) -> _Instruction:
    return (_LOAD, 0, 0, 16 + 8 * index + (4 if high else 0))  # both processors are little-endian


def _fail(code: int = errno.EPERM) -> _Instruction:
    return (_RETURN, 0, 0, _ERRNO | code)


_PASS: _Instruction = (_RETURN, 0, 0, _ALLOW)


_PID_FIRST = ("prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler")
#: Of oneself alone: a worker with the judge's uid could take its CPU time, its cores or its priority.
_OWN: list[_Instruction] = [_argument(0), (_JUMP_EQUAL, 1, 0, 0), _fail(), _PASS]


def _own(kind: int) -> list[_Instruction]:
    """As _OWN, where the first argument says what the second one is the number of: *kind* is a process."""
    return [_argument(0), (_JUMP_EQUAL, 0, 3, kind), _argument(1), (_JUMP_EQUAL, 0, 1, 0), _PASS, _fail()]


def _special(network: bool, gpu: bool) -> dict[str, list[_Instruction]]:
    """Calls decided by their arguments: what to run once the number matched; each ends in a return."""
    connected: list[_Instruction] = [  # what the kernel makes a datagram socket of has several names
        _argument(1),
        (_AND, 0, 0, _SOCKET_TYPE),
        (_JUMP_EQUAL, 2, 0, int(socket.SOCK_STREAM)),
        (_JUMP_EQUAL, 1, 0, int(socket.SOCK_SEQPACKET)),
        _fail(),
        _PASS,
    ]
    blocks: dict[str, list[_Instruction]] = {
        "clone": [_argument(0), (_JUMP_ANY_BIT, 0, 1, _NEW_NAMESPACES | _CLONE_PARENT), _fail(), _PASS],
        "clone3": [_fail(errno.ENOSYS)],  # its flags are behind a pointer; libc then uses clone
        **dict.fromkeys(_PID_FIRST, _OWN),
        "setpriority": _own(os.PRIO_PROCESS),
        "ioprio_set": _own(_IOPRIO_WHO_PROCESS),
        "prctl": [  # the parent-death signal stays SIGKILL, and orphans stay with the worker
            _argument(0),
            (_JUMP_EQUAL, 4, 0, syscalls.PR_SET_CHILD_SUBREAPER),
            (_JUMP_EQUAL, 0, 2, syscalls.PR_SET_PDEATHSIG),
            _argument(1),
            (_JUMP_EQUAL, 0, 1, int(signal.SIGKILL)),
            _PASS,
            _fail(),
        ],
    }
    # In prctl above: not PDEATHSIG jumps to _PASS, PDEATHSIG with another signal and SUBREAPER to _fail.
    if not gpu:
        blocks["memfd_create"] = [_fail()]
    if not network:
        blocks["socket"] = [_argument(0), (_JUMP_EQUAL, 1, 0, int(socket.AF_UNIX)), _fail(), *connected]
        blocks["socketpair"] = connected  # a pair of datagram sockets can still write to any path
        blocks["connect"] = [_fail()]  # UNIX sockets by path: docker.sock and its like
    return blocks


@functools.cache
def program(network: bool, gpu: bool) -> bytes:
    """The filter as ``struct sock_filter[]``; the calls that look at arguments come first."""
    code: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, syscalls.AUDIT_ARCH or 0),
        _fail(),  # 32-bit calls have other numbers
        (_LOAD, 0, 0, _NR),
    ]
    if syscalls.MACHINE == "x86_64":
        code += [(_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT), _fail(errno.ENOSYS)]
    for name, block in _special(network, gpu).items():
        nr = syscalls.number(name)
        if nr is not None:
            code += [(_JUMP_EQUAL, 0, len(block), nr), *block]
    for name in DENIED:
        nr = syscalls.number(name)
        if nr is not None:
            code += [(_JUMP_EQUAL, 0, 1, nr), _fail()]
    code.append(_PASS)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(network: bool, gpu: bool) -> None:
    """Put the filter in force for this thread and what it starts. Needs no_new_privs; raises OSError."""
    if syscalls.AUDIT_ARCH is None:
        raise OSError(errno.ENOSYS, f"the deny-list is not written for {syscalls.MACHINE}")
    code = program(network, gpu)
    bound = _Program(len(code) // 8, code)
    address = ctypes.addressof(bound)
    try:
        # SPEC_ALLOW: without it kernels before 5.16 turn on mitigations that slow the candidate down.
        syscalls.call("seccomp", _SET_MODE_FILTER, _FLAG_SPEC_ALLOW, address)
    except OSError:
        syscalls.prctl(syscalls.PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address)
