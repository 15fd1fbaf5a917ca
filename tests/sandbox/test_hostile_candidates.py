"""Whole candidate files against one judge on the CPU: what they forge, break or leave behind costs only themselves.

The judge's side runs in this process, with real nurseries and workers.
"""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernelgrove.engine.evaluator import sandbox
from kernelgrove.engine.evaluator.checking.judged_reference import JudgedReference
from kernelgrove.engine.evaluator.cpu_bench import CpuBench
from kernelgrove.engine.evaluator.judging import judge
from kernelgrove.engine.evaluator.wire.arena import CpuArena
from kernelgrove.engine.evaluator.wire.protocol import Reply
from kernelgrove.engine.evaluator.wire.structure import pack
from kernelgrove.engine.evaluator.workers.ahead import Ahead
from kernelgrove.engine.evaluator.workers.gpu_nurseries import dry_nursery
from kernelgrove.engine.evaluator.workers.handle import Order, WorkerFailed
from kernelgrove.engine.gpus.specs import find
from kernelgrove.model import EvaluationRequest, EvaluationResult, Instance, Outcome

HEAD = """
import torch
import torch.nn as nn
import triton
import triton.language as tl


@triton.jit
def double(x_ptr, y_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, 2 * tl.load(x_ptr + at, mask=at < count, other=0.0), mask=at < count)


def launch(x):
    y = torch.empty_like(x)
    double[(triton.cdiv(x.numel(), 64),)](x, y, x.numel(), BLOCK=64)
    return y

"""
#: Says to the judge, in the name of the honest worker, whatever *change* makes of its replies.
FORGING = """
import sys
worker = sys.modules["kernelgrove.engine.evaluator.inside.worker"]
honest = worker.send_reply

def send_reply(sock, kind, number, payload):
    payload = change(kind.name, payload)
    body = worker.json.dumps(payload).encode()
    sock.send(b"KGw1" + int(kind).to_bytes(2, "little") + number.to_bytes(4, "little") + body)

worker.send_reply = send_reply
"""


def problem(forward: str, inputs: str = "[torch.randn(6, 40)]", head: str = "") -> Instance:
    source = "import torch\nimport torch.nn as nn\n\n\nclass Model(nn.Module):\n"
    body = f"{head}\n\ndef forward(self, x):\n" + textwrap.indent(textwrap.dedent(forward).strip(), "    ")
    source += textwrap.indent(body, "    ") + f"\n\n\ndef get_inputs():\n    return {inputs}\n"
    return Instance("p", str(abs(hash(source))), "full", source, "full", source)


def candidate(forward: str, before: str = "", head: str = HEAD) -> str:
    body = textwrap.indent(textwrap.dedent(forward).strip(), " " * 8)
    return f"{head}{textwrap.dedent(before)}\nclass ModelNew(nn.Module):\n    def forward(self, x):\n{body}\n"


DOUBLE = problem("return x * 2")


@pytest.fixture(scope="module")
def bench() -> Iterator[CpuBench]:
    bench = CpuBench(find("H100").facts(), 2, False)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def run(bench: CpuBench) -> Callable[..., EvaluationResult]:
    known: dict[str, JudgedReference] = {}

    def run(code: str, instance: Instance = DOUBLE, **options: Any) -> EvaluationResult:
        if instance.digest not in known:
            known[instance.digest] = JudgedReference(instance, "cpu", "default", 1 << 28)
        options = {"trials": 1, "timing": False, "timeout_s": 20.0, **options}
        return judge(bench, lambda: known[instance.digest], EvaluationRequest(instance, code, **options))

    return run


def test_an_honest_candidate_passes(run: Callable[..., EvaluationResult]):
    assert run(candidate("return launch(x)")).outcome is Outcome.OK


