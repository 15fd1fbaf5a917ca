"""What a worker can do and cannot do after ``enter``, tried from inside, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from in_the_sandbox import copy_for_others

import kernelgrove
from kernelgrove.engine.evaluator.sandbox import (
    REQUIRED,
    Policy,
    SandboxError,
    clean_environment,
    default_read_paths,
    environment,
    landlock,
    paths,
    probe,
    seccomp,
    syscalls,
)

NURSERY = Path(__file__).with_name("in_the_sandbox.py")
PACKAGE = Path(kernelgrove.__file__).parent
NOBODY = 65534
ROOT = os.geteuid() == 0
MEBI = 1 << 20

WORKS = {
    "works_lazy_import": "wave 2",
    "works_scratch": "text",
    "works_gcc": "compiled",
    "works_python": "7",
    "stream_pair": "passes",
    "works_priorities": "1 core, niceness 1",
    "ask_again_for_parent": "worked",
    "score": "1000",
    "no_new_privileges": "1",
}
WORKS_IN_TORCH = {"works_torch": "True", "works_threads": str(float(512**3))}
#: attempt -> (the layer that stops it, how its result begins)
STOPPED = {
    "read_secret": ("landlock_files", "PermissionError"),
    "list_folder": ("landlock_files", "PermissionError"),
    "list_home": ("landlock_files", "PermissionError"),
    "read_shadow": ("landlock_files", "PermissionError"),
    "write_to_library": ("landlock_files", "PermissionError"),
    "write_to_shm": ("landlock_files", "PermissionError"),
    "write_to_tmp": ("landlock_files", "PermissionError"),
    "write_core_pattern": ("landlock_files", "PermissionError"),
    "truncate_secret": ("landlock_files", "PermissionError"),
    "parent_environment": ("landlock_files", "PermissionError"),
    "parent_memory": ("landlock_files", "PermissionError"),
    "kill_parent": ("landlock_signals", "PermissionError"),
    "ptrace_parent": ("seccomp", "errno 1"),
    "read_parent_memory": ("seccomp", "errno 1"),
    "limit_parent": ("seccomp", "PermissionError"),
    "renice_parent": ("seccomp", "PermissionError"),
    "pin_parent": ("seccomp", "PermissionError"),
    "reschedule_parent": ("seccomp", "PermissionError"),
    "delay_parents_disk": ("seccomp", "errno 1"),
    "tcp": ("seccomp", "PermissionError"),
    "udp": ("seccomp", "PermissionError"),
    "netlink": ("seccomp", "PermissionError"),
    "connect_unix": ("seccomp", "PermissionError"),
    "datagram_pair": ("seccomp", "PermissionError"),
    "raw_pair": ("seccomp", "PermissionError"),
    "raw_unix": ("seccomp", "PermissionError"),
    "clone_sibling": ("seccomp", "errno 1"),
    "new_user_namespace": ("seccomp", "errno 1"),
    "clone_namespace": ("seccomp", "errno 1"),
    "io_uring": ("seccomp", "errno 1"),
    "shared_memory": ("seccomp", "errno 1"),
    "forget_parent": ("seccomp", "errno 1"),
    "send_orphans_away": ("seccomp", "errno 1"),
    "renice_user": ("seccomp", "PermissionError"),
    "nameless_memory": ("seccomp", "PermissionError"),
    "become_root": ("capabilities", ("PermissionError", "OSError: [Errno 22]")),  # 22: no user 0 in its namespace
    "much_memory": ("memory_limit", "MemoryError"),
    "long_file": ("limits", "OSError: [Errno 27]"),
    "many_descriptors": ("limits", "OSError: [Errno 24]"),
    "interfaces": ("network_namespace", "lo"),
}
SEEN = ("environment_names", "open_descriptors", "identity")


def make_policy(scratch: str, **changes: Any) -> Policy:
    values: dict[str, Any] = {
        **{"read": (), "scratch": scratch, "gpu": False, "uid": 64999 if ROOT else None, "memory_bytes": 2048 * MEBI},
        **{"cpu_s": 60, "file_bytes": 8 * MEBI, "open_files": 256, "processes": 128},
    }
    return Policy(**{**values, **changes})


def ask(folder: Path, policy: Policy, python: str = sys.executable, search: list[str] | None = None, **question: Any):
    """Run the small nursery with *policy*; the answer it prints."""
    user: dict[str, Any] = question.pop("user", {})
    nursery = question.pop("nursery", NURSERY)
    env = {**clean_environment(policy.scratch), **question.pop("env", {})}
    text = json.dumps({"path": search or sys.path, "policy": asdict(policy), **question})
    done = subprocess.run(
        [python, "-P", str(nursery), text],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        **user,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def active(answer: dict[str, Any]) -> dict[str, bool]:
    return {layer["name"]: layer["active"] for layer in answer["layers"]}


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that anybody may read, with a secret, a scratch folder and a copy of the sandbox in it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "secret").write_text("seed 1234")
    (folder / "secret").chmod(0o666)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def listener(open_folder: Path) -> Iterator[str]:
    path = str(open_folder / "listener")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        Path(path).chmod(0o777)
        server.listen()
        yield path


def facts(folder: Path, listener: str) -> dict[str, Any]:
    library = paths.sysconfig.get_path("stdlib")
    return {
        **{"secret": str(folder / "secret"), "folder": str(folder), "home": str(Path.home()), "listener": listener},
        **{"library": library, "judge": os.getpid()},
    }


@pytest.fixture(scope="module")
def with_torch(open_folder: Path, listener: str) -> dict[str, Any]:
    """All attempts in a worker forked from a process that has imported torch: as root, a private user."""
    scratch = open_folder / "scratch-torch"
    scratch.mkdir()
    attempts = [*WORKS_IN_TORCH, *WORKS, *SEEN, *STOPPED]
    policy = make_policy(str(scratch), read=default_read_paths())
    return ask(open_folder, policy, imports=["torch"], facts=facts(open_folder, listener), attempts=attempts)


@pytest.fixture(scope="module")
def ordinary(open_folder: Path, listener: str) -> dict[str, Any]:
    """The same with no privilege at all: user 65534 under the system's interpreter, or whoever runs the tests."""
    scratch, search, python, user = open_folder / "scratch-user", sys.path, sys.executable, {}
    scratch.mkdir()
    nursery = NURSERY
    if ROOT:
        copied = copy_for_others(PACKAGE, open_folder)
        if copied is None:
            pytest.skip("no system interpreter that another user can read and that is 3.11 or newer")
        (python, search), nursery = copied, open_folder / NURSERY.name
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        os.chown(scratch, NOBODY, NOBODY)
    known = facts(open_folder, listener)
    if ROOT:
        known["library"] = "/usr/lib/python3"
    attempts = [*WORKS, *SEEN, *STOPPED]
    policy = make_policy(str(scratch), uid=None)
    return ask(open_folder, policy, python, search, user=user, nursery=nursery, facts=known, attempts=attempts)


