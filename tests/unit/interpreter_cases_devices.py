"""What candidates assume about CUDA, who wrote the outputs, and what errors say."""

from __future__ import annotations

import time

import numpy as np
import torch
import triton
import triton.language as tl
from interpreter_cases import FACTS
from torch import nn

from kernelgrove.engine.evaluator.interpreter import KernelError, NeedsGpu, OutOfBounds, adopt, pretend, watch


def raises(kind, words, function):
    try:
        function()
    except kind as error:
        assert words in str(error), str(error)
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


@triton.jit
def add_kernel(x_ptr, y_ptr, z_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(z_ptr + at, tl.load(x_ptr + at, mask=inside) + tl.load(y_ptr + at, mask=inside), mask=inside)


@triton.jit
def shift_kernel(x_ptr, y_ptr, n, by, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n)
    tl.store(y_ptr + at + by, x, mask=at < n)


def add(x, y):
    z = torch.empty_like(x)
    add_kernel[(triton.cdiv(x.numel(), 64),)](x, y, z, x.numel(), BLOCK=64)
    return z


def case_every_way_to_name_the_device():
    x = torch.empty(3, 4, device="cuda")
    assert x.is_cuda and x.device == torch.device("cuda:0") and x.device.type == "cuda" and x.get_device() == 0
    assert not x.is_cpu and not x.is_meta
    same = [
        torch.zeros(2, device=x.device),
        torch.ones(2, device=torch.device("cuda", 0)),
        torch.arange(2).cuda(),
        torch.rand(2).to("cuda:0", torch.float16, non_blocking=True),
        torch.tensor([1, 2], device="cuda"),
        torch.as_tensor([1.0], device=0),
        x.new_empty(2),
        torch.empty_like(x),
        x[0].to(torch.float16),
        torch.rand(2).to(x),
        nn.Linear(2, 2, device="cuda").weight,
        nn.Linear(2, 2).cuda().weight,
        nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to("cuda")[1].running_mean,
        torch.randn(2, device="cuda", generator=torch.Generator(device="cuda")),
    ]
    with torch.device("cuda"):
        same.append(torch.ones(2))
    torch.set_default_device("cuda")
    same.append(torch.full((2,), 1.0))
    assert all(t.device == x.device and t.is_cuda for t in same)
    raises(RuntimeError, "invalid device ordinal", lambda: torch.empty(2, device="cuda:1"))


def case_host_tensors_are_told_apart():
    x = torch.rand(4, device="cuda")
    host = x.cpu()
    assert host.device.type == "cpu" and not host.is_cuda and host.is_cpu and (host + 1).device.type == "cpu"
    host.zero_()
    assert x.abs().sum() > 0, "a copy is a copy"
    assert x.to("cpu").numpy().shape == (4,) and np.asarray(host).shape == (4,) and host.cuda().is_cuda
    assert torch.zeros(2, device="cpu").device.type == "cpu" and torch.from_numpy(np.ones(2)).device.type == "cpu"
    raises(TypeError, "can't convert cuda:0 device type tensor to numpy", x.numpy)
    raises(TypeError, "can't convert cuda:0", lambda: np.asarray(x))
    assert x.tolist() == x.cpu().tolist() and x.type() == "torch.cuda.FloatTensor"
    raises(ValueError, "Pointer argument (at 1) cannot be accessed from Triton", lambda: add(x, host))
    module = nn.Linear(2, 2).to("cpu")
    assert module.weight.device.type == "cpu" and module.cuda().weight.is_cuda
    outside = adopt(torch.frombuffer(bytearray(16), dtype=torch.float32))
    assert outside.is_cuda and add(outside, outside).tolist() == [0.0] * 4


def case_torch_cuda_answers_for_the_target():
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1 and torch.cuda.current_device() == 0
    properties = torch.cuda.get_device_properties(0)
    assert properties.multi_processor_count == FACTS["sms"] and properties.total_memory == 80 << 30
    assert torch.cuda.get_device_name() == "H100" and torch.cuda.get_device_capability("cuda") == (9, 0)
    assert torch.cuda.mem_get_info()[1] == 80 << 30 and torch.version.cuda and torch.cuda.is_bf16_supported()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    stream = torch.cuda.Stream()
    with torch.cuda.device(0), torch.cuda.stream(stream):
        start.record()
        time.sleep(0.01)
        end.record()
    torch.cuda.synchronize()
    torch.cuda.current_stream().wait_stream(stream)
    assert 9 < start.elapsed_time(end) < 2000
    torch.cuda.empty_cache()
    torch.cuda.manual_seed(1)
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert (torch.rand(2, 2, device="cuda") @ torch.rand(2, 2, device="cuda")).dtype == torch.bfloat16
    with torch.cuda.amp.autocast():
        assert nn.Linear(2, 2).cuda()(torch.rand(2, 2).cuda()).dtype == torch.float16
    raises(NeedsGpu, "CUDA graphs", torch.cuda.CUDAGraph)
    assert triton.runtime.driver.active.get_current_target().arch == 90
    assert triton.testing.do_bench(lambda: None) == 1.0
    assert triton.runtime.driver.active.get_active_torch_device() == torch.device("cuda:0")
    assert torch.compile(nn.ReLU())(torch.tensor([-1.0])).item() == 0


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return add(x, x)

    @staticmethod
    def backward(ctx, gradient):
        assert gradient.is_cuda
        return gradient * torch.full((1,), 2.0, device="cuda")


def case_autograd_and_modules_go_on_working():
    x = torch.rand(8, device="cuda", requires_grad=True)
    Doubled.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0] * 8 and x.grad.is_cuda
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten()).cuda()
    assert model(torch.rand(2, 3, 8, 8, device="cuda")).device == torch.device("cuda:0")
    rnn = nn.LSTM(4, 4).cuda()
    assert rnn(torch.rand(3, 1, 4, device="cuda"))[0].is_cuda
    assert nn.MultiheadAttention(4, 2).cuda()(*[torch.rand(3, 1, 4).cuda()] * 3)[0].is_cuda
    model.load_state_dict({name: value.cpu() for name, value in model.state_dict().items()})
    assert next(model.parameters()).is_cuda


