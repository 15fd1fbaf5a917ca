"""Who a worker is: user, groups, capabilities, network namespace; and users that a worker can have to itself."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import syscalls
from .paths import closed_to

#: First of the private users. Below 65534, so that containers that map 65,536 users have them; in a range that
#: distributions leave to administrators or to packages hardly ever installed.
_FIRST_PRIVATE_UID, _PRIVATE_UIDS = 64100, 800


@dataclass(frozen=True)
class PrivateUser:
    """A user that no other worker on this machine has, as long as this object is open, or another process to which its
    descriptor was passed."""

    uid: int
    _claim: socket.socket

    def fileno(self) -> int:
        return self._claim.fileno()

    def release(self) -> None:
        self._claim.close()


def claim_user() -> PrivateUser | None:
    """Claim a private user for one worker at a time, so that everything of that user may be killed; None unless root.

    The claim is an abstract socket name: it ends with the processes that hold it, however they die.
    """
    if os.geteuid() != 0:
        return None
    for uid in range(_FIRST_PRIVATE_UID, _FIRST_PRIVATE_UID + _PRIVATE_UIDS):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0kernelgrove-uid-{uid}")
            return PrivateUser(uid, claim)
        except OSError:
            claim.close()
    return None


@dataclass(frozen=True)
class Identity:
    """What ``plan`` found possible: the user to become (None: stay), its groups, the capabilities to keep."""

    uid: int | None
    groups: tuple[int, ...]
    keep: int
    why: str


def plan(uid: int | None, read: Sequence[str], scratch: str, devices: Sequence[str]) -> Identity:
    """Decide, before any right is given up, whether this process can become *uid* and still reach what it needs.

    Where a folder on the way (``/root``) is closed to *uid*, CAP_DAC_READ_SEARCH is kept if held: with Landlock
    around it, it opens no more than the read paths, and unlike root the user cannot write to, signal or inspect
    anything of others.
    """
    if os.geteuid() != 0:
        return Identity(None, (), 0, "this process is not root and keeps its own user" if uid else "no user named")
    if uid is None or uid == 0:
        return Identity(None, (), _needed(0, read, devices), "no user named by the policy")
    groups = {uid}
    for device in devices:  # /dev/nvidia0 may be open to group `video` alone
        try:
            status = Path(device).stat()
        except OSError:
            continue
        if status.st_mode & 0o66 == 0o60 and not stat.S_ISDIR(status.st_mode):
            groups.add(status.st_gid)
    closed = closed_to([path for path in devices if not Path(path).is_dir()], uid, groups, write=True)
    if closed:
        return Identity(None, (), _needed(0, read, devices), f"{closed} is not open to uid {uid}")
    closed = closed_to([*read, str(Path(scratch).resolve().parent)], uid, groups)
    if closed is None:
        return Identity(uid, tuple(sorted(groups)), 0, f"uid {uid}")
    if syscalls.capabilities() >> syscalls.CAP_DAC_READ_SEARCH & 1:
        keep = 1 << syscalls.CAP_DAC_READ_SEARCH
        why = f"uid {uid}, with CAP_DAC_READ_SEARCH since {closed} is closed to it"
        return Identity(uid, tuple(sorted(groups)), keep, why)
    why = f"{closed}, on the way to what a worker reads, is not readable by uid {uid}"
    return Identity(None, (), _needed(0, read, devices), why)


def _needed(uid: int, read: Sequence[str], devices: Sequence[str]) -> int:
    """Capabilities without which root itself could not read *read* (another user's interpreter under sudo)."""
    held = syscalls.capabilities()
    if closed_to(read, uid, {0}):
        for capability in (syscalls.CAP_DAC_READ_SEARCH, syscalls.CAP_DAC_OVERRIDE):
            if held >> capability & 1:
                return 1 << capability
    if closed_to([path for path in devices if not Path(path).is_dir()], uid, {0}, write=True):
        return held & 1 << syscalls.CAP_DAC_OVERRIDE
    return 0


def hand_over(scratch: str, uid: int) -> None:
    """Give the scratch folder, and what lies in it, to *uid*. Raises OSError."""
    os.chown(scratch, uid, uid)
    for folder, folders, files in os.walk(scratch):
        for name in (*folders, *files):
            os.chown(f"{folder}/{name}", uid, uid, follow_symlinks=False)


def new_network() -> str:
    """Leave for a network namespace of our own, empty but for a loopback that is down. Raises OSError.

    A user that is not root makes a user namespace for it, in which it keeps its own number. Returns which.
    """
    if os.geteuid() == 0:
        syscalls.call("unshare", syscalls.CLONE_NEWNET)
        return "empty"
    uid, gid = os.getuid(), os.getgid()
    syscalls.call("unshare", syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)
    return "empty, in a user namespace"


def become(identity: Identity) -> None:
    """Take on *identity* for good: user, groups, and no capability but those it keeps. Raises OSError."""
    syscalls.bound_capabilities(identity.keep)
    if os.geteuid() == 0:
        _user_without_meaning()
    if identity.uid is not None:
        os.setgroups(identity.groups)
        os.setresgid(identity.uid, identity.uid, identity.uid)
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)  # until keep_capabilities says which
        os.setresuid(identity.uid, identity.uid, identity.uid)
        syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 0)
    syscalls.keep_capabilities(identity.keep)
    if identity.uid is not None:
        # A change of user makes /proc/self belong to root; CUDA and subprocess open files in it.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)


def _user_without_meaning() -> None:
    """Cut the tie between user 0 and capabilities (SECBIT_NOROOT, NO_SETUID_FIXUP, both locked).

    Being user 0 then gives none at exec, and ``access()`` heeds a kept CAP_DAC_READ_SEARCH as ``open()`` does: gcc
    asks it whether it may use TMPDIR.
    """
    try:
        syscalls.prctl(syscalls.PR_SET_SECUREBITS, 0b1111)
    except OSError:  # CAP_SETPCAP is not held; no_new_privs keeps exec from giving any
        pass