@pytest.mark.parametrize("attempt", [*WORKS_IN_TORCH, *WORKS])
def test_worker_still_works(with_torch: dict[str, Any], attempt: str) -> None:
    assert with_torch["results"][attempt] == {**WORKS_IN_TORCH, **WORKS}[attempt]


@pytest.mark.parametrize("attempt", STOPPED)
def test_worker_is_stopped(with_torch: dict[str, Any], attempt: str) -> None:
    check_stopped(with_torch, attempt)


@pytest.mark.parametrize("attempt", WORKS)
def test_ordinary_user_still_works(ordinary: dict[str, Any], attempt: str) -> None:
    assert ordinary["results"][attempt] == WORKS[attempt]


@pytest.mark.parametrize("attempt", STOPPED)
def test_ordinary_user_is_stopped(ordinary: dict[str, Any], attempt: str) -> None:
    check_stopped(ordinary, attempt)


def check_stopped(answer: dict[str, Any], attempt: str) -> None:
    layer, beginning = STOPPED[attempt]
    if not active(answer)[layer]:
        why = next(entry["why"] for entry in answer["layers"] if entry["name"] == layer)
        pytest.skip(f"{layer} is missing here: {why}")
    assert answer["results"][attempt].startswith(beginning)


def test_worker_sees_nothing_of_the_caller(with_torch: dict[str, Any], open_folder: Path) -> None:
    results = with_torch["results"]
    assert environment.forbidden(results["environment_names"].split()) == ()
    assert results["open_descriptors"] == "pipe"  # the one it was told to keep, not the file the nursery had open
    assert results["identity"].endswith(f"session True {open_folder}/scratch-torch")