def test_a_long_file_is_refused_unread(run: Callable[..., EvaluationResult]):
    started = time.perf_counter()
    found = run(candidate("return launch(x)") + "def f(a, b):\n    return a + b\n" * 100_000)
    assert found.outcome is Outcome.COMPILE_ERROR and "at most 262,144" in found.message
    assert time.perf_counter() - started < 1.0  # compiling it took minutes


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def f(:\n", "line 1: def f(:"),
        ("x = '\x1b[2J", "line 1: x = '[2J)"),
        ("x = '\ud800'", "surrogates not allowed"),
        ("\0", "null"),
        ("return 1\n", "outside function"),  # parses; the worker's compiler knows
        ("x = " + "-" * 100_000 + "1", ""),
    ],
)
def test_a_file_that_is_no_python_is_a_compile_error(run: Callable[..., EvaluationResult], code: str, says: str):
    found = run(code)
    assert found.outcome is Outcome.COMPILE_ERROR and says in found.message
    assert found.message.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("kind", "change", "timing"),
    [
        ("COUNTED", {"works": [{"kind": "triton"}]}, True),
        ("COMPILED", {"seconds": float("nan")}, True),
        ("COUNTED", {"launches": float("nan")}, True),
        ("CALLED", {"unwritten": ["abc"]}, False),
        ("CALLED", {"unwritten": [7]}, False),
        ("CALLED", {"leaves": [["", 5, "float32", None]], "copied": False}, False),
        ("CALLED", {"copied": "yes"}, False),
    ],
)
def test_a_forged_reply_is_the_candidates_fault(
    run: Callable[..., EvaluationResult], kind: str, change: dict[str, Any], timing: bool
):
    forged = f"def change(kind, payload):\n    return {{**payload, **{change!r}}} if kind == {kind!r} else payload\n"
    forged = forged.replace("nan", "float('nan')")
    found = run(candidate("return launch(x)", forged + FORGING), timing=timing)
    assert found.outcome is Outcome.REJECTED and "protocol" in found.message


def test_a_message_can_be_printed(run: Callable[..., EvaluationResult]):
    found = run(candidate(r'raise ValueError("\ud800 tile \x1b[2J of odd size")'))
    assert found.outcome is Outcome.RUNTIME_ERROR and "tile [2J of odd size" in found.message
    assert found.message.encode()


def test_launches_that_are_not_counted_give_no_figure(run: Callable[..., EvaluationResult]):
    """Else the first few hundred, of next to nothing, would stand for all of them."""
    found = run(candidate("for _ in range(230):\n    launch(x[:1, :1])\nreturn launch(x)"), timing=True)
    assert found.outcome is Outcome.OK and found.time_ms is None and "231 launches" in found.message
    assert run(candidate("launch(x)\nreturn launch(x)"), timing=True).time_ms is not None


def test_the_order_of_a_dicts_keys_says_nothing(run: Callable[..., EvaluationResult]):
    instance = problem("return {'y': x * 2, 'count': [x.shape[0], x[:1]]}")
    right = candidate("return {'count': [6, launch(x)[:1] / 2], 'y': launch(x)}")
    assert run(right, instance).outcome is Outcome.OK, run(right, instance).message
    swapped = candidate("return {'count': [6, launch(x)[:1]], 'y': launch(x)}")
    assert run(swapped, instance).outcome is Outcome.WRONG_RESULT


SUMMARY = problem("return {'y': x * 2, 'total': float((x * 2).sum()), 'rows': x.shape[0], 'how': 'sum', 'none': None}")


@pytest.mark.parametrize(
    ("returned", "outcome"),
    [
        ("{'y': y, 'total': float(y.flip(0).sum()), 'rows': 6, 'how': 'sum', 'none': None}", Outcome.OK),
        ("{'y': y, 'total': 0.0, 'rows': 6, 'how': 'sum', 'none': None}", Outcome.WRONG_RESULT),
        ("{'y': y, 'total': float(y.sum()), 'rows': -5, 'how': 'sum', 'none': None}", Outcome.WRONG_RESULT),
        ("{'y': y, 'total': float(y.sum()), 'rows': 6, 'how': 'max', 'none': None}", Outcome.WRONG_RESULT),
        ("{'y': y, 'total': y.sum(), 'rows': 6, 'how': 'sum', 'none': None}", Outcome.WRONG_RESULT),
    ],
)
def test_outputs_that_are_no_tensors_are_compared(
    run: Callable[..., EvaluationResult], returned: str, outcome: Outcome
):
    found = run(candidate(f"y = launch(x)\nreturn {returned}"), SUMMARY, trials=2)
    assert found.outcome is outcome, found.message


