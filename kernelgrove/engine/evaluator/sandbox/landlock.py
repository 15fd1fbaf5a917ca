"""Landlock: which files, TCP ports and processes a worker may reach. ABI 1 (Linux 5.13) to 7 (6.15).

Rights and structures: ``include/uapi/linux/landlock.h``. A ruleset is built while paths can still be opened,
and put in force later, after ``no_new_privs``.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from . import syscalls

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ABI_1 = (1 << 13) - 1
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11

READ = EXECUTE | READ_FILE | READ_DIR
DEVICE = READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV
FULL = (_ABI_1 | REFER | TRUNCATE) & ~(_MAKE_CHAR | _MAKE_BLOCK)
#: The only rights that a rule on something other than a directory may name.
_ON_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

_NET_TCP = 0b11  # bind, connect
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2
_QUERY_VERSION, _RULE_PATH_BENEATH = 1, 1


def _query() -> tuple[int, str]:
    try:
        return syscalls.call("landlock_create_ruleset", None, 0, _QUERY_VERSION), ""
    except OSError as error:  # ENOSYS: not built in; EOPNOTSUPP: not in the kernel's lsm= list
        return 0, f"Landlock is off in this kernel ({error.strerror}); it needs Linux 5.13 or newer with lsm=landlock"


#: The kernel's Landlock ABI, 0 for none, and then why.
ABI, ABSENT = _query()


@dataclass(frozen=True)
class Ruleset:
    """A built ruleset: its descriptor, and the paths that could not be added (with the reason)."""

    descriptor: int
    left_out: tuple[str, ...]

    def enforce(self) -> None:
        """Put it in force for this thread and what it starts. Needs no_new_privs; raises OSError."""
        try:
            syscalls.call("landlock_restrict_self", self.descriptor, 0)
        finally:
            os.close(self.descriptor)


def handled(network: bool) -> tuple[int, int, int]:
    """What this kernel can deny: file rights, TCP rights (none where *network* is allowed), scopes."""
    files = _ABI_1
    if ABI >= 2:
        files |= REFER
    if ABI >= 3:
        files |= TRUNCATE
    if ABI >= 5:
        files |= IOCTL_DEV
    return files, _NET_TCP if ABI >= 4 and not network else 0, _scopes(network)


def _scopes(network: bool) -> int:
    if ABI < 6:
        return 0
    return _SCOPE_SIGNAL if network else _SCOPE_SIGNAL | _SCOPE_ABSTRACT_UNIX


def build(rules: Iterable[tuple[str, int]], network: bool) -> Ruleset:
    """A ruleset that allows *rules*, (path, rights) each, and denies every other file.

    A path that does not exist is passed over, one that cannot be opened is named in ``left_out``. Raises OSError
    where Landlock is absent.
    """
    files, net, scopes = handled(network)
    words = (files,) if ABI < 4 else (files, net) if ABI < 6 else (files, net, scopes)
    attribute = struct.pack(f"={len(words)}Q", *words)
    descriptor = syscalls.call("landlock_create_ruleset", attribute, len(attribute), 0)
    left_out = []
    for path, rights in rules:
        try:
            _allow(descriptor, path, rights & files)
        except FileNotFoundError:
            continue
        except OSError as error:
            left_out.append(f"{path} ({error.strerror})")
    return Ruleset(descriptor, tuple(left_out))


def _allow(ruleset: int, path: str, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= _ON_A_FILE
        syscalls.call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, beneath), 0)
    finally:
        os.close(beneath)