def test_every_layer_is_reported_and_entering_is_quick(with_torch: dict[str, Any]) -> None:
    assert [layer["name"] for layer in with_torch["layers"]] == list(REQUIRED)
    assert {layer["name"] for layer in with_torch["layers"] if layer["required"]} == {"environment", "session"}
    assert all(layer["active"] or layer["why"] for layer in with_torch["layers"])
    assert with_torch["enter_ms"] < 100  # 6-10 ms on an idle machine; this one may be busy


@pytest.mark.skipif(not ROOT, reason="only root can change its user")
def test_root_changes_user_even_where_the_interpreter_is_closed_to_it(with_torch: dict[str, Any]) -> None:
    assert active(with_torch)["user"]
    assert "(64999, 64999, 64999) [64999]" in with_torch["results"]["identity"]
    kept = next(layer["why"] for layer in with_torch["layers"] if layer["name"] == "capabilities")
    assert kept in ("none", "none but CAP_DAC_READ_SEARCH")


@pytest.mark.skipif(not ROOT, reason="shows what root is without a user to become")
def test_root_without_a_user_has_no_power(open_folder: Path, listener: str) -> None:
    scratch = open_folder / "scratch-root"
    scratch.mkdir()
    attempts = ["works_scratch", "works_gcc", "write_core_pattern", "parent_environment", "kill_parent", "read_secret"]
    policy = make_policy(str(scratch), read=default_read_paths(), uid=None)
    answer = ask(open_folder, policy, facts=facts(open_folder, listener), attempts=attempts)
    assert [answer["results"][name] for name in attempts[:2]] == ["text", "compiled"]
    for name in attempts[2:]:
        assert answer["results"][name].startswith("PermissionError"), name
    assert not active(answer)["user"] and not active(answer)["process_limit"] and active(answer)["capabilities"]