def case_the_pretence_is_cheap():
    x = torch.rand(4, device="cuda")

    def each(count=4000):
        started = time.perf_counter()
        for _ in range(count):
            torch.add(x, x)
        return (time.perf_counter() - started) / count

    assert min(each() for _ in range(5)) < 40e-6


def case_a_store_past_the_end_is_named():
    x = torch.rand(60, device="cuda")
    y, neighbour = torch.empty(60, device="cuda"), torch.empty(600, device="cuda")
    shift_kernel[(1,)](x, y, 50, 4, BLOCK=64)
    error = raises(OutOfBounds, "", lambda: shift_kernel[(1,)](x, y, 60, 4, BLOCK=64))
    text = "out-of-bounds store in shift_kernel, program (0, 0, 0): 4 elements up to offset 63 of y_ptr, which has 60"
    assert str(error).startswith(text) and "tl.store(y_ptr + at + by" in str(error) and isinstance(error, RuntimeError)
    raises(OutOfBounds, "before its start", lambda: shift_kernel[(1,)](x, y, 60, -4, BLOCK=64))
    words = "load in shift_kernel, program (1, 0, 0): 35 elements up to offset 98 of x_ptr, which has 64"
    raises(OutOfBounds, words, lambda: shift_kernel[(2,)](torch.rand(64), neighbour, 99, 0, BLOCK=64))
    shift_kernel[(1,)](x[10:], y, 50, -4 + 4, BLOCK=64)


def case_an_adopted_slot_ends_where_it_ends():
    block = torch.frombuffer(bytearray(4096), dtype=torch.float32)
    first, second = adopt(block[:100]), adopt(block[128:228])
    assert add(first, second).shape == (100,)
    error = raises(
        OutOfBounds, "x_ptr, which has 100", lambda: shift_kernel[(2,)](first, torch.empty(128), 101, 0, BLOCK=64)
    )
    assert "1 element up to offset 100" in str(error)
    shift_kernel[(1,)](second[10:], torch.empty(128), 60, 0, BLOCK=64)


@triton.jit
def wrong_kernel(x_ptr, KIND: tl.constexpr):
    if KIND == 0:
        tl.exponentiate(tl.load(x_ptr))
    if KIND == 1:
        tl.arange(0, 100)
    if KIND == 2:
        tl.inline_asm_elementwise("mov.u32 $0, %smid;", "=r", [], dtype=tl.int32, is_pure=True, pack=1)
    if KIND == 3:
        while tl.arange(0, 4) > 2:
            tl.store(x_ptr, 1.0)
    if KIND == 4:
        helper(x_ptr)
    if KIND == 5:
        tl.static_assert(KIND == 0, "must be zero")


@triton.jit
def helper(x_ptr):
    return {}["absent"]