def test_outputs_that_the_worker_does_not_describe_break_the_protocol(run: Callable[..., EvaluationResult]):
    forged = "def change(kind, payload):\n    return {**payload, 'leaves': []} if kind == 'CALLED' else payload\n"
    code = candidate("y = launch(x)\nreturn {'y': y, 'total': 0.0, 'rows': 6, 'how': '', 'none': 0}", forged + FORGING)
    assert run(code, SUMMARY).outcome is Outcome.REJECTED


EXPANDED_BUFFER = """
def __init__(self):
    super().__init__()
    self.register_buffer("ones", torch.ones(6, 1).expand(6, 40))
"""


@pytest.mark.parametrize(
    ("inputs", "forward", "honest"),
    [
        ("[torch.randn(6, 40)]", "return x.sum(1, keepdim=True).expand(-1, 8)", None),
        ("[torch.randn(6, 40)]", "return x.unfold(1, 3, 1)", None),
        ("[torch.randn(6, 1).expand(6, 40)]", "return x * 2", "return launch(x.contiguous())"),
        ("[torch.randn(6, 40)]", "return x * self.ones", None),
    ],
)
def test_tensors_whose_elements_share_memory(
    run: Callable[..., EvaluationResult], inputs: str, forward: str, honest: str | None
):
    """An expanded output, input or buffer: what the reference does, a candidate may do, and is compared element by
    element."""
    head = EXPANDED_BUFFER if "self.ones" in forward else ""
    instance = problem(forward, inputs, head)
    body = "\n".join(f"    {line}" for line in head.splitlines())
    own = f"{HEAD}\n\nclass ModelNew(nn.Module):\n{body}\n    def forward(self, x):\n        {honest or forward}\n"
    found = run(own, instance, trials=2)
    assert found.outcome is Outcome.OK, found.message
    wrong = f"y = {(honest or forward)[7:]}.clone(); y[-1, ..., -1] += 1; return y"
    last = own.replace(f"        {honest or forward}", f"        {wrong}")
    assert run(last, instance).outcome is Outcome.WRONG_RESULT


DROPPED = problem("return nn.functional.dropout(torch.tanh(x), 0.5), x * 2", "[torch.randn(32, 128)]")
OWN_NOISE = """
@triton.jit
def drop(x_ptr, y_ptr, seed, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < count, other=0.0)
    kept = tl.rand(seed, at) > 0.5
    y = 2 / (1 + tl.exp(-2 * x)) - 1
    tl.store(y_ptr + at, tl.where(kept, 2 * y, 0.0), mask=at < count)


def dropped(x, seed):
    y = torch.empty_like(x)
    drop[(triton.cdiv(x.numel(), 512),)](x, y, seed, x.numel(), BLOCK=512)
    return y
"""


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        ("return dropped(x, int(torch.randint(1 << 30, ()))), launch(x)", ""),
        ("return nn.functional.dropout(torch.tanh(x), 0.5), launch(x)", ""),
        (
            "return nn.functional.dropout(torch.tanh(torch.randn_like(x)), 0.5), launch(x)",
            "output[0]: the reference is",
        ),
        ("return dropped(x, 1234), launch(x)", "its noise repeats"),
        ("return dropped(x, int(torch.randint(1 << 30, ()))), launch(x) * 1.001", "output[1]["),
    ],
)
def test_random_outputs_come_from_the_inputs(run: Callable[..., EvaluationResult], forward: str, says: str):
    found = run(candidate(forward, OWN_NOISE), DROPPED, trials=2)
    assert (found.outcome is Outcome.OK) == (not says) and says in found.message, found.message