@pytest.mark.skipif(not ROOT, reason="only root can change its user")
def test_scratch_works_below_a_folder_that_is_closed_to_the_user(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    attempts = ["works_where_the_folder_above_is_closed", "works_gcc", "works_python"]
    answer = ask(tmp_path, make_policy(str(scratch)), attempts=attempts)
    assert list(answer["results"].values()) == ["True True", "compiled", "7"]
    assert active(answer)["user"]


def test_a_missing_required_layer_refuses(open_folder: Path) -> None:
    scratch = open_folder / "scratch-dirty"
    scratch.mkdir()
    secret = {"env": {"OPENAI_API_KEY": "sk-1", "NVIDIA_API_KEY": "nv-1", "OMP_NUM_THREADS": "1"}}
    refused = ask(open_folder, make_policy(str(scratch)), attempts=["score"], **secret)
    assert refused["results"] == {}
    assert refused["error"].startswith("SandboxError: The sandbox lacks")
    assert "environment (NVIDIA_API_KEY, OPENAI_API_KEY can be read" in refused["error"]
    allowed = ask(open_folder, make_policy(str(scratch), allow_unsafe=True), attempts=["score"], **secret)
    assert allowed["results"]["score"] == "1000" and not active(allowed)["environment"]


def test_sandbox_error_is_an_environment_that_lacks_something() -> None:
    error = SandboxError(())
    assert error.exit_code == 3 and error.cure


def test_network_may_be_allowed(open_folder: Path, listener: str) -> None:
    scratch = open_folder / "scratch-network"
    scratch.mkdir()
    attempts = ["tcp", "udp", "connect_unix", "read_secret"]
    policy = make_policy(str(scratch), network=True)
    answer = ask(open_folder, policy, facts=facts(open_folder, listener), attempts=attempts)
    assert [answer["results"][name] for name in attempts[:3]] == ["worked"] * 3
    assert not active(answer)["network_namespace"] and not active(answer)["landlock_tcp"]
    check_stopped(answer, "read_secret")


def test_cpu_time_is_limited(open_folder: Path) -> None:
    scratch = open_folder / "scratch-cpu"
    scratch.mkdir()
    answer = ask(open_folder, make_policy(str(scratch), cpu_s=1), attempts=["spin"])
    assert os.WIFSIGNALED(answer["status"])
    assert os.WTERMSIG(answer["status"]) == 24  # SIGXCPU


def test_probe_reports_every_layer(tmp_path: Path) -> None:
    layers = probe(make_policy(str(tmp_path), read=default_read_paths()))
    assert [layer.name for layer in layers] == list(REQUIRED)
    by_name = {layer.name: layer for layer in layers}
    assert by_name["environment"].active and by_name["session"].active and by_name["limits"].active
    assert by_name["landlock_files"].active == (landlock.ABI > 0)
    assert by_name["seccomp"].active == (syscalls.AUDIT_ARCH is not None)


def test_probe_tells_a_layer_that_is_claimed_but_does_not_hold(tmp_path: Path) -> None:
    if not landlock.ABI:
        pytest.skip(landlock.ABSENT)
    layers = probe(make_policy(str(tmp_path), read=(*default_read_paths(), tempfile.gettempdir())))
    files = next(layer for layer in layers if layer.name == "landlock_files")
    assert not files.active and "could be read" in files.why


def test_probe_that_cannot_answer_says_why(tmp_path: Path) -> None:
    layers = probe(make_policy(str(tmp_path), open_files="many"))
    assert len(layers) == len(REQUIRED) and not any(layer.active for layer in layers)
    assert "the probe failed" in layers[0].why


# ------------------------------------------------------------------------------------------------------- its parts


def test_clean_environment_takes_over_only_where_cuda_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    env = clean_environment("/scratch", {"OMP_NUM_THREADS": "2"})
    assert env["CUDA_VISIBLE_DEVICES"] == "1" and "CUDA_HOME" not in env and "OPENAI_API_KEY" not in env
    assert all(env[name].startswith("/scratch") for name in ("HOME", "TMPDIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME"))
    assert env["OMP_NUM_THREADS"] == "2" and environment.forbidden(env) == ()
    for name in ("HF_TOKEN", "NVIDIA_API_KEY", "SSH_AUTH_SOCK"):
        with pytest.raises(ValueError, match=name):
            clean_environment("/scratch", {name: "x"})


def test_read_paths_leave_out_home_and_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    venv = project / ".venv"
    (venv / "lib").mkdir(parents=True)
    (project / "grove.db").touch()
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "prefix", str(venv))
    monkeypatch.setenv("HOME", str(tmp_path))
    read = default_read_paths()
    assert str(venv / "lib") in read and "/usr" in read
    for private in (project, project / "grove.db", tmp_path, Path.home()):
        assert not any(path == str(private) or str(private).startswith(path + "/") for path in read)
    assert len(read) == len(set(read)) and all(Path(path).exists() for path in read)


def test_a_working_directory_below_a_system_folder_is_cut_out(tmp_path: Path) -> None:
    for name in ("bin/tool", "src/app/problem.py", "src/other/file"):
        (tmp_path / "opt" / name).parent.mkdir(parents=True)
        (tmp_path / "opt" / name).touch()
    app = str(tmp_path / "opt/src/app")
    kept = list(paths._without(str(tmp_path / "opt"), {app}))
    assert kept == [str(tmp_path / "opt/bin"), str(tmp_path / "opt/src/other")]
    assert list(paths._without(app, {app})) == []