def case_errors_name_the_kernel_and_the_line():
    x = torch.zeros(4, device="cuda")
    error = raises(AttributeError, "has no attribute 'exponentiate'", lambda: wrong_kernel[(1,)](x, 0))
    assert isinstance(error, KernelError) and error.kernel == "wrong_kernel" and "tl.exponentiate(tl.load" in str(error)
    assert type(error).__name__ == "AttributeError" and "InterpreterError" not in str(error)
    raises(ValueError, "power of 2", lambda: wrong_kernel[(1,)](x, 1))
    raises(NeedsGpu, "inline assembly", lambda: wrong_kernel[(1,)](x, 2))
    raises(TypeError, "has no truth value", lambda: wrong_kernel[(1,)](x, 3))
    inner = raises(KeyError, "absent", lambda: wrong_kernel[(1,)](x, 4))
    assert '`return {}["absent"]`' in str(inner) and "in kernel wrong_kernel" in str(inner)
    raises(AssertionError, "must be zero", lambda: wrong_kernel[(1,)](x, 5))
    raises(KeyError, "num_warp was specified but unrecognised", lambda: wrong_kernel[(1,)](x, 9, num_warp=4))
    raises(TypeError, "in launch of wrong_kernel", lambda: wrong_kernel[(1,)](x))
    raises(TypeError, "grid is made of integers", lambda: wrong_kernel[(1.5,)](x, 9))
    raises(ValueError, "grid dimension 1", lambda: wrong_kernel[(1, 70000)](x, 9))


def case_outputs_that_no_kernel_wrote():
    x = torch.rand(64, device="cuda")
    with watch() as seen:
        answer = np.exp(x.cpu().numpy())
        outputs = [
            add(x, x),  # 0: a kernel
            torch.exp(x),  # 1: an ATen operator
            torch.empty(64, device="cuda"),  # 2: nobody
            torch.from_numpy(answer).cuda(),  # 3: NumPy …
            torch.from_numpy(answer).to(x.device).clone().view(8, 8).t().contiguous(),  # 4: … through copies
            torch.empty(64, device="cuda").copy_(torch.tensor(answer)),  # 5
            torch.cat([torch.as_tensor(answer[:32], device="cuda"), torch.tensor(answer[32:].tolist()).cuda()]),  # 6
            torch.tensor([1.0, 2.0], device="cuda") * 2,  # 7: a constant that went through arithmetic
            add(x, x).clone().view(8, 8)[:, 1:],  # 8: a copy of what a kernel wrote
            torch.tensor(answer, device="cuda"),  # 9: NumPy again
            x,  # 10: the input itself
            torch.empty(64, device="cuda")[:10],  # 11
        ]
        filled = torch.empty(64, device="cpu")
        filled.numpy()[:] = answer
        outputs.append(filled.to("cuda"))  # 12
        outputs.append(torch.zeros(0, device="cuda"))  # 13: nothing to write
    assert seen.unwritten(outputs) == [2, 3, 4, 5, 6, 9, 10, 11, 12]
    assert torch.isnan(outputs[2]).all(), "fresh memory is poisoned"
    with watch(given=[x]) as seen:
        pass
    assert seen.unwritten([x]) == []


class Alias(nn.Module):
    """Writes an output through NumPy memory that it made beforehand."""

    def __init__(self):
        super().__init__()
        self.array = np.zeros(4, np.float32)
        self.tensor = torch.from_numpy(self.array)

    def forward(self, x):
        self.array[:] = 3.0
        return self.tensor.to("cuda")


def case_memory_shared_before_the_watch_is_still_the_hosts():
    model, x = Alias(), torch.rand(4, device="cuda")
    with watch() as seen:
        y = model(x)
    assert seen.unwritten([y]) == [0]


def case_provenance():
    x = torch.rand(64, device="cuda")
    with watch() as seen:
        add(x, torch.zeros_like(x)).view(8, 8).t().contiguous()
    assert seen.provenance() == "custom" and seen.launches == ["add_kernel"]
    with watch() as seen:
        add(x, x).relu()
    assert seen.provenance() == "mixed" and seen.aten["relu"] == 1
    with watch() as seen:
        torch.softmax(x, -1)
    assert seen.provenance() == "library" and not seen.launches


def case_meta_stands_in_too():
    pretend(FACTS, "meta")
    x = torch.empty(1 << 20, 1 << 14, device="cuda")
    layer = nn.Linear(1 << 14, 1 << 14).cuda()
    y = layer(x) * torch.tensor(2.0) + torch.ones(1 << 14)
    assert y.is_cuda and y.shape == x.shape and y.device == x.device
    assert torch.tensor(3.0).sqrt().item() > 1.7, "small constants keep their values"
    assert x.cpu().device.type == "cpu" and x.cpu().cuda().is_cuda