DEEP = """
import os

def dig(depth):
    inside = os.open(".", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=inside)
        below = os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below

dig(3000)
"""


def test_deep_folders_are_removed_and_the_user_is_free_again(
    run: Callable[..., EvaluationResult], bench: CpuBench, monkeypatch: pytest.MonkeyPatch
):
    claimed = []
    claim = sandbox.claim_user
    monkeypatch.setattr(sandbox, "claim_user", lambda: claimed.append(claim()) or claimed[-1])
    found = run(candidate("return launch(x)", DEEP))
    assert found.outcome is Outcome.OK, found.message
    assert all(user._claim.fileno() == -1 for user in claimed if user is not None)
    with bench.fork(Order()) as worker:
        assert [path.name for path in Path(worker.scratch).parent.glob("w*")] == [Path(worker.scratch).name]


CACHE = """
import os, shutil
shutil.rmtree(os.environ["TRITON_CACHE_DIR"], ignore_errors=True)
"""


@pytest.mark.parametrize("what", ["os.symlink({secret!r}, os.environ['TRITON_CACHE_DIR'])", "dig(1500)"])
def test_a_candidate_is_compiled_ahead_without_the_judges_rights(
    bench: CpuBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    (tmp_path / "key").write_text("secret")
    before = CACHE + DEEP.replace("dig(3000)", "") + what.format(secret=str(tmp_path))
    monkeypatch.setattr("kernelgrove.engine.evaluator.workers.ahead.Standby", lambda *_: bench.compiling)
    ahead = Ahead(dry_nursery(bench.policy, {}), bench.facts)
    try:
        prepared = ahead.compile(EvaluationRequest(DOUBLE, candidate("return launch(x)", before), timeout_s=20.0))
        copied = [path for path in (prepared.folder.rglob("*") if prepared else ()) if path.is_file()]
        assert not [path for path in copied if path.name == "key"]
        assert copied or "symlink" in what
    finally:
        ahead._home.remove()


FILLING = """
import os, time

def fill():
    for number in range(60):
        with open(f"file{number}", "wb") as file:
            file.write(bytes(64 << 20))
        time.sleep(0.02)
    time.sleep(60)
"""


def test_a_candidate_that_fills_the_disk_is_killed(
    run: Callable[..., EvaluationResult], bench: CpuBench, monkeypatch: pytest.MonkeyPatch
):
    owner = bench.interpreting._nursery
    monkeypatch.setattr(owner, "_policy", replace(bench.policy, scratch_bytes=256 << 20))
    found = run(candidate("fill()", FILLING), timeout_s=30.0)
    assert found.outcome is Outcome.WORKER_DIED, found.message
    assert "killed by the evaluator: its scratch folder holds more than 256 MiB" in found.message
    assert found.wall_s < 20


def test_all_calls_together_have_a_limit(run: Callable[..., EvaluationResult]):
    """Each of these calls is within its own."""
    found = run(candidate("time.sleep(0.7)\nreturn launch(x)", "import time\n"), trials=9, timeout_s=1.0)
    assert found.outcome is Outcome.TIMEOUT and "left of the time for all its calls" in found.message
    assert 3 <= found.trials_passed <= 6


@pytest.mark.parametrize("interpreted", [False, True])
def test_projecting_heeds_the_candidates_limit(run: Callable[..., EvaluationResult], interpreted: bool):
    """It compiles in one worker and counts in another that interprets."""
    slow = f"if x.numel() > 240 and bool(os.environ.get('TRITON_INTERPRET')) is {interpreted}:\n    time.sleep(50)\n"
    instance = replace(problem("return x * 2", "[torch.randn(60, 40)]"), check_source=DOUBLE.source, check_size="small")
    found = run(candidate(slow + "return launch(x)", "import os, time\n"), instance, timing=True, timeout_s=5.0)
    assert found.wall_s < 30
    if interpreted:
        assert found.outcome is Outcome.OK and "counting at full size gave no answer within 5 s" in found.message
    else:
        assert found.outcome is Outcome.TIMEOUT and "within 5 s" in found.message


LAZY = """
class Lazy(torch.Tensor):
    @staticmethod
    def __new__(cls, x):
        made = torch.Tensor._make_subclass(cls, x)
        made.x = x
        return made

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        done = [launch(arg.x) if isinstance(arg, Lazy) else arg for arg in args]
        return function(*done, **(kwargs or {}))

"""


def test_a_figure_counts_what_is_computed_when_somebody_looks(run: Callable[..., EvaluationResult]):
    honest = run(candidate("return launch(x)"), timing=True)
    lazy = run(candidate("return Lazy(x)", LAZY), timing=True)
    assert honest.time_ms is not None
    assert lazy.outcome is Outcome.OK and lazy.time_ms is not None and lazy.time_ms >= honest.time_ms, lazy.message


def test_a_figure_needs_the_kernels_that_were_checked(run: Callable[..., EvaluationResult]):
    """One that only computes at the sizes that are checked."""
    instance = replace(problem("return x * 2", "[torch.randn(60, 40)]"), check_source=DOUBLE.source, check_size="small")
    found = run(candidate("return launch(x) if x.numel() == 240 else torch.empty_like(x)"), instance, timing=True)
    assert found.outcome is Outcome.OK and found.time_ms is None
    assert "launched no Triton kernel" in found.message


def test_a_launch_in_the_constructor_is_no_part_of_the_figure(run: Callable[..., EvaluationResult]):
    plain = run(candidate("return launch(x)"), timing=True)
    init = "    def __init__(self):\n        super().__init__()\n        launch(torch.ones(6, 40, device='cuda'))\n\n"
    warm = candidate("return launch(x)").replace("    def forward", f"{init}    def forward")
    found = run(warm, timing=True)
    assert plain.time_ms is not None and found.time_ms == plain.time_ms, (plain.message, found.message)
    assert len(found.detail["compiled"]) == 1


@pytest.mark.parametrize(
    ("forward", "outcome", "says"),
    [
        ("return launch(x).cpu()", Outcome.WRONG_RESULT, "output is on cpu, expected on cuda"),
        ("torch.empty(1 << 40)\nreturn launch(x)", Outcome.OUT_OF_MEMORY, "allocate memory"),
        ("raise RuntimeError('Triton Error [CUDA]: out of memory')", Outcome.OUT_OF_MEMORY, "Triton Error"),
        ("raise torch.AcceleratorError('CUDA error: out of memory')", Outcome.OUT_OF_MEMORY, "AcceleratorError"),
        ("y = launch(x)\ny.record_stream(torch.cuda.Stream())\nreturn y", Outcome.OK, ""),
    ],
)
def test_what_a_gpu_would_say(run: Callable[..., EvaluationResult], forward: str, outcome: Outcome, says: str):
    found = run(candidate(forward))
    assert found.outcome is outcome and says in found.message, found.message


def test_outputs_whose_shape_hangs_on_values(run: Callable[..., EvaluationResult]):
    instance = problem("return x[x > 1]", "[torch.randn(6, 40)]")
    found = run(candidate("return torch.masked_select(x, x.gt(1))"), instance, trials=5)
    assert found.outcome is Outcome.OK, found.message


def test_a_user_that_is_not_free_is_not_given_away(bench: CpuBench, monkeypatch: pytest.MonkeyPatch):
    """Something of its last worker cannot be killed: the next must not be mistaken for it."""
    worker = bench.fork(Order())
    if worker._user is None:
        pytest.skip("private users need root")
    end = worker._owner._end
    monkeypatch.setattr(worker._owner, "_end", lambda pid, words, clean: end(pid, words, False))
    worker.close()
    for thread in threading.enumerate():
        if thread.name == "late":  # it gives away what is free after all
            thread.join()
    assert worker._user._claim.fileno() != -1 and Path(worker.scratch).exists()


@pytest.mark.parametrize("one_queue", [True, False])
def test_a_worker_is_told_how_many_hardware_queues_it_has(bench: CpuBench, one_queue: bool):
    code = b"import os\nraise RuntimeError(os.environ.get('CUDA_DEVICE_MAX_CONNECTIONS'))\n"
    arena = CpuArena.create(4096)
    fields = {"weights": [], "init": [], "seed": 0, "mode": "train", "arena_bytes": arena.size}
    with (
        bench.interpreting.fork("cpu", bench.facts, Order(one_queue=one_queue)) as worker,
        pytest.raises(WorkerFailed, match=f"RuntimeError: {1 if one_queue else None}"),
    ):
        worker.ask("load", Reply.LOADED, 20.0, fields, [code, pack([], lambda _: False, []), arena.fd])
    arena.close()


@pytest.mark.parametrize(
    ("forward", "inputs"),
    [
        ("return x.float() * 2", "[torch.randn(16, 64).to(torch.float8_e4m3fn)]"),
        ("return (x * 2).to(torch.float8_e4m3fn)", "[torch.randn(16, 64)]"),
        ("return (x * 2).to(torch.int32).to(torch.uint16)", "[torch.rand(16, 64) * 1000]"),
    ],
)
def test_types_that_pytorch_only_stores_can_be_judged(run: Callable[..., EvaluationResult], forward: str, inputs: str):
    found = run(candidate(forward), problem(forward, inputs), trials=2)
    assert found.outcome is Outcome.OK, found.message


DROPOUT = problem("return nn.functional.dropout(torch.tanh(x), 0.5, training=True)", "[torch.randn(40, 130)]")
#: One mask in all calls but where the last call's inputs come again.
FROZEN = """
class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        noise = torch.Generator().manual_seed(1)
        self.masks = [2.0 * (torch.rand(40, 130, generator=noise) < 0.5).float() for _ in range(2)]
        self.last = None

    def forward(self, x):
        again, self.last = self.last is not None and bool((self.last == x).all()), x.clone()
        return {again} if again else torch.tanh(x) * self.masks[0]
"""


@pytest.mark.parametrize(
    ("again", "trials", "says"),
    [
        ("torch.tanh(x) * self.masks[1]", 3, "on other inputs"),
        ("torch.full_like(x, float('nan'))", 1, "NaN or infinity"),
        ("torch.tanh(x) * self.masks[0]", 1, "its noise repeats"),
    ],
)
def test_noise_has_to_be_noise_in_every_call(run: Callable[..., EvaluationResult], again: str, trials: int, says: str):
    found = run(HEAD + FROZEN.replace("{again}", again), DROPOUT, trials=trials)
    assert found.outcome is Outcome.WRONG_RESULT and says in found.message, found.message


def test_honest_noise_passes(run: Callable[..., EvaluationResult]):
    found = run(candidate("return nn.functional.dropout(torch.tanh(x), 0.5, True)"), DROPOUT, trials=3)
    assert found.outcome is Outcome.OK, found.message


def test_the_last_trial_is_fresh_where_shapes_hang_on_values(run: Callable[..., EvaluationResult]):
    """What two candidates have learned of it would be a table of answers for a third."""
    instance = problem("return x[x > 1]", "[torch.randn(6, 40)]")
    says = "if self.calls == 3:\n    raise ValueError(f'it was {float(x[0, 0])}')\n"
    forward = "self.calls = getattr(self, 'calls', 0) + 1\n" + says + "return torch.masked_select(x, x.gt(1))"
    seen = {run(candidate(forward), instance, trials=3).message.split("it was ")[1].split()[0] for _ in range(3)}
    assert len(seen) == 3
