"""Which files a worker may read: the interpreter, its packages, system libraries. Never a home or working directory."""

from __future__ import annotations

import importlib.util
import os
import pwd
import stat
import sys
import sysconfig
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store")
#: Of /etc only what libraries ask for: no keys, no accounts but names, no service configuration.
_ETC = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "alternatives", "nsswitch.conf", "passwd"),
    *("group", "localtime", "timezone", "locale.alias", "os-release", "debian_version", "gai.conf", "host.conf"),
    *("hosts", "mime.types", "nvidia", "cufile.json", "OpenCL", "ssl/openssl.cnf", "ssl/certs", "pki/tls/openssl.cnf"),
    *("crypto-policies", "gcrypt"),
)
_SYS = ("bus", "class", "dev", "devices", "module", "fs/cgroup", "kernel/mm")
#: Of a prefix: what interpreters, compilers and conda's CUDA packages keep there.
_PREFIX = ("bin", "lib", "lib64", "libexec", "include", "nvvm", "targets", "x86_64-conda-linux-gnu", "pyvenv.cfg")
#: A home or working directory that is one of these cannot be kept out: nothing runs without them.
_INDISPENSABLE = ("/usr/bin", "/usr/lib", "/usr/lib64", "/bin", "/lib", "/lib64", "/usr/local/lib", "/usr/local/cuda")

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_GPU_DEVICES = ("nvidia*", "dri", "kfd", "dxg")


def gpu_devices() -> tuple[str, ...]:
    """The device files and folders of the GPUs on this machine."""
    return tuple(path for pattern in _GPU_DEVICES for path in sorted(map(str, Path("/dev").glob(pattern))))


def default_read_paths(never: Sequence[str] = ()) -> tuple[str, ...]:
    """The existing paths that a worker of *this* interpreter may read, symbolic links resolved, none inside another.

    Call it in the nursery (or in a process with the same ``sys.path``), before any rights are given up. Home and
    working directory, and the folders named in *never*, are not in it, nor any folder that holds one of them: such
    a folder is replaced by its other members. A virtual environment inside the working directory is in it by its
    ``lib`` and ``bin`` alone.
    """
    private = _private(never)
    found: set[str] = set()
    for path in _candidates():
        found.update(_without(os.path.realpath(path), private))
    return tuple(path for path in sorted(found) if not any(_holds(other, path) for other in found if other != path))


def _candidates() -> Iterable[str]:
    yield from _SYSTEM
    yield from (f"/etc/{name}" for name in _ETC)
    yield from (f"/sys/{name}" for name in _SYS)
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        yield from (f"{prefix}/{name}" for name in _PREFIX)
    yield from (path for path in (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")) if path)
    yield from (str(Path(module).parent) for module in (os.__file__, sys.executable) if module)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        yield from (path for path in [os.environ.get(name)] if path)
    yield from (path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/"))
    yield from (path for path in sys.path if Path(path).name in ("site-packages", "dist-packages", "lib-dynload"))
    for package in ("torch", "triton", "numpy"):
        for home in _homes(package):
            yield from (home, str(Path(home).parent))  # where the parent may not be read, the package still may
    yield str(Path(__file__).parent.parent)  # the worker module and its siblings, not the project


def _homes(package: str) -> Sequence[str]:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ()
    return list(spec.submodule_search_locations or ()) if spec else ()


def _private(never: Sequence[str]) -> frozenset[str]:
    """Folders to keep out: those named, every home this process knows of, the working directory."""
    named = [*never, os.environ.get("HOME", "")]
    try:
        named.append(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a uid without a line in the password file
        pass
    try:
        named.append(str(Path.cwd()))
    except OSError:  # deleted
        pass
    folders = {os.path.realpath(folder) for folder in named if folder}
    return frozenset(f for f in folders if not any(_holds(f, system) for system in _INDISPENSABLE))


def _holds(folder: str, path: str) -> bool:
    return folder in ("/", path) or path.startswith(folder + "/")


def _without(path: str, private: Collection[str]) -> Iterable[str]:
    """*path*, or, where it is or holds one of *private*, its members that do not."""
    if path in private or path == "/" or not Path(path).exists():
        return ()
    if not any(_holds(path, folder) for folder in private):
        return (path,)
    try:
        members = sorted(Path(path).iterdir())
    except OSError:
        return ()
    return [kept for member in members for kept in _without(os.path.realpath(member), private)]


def closed_to(paths: Iterable[str], uid: int, groups: Collection[int], *, write: bool = False) -> str | None:
    """The first file or folder that keeps user *uid* from reading (or reading and writing) one of *paths*, judged
    by owner, group and mode; None when all can be reached. Paths that do not exist are passed over."""
    seen: set[str] = set()
    for path in paths:
        for step in [*reversed(Path(path).parents), Path(path)]:
            name = str(step)
            if name in seen:
                continue
            try:
                status = step.stat()
            except FileNotFoundError:
                break
            except OSError:
                return name
            seen.add(name)
            wanted = (6 if write else 4) if name == path else 0
            if stat.S_ISDIR(status.st_mode):
                wanted |= 1
            if _mode_for(status, uid, groups) & wanted != wanted:
                return name
    return None


def _mode_for(status: os.stat_result, uid: int, groups: Collection[int]) -> int:
    if status.st_uid == uid:
        return status.st_mode >> 6 & 7
    if status.st_gid in groups:
        return status.st_mode >> 3 & 7
    return status.st_mode & 7