def test_closed_to_names_the_folder_in_the_way(tmp_path: Path) -> None:
    inner = tmp_path / "closed/inner"
    inner.mkdir(parents=True)
    (inner / "file").touch(mode=0o644)
    for folder in (tmp_path, inner):
        folder.chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    owner = os.geteuid()
    assert paths.closed_to([str(inner / "file")], owner, {0}) is None
    blocked = paths.closed_to([str(inner / "file")], NOBODY, {NOBODY})
    assert blocked is not None and str(inner).startswith(blocked)
    assert paths.closed_to([str(tmp_path / "absent")], owner, {0}) is None


def test_filter_denies_by_number_and_argument() -> None:
    """The program itself, run by a small interpreter of it: jumps land where they should on both networks."""
    number, deny, allow = syscalls.number, 0x50001, 0x7FFF0000
    if syscalls.AUDIT_ARCH is None:
        pytest.skip(f"no deny-list for {syscalls.MACHINE}")
    cases = [
        (number("ptrace"), (), deny, deny),
        (number("socket"), (1, 1), allow, allow),
        (number("socket"), (1, 2 | 0o2000000), deny, allow),
        (number("socket"), (2, 1), deny, allow),
        (number("connect"), (), deny, allow),
        (number("clone"), (0x11,), allow, allow),
        (number("clone"), (0x10000011,), deny, deny),
        (number("clone"), (0x8011,), deny, deny),  # CLONE_PARENT
        (number("socket"), (1, 3), deny, allow),  # SOCK_RAW: a datagram socket by another name
        (number("socket"), (1, 5 | 0o4000), allow, allow),
        (number("socketpair"), (1, 3), deny, allow),
        (number("clone3"), (), 0x50026, 0x50026),
        (number("prctl"), (1, 9), allow, allow),
        (number("prctl"), (1, 0), deny, deny),
        (number("prctl"), (36, 0), deny, deny),
        (number("prctl"), (15, 0), allow, allow),
        (number("prlimit64"), (0, 7), allow, allow),
        (number("prlimit64"), (1234, 7), deny, deny),
        (number("sched_setaffinity"), (0, 8), allow, allow),
        (number("sched_setaffinity"), (1234, 8), deny, deny),
        (number("sched_setscheduler"), (1234, 5), deny, deny),
        (number("setpriority"), (0, 0, 5), allow, allow),
        (number("setpriority"), (0, 1234, 5), deny, deny),
        (number("setpriority"), (2, 0, 5), deny, deny),  # all of this user
        (number("ioprio_set"), (1, 0, 3), allow, allow),
        (number("ioprio_set"), (1, 1234, 3), deny, deny),
        (number("ioprio_set"), (3, 0, 3), deny, deny),
        (number("memfd_create"), (), deny, deny),
        (0, (), allow, allow),
    ]
    closed_to, open_to = seccomp.program(network=False, gpu=False), seccomp.program(network=True, gpu=False)
    for nr, arguments, closed, opened in cases:
        assert (run(closed_to, nr, arguments), run(open_to, nr, arguments)) == (closed, opened), (nr, arguments)
    assert run(closed_to, number("ptrace"), (), arch=0x40000003) == deny
    assert run(seccomp.program(network=False, gpu=True), number("memfd_create"), ()) == allow


def run(program: bytes, nr: int | None, arguments: tuple[int, ...], arch: int | None = None) -> int:
    """Interpret a classic BPF program over one ``struct seccomp_data``; what it returns."""
    import struct

    data = struct.pack("=iIQ6Q", nr, arch or syscalls.AUDIT_ARCH, 0, *arguments, *[0] * (6 - len(arguments)))
    at, accumulator = 0, 0
    while True:
        code, true, false, constant = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == 0x06:
            return constant
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, constant)[0]
        elif code == 0x54:
            accumulator &= constant
        else:
            holds = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: accumulator & constant}[code]
            at += true if holds else false
