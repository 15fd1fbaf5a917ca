"""Kernels as candidates write them, against torch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from interpreter_cases import FACTS
from triton.language.extra import libdevice
from triton.language.extra.cuda.libdevice import tanh as cuda_tanh

from kernelgrove.engine.evaluator.interpreter import NeedsGpu, formats


def rand(*shape, dtype=torch.float32):
    torch.manual_seed(0)
    return torch.randn(*shape, device="cuda").to(dtype)


def close(found, expected, tolerance=1e-5):
    error = (found.double() - expected.double()).abs().max().item()
    assert error <= tolerance * max(1.0, expected.double().abs().max().item()), error


@triton.jit
def softmax_kernel(x_ptr, y_ptr, stride, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < columns
    x = tl.load(x_ptr + row * stride + offsets, mask=inside, other=-float("inf"))
    x = tl.exp(x - tl.max(x, axis=0))
    tl.store(y_ptr + row * stride + offsets, x / tl.sum(x, axis=0), mask=inside)


def case_softmax():
    x = rand(7, 100)
    y = torch.empty_like(x)
    softmax_kernel[(7,)](x, y, x.stride(0), 100, BLOCK=128, num_warps=2, num_stages=1)
    close(y, torch.softmax(x, -1))


@triton.jit
def rms_kernel(x_ptr, w_ptr, y_ptr, rows, columns, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < columns)
    x = tl.load(x_ptr + row * columns + column, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(w_ptr + column, mask=column < columns, other=0.0)
    scale = tl.rsqrt(tl.sum(x * x, axis=1, keep_dims=True) / columns + eps)
    tl.store(y_ptr + row * columns + column, (x * scale * w).to(y_ptr.dtype.element_ty), mask=inside)


def case_rms_norm_with_rows_per_program():
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.0), (torch.float16, 0.0)):
        x, w = rand(9, 50, dtype=dtype), rand(50)
        y = torch.empty_like(x)
        rms_kernel[(triton.cdiv(9, 4),)](x, w, y, 9, 50, 1e-6, ROWS=4, BLOCK=64)
        expected = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6) * w
        close(y, expected.to(dtype), max(tolerance, torch.finfo(dtype).eps))


@triton.jit
def matmul_kernel(a, b, c, M, N, K, sam, sak, sbk, sbn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        left = tl.load(a + rm[:, None] * sam + (k + rk)[None, :] * sak, (rm[:, None] < M) & (k + rk[None, :] < K), 0.0)
        right = tl.load(b + (k + rk)[:, None] * sbk + rn[None, :] * sbn, (k + rk[:, None] < K) & (rn[None, :] < N), 0.0)
        acc = tl.dot(left, right, acc)
    tl.store(c + rm[:, None] * N + rn[None, :], acc.to(c.dtype.element_ty), (rm[:, None] < M) & (rn[None, :] < N))


def case_matmul_with_ragged_edges_in_every_precision():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        a, b = rand(33, 40, dtype=dtype), rand(20, 40, dtype=dtype).t()
        c = torch.empty(33, 20, device="cuda", dtype=dtype)
        matmul_kernel[(3, 2)](a, b, c, 33, 20, 40, *a.stride(), *b.stride(), BM=16, BN=16, BK=16)
        close(c, (a.float() @ b.float()).to(dtype), 2 * torch.finfo(dtype).eps)


@triton.jit
def welford_kernel(x_ptr, y_ptr, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    mean = tl.zeros((BLOCK,), tl.float32)
    m2 = tl.zeros((BLOCK,), tl.float32)
    count = tl.zeros((BLOCK,), tl.float32)
    for start in tl.range(0, columns, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        inside = offsets < columns
        x = tl.load(x_ptr + row * columns + offsets, mask=inside, other=0.0)
        count += tl.where(inside, 1.0, 0.0)
        delta = tl.where(inside, x - mean, 0.0)
        mean += delta / tl.maximum(count, 1.0)
        m2 += delta * tl.where(inside, x - mean, 0.0)
    mean, m2, count = tl.reduce((mean, m2, count), 0, welford_combine)
    scale = 1.0 / tl.sqrt(m2 / count + eps)
    for start in tl.range(0, columns, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * columns + offsets, mask=offsets < columns)
        tl.store(y_ptr + row * columns + offsets, (x - mean) * scale, mask=offsets < columns)


@triton.jit
def welford_combine(mean_a, m2_a, n_a, mean_b, m2_b, n_b):
    n = n_a + n_b
    delta = mean_b - mean_a
    weight = n_b / tl.maximum(n, 1.0)
    return mean_a + delta * weight, m2_a + m2_b + delta * delta * n_a * weight, n


def case_layer_norm_by_welford():
    x = rand(5, 200) + 10
    y = torch.empty_like(x)
    welford_kernel[(5,)](x, y, 200, 1e-5, BLOCK=64)
    close(y, torch.nn.functional.layer_norm(x, (200,)), 1e-4)


@triton.jit
def first_order(a1, b1, a2, b2):
    return a1 * a2, b1 * a2 + b2


@triton.jit
def larger_by_branch(a, b):
    if a > b:
        return a
    return b


@triton.jit
def scan_kernel(x_ptr, sum_ptr, back_ptr, decay_ptr, top_ptr, N: tl.constexpr):
    at = tl.arange(0, 4)[:, None] * N + tl.arange(0, N)[None, :]
    x = tl.load(x_ptr + at)
    tl.store(sum_ptr + at, tl.cumsum(x, axis=1))
    tl.store(back_ptr + at, tl.cumprod(x, axis=1, reverse=True))
    _, decayed = tl.associative_scan((tl.full((4, N), 0.5, tl.float32), x), 1, first_order)
    tl.store(decay_ptr + at, decayed)
    tl.store(top_ptr + tl.arange(0, 4), tl.reduce(x, 1, larger_by_branch))


def case_scans_of_any_combine_function():
    x = rand(4, 64)
    total, back, decayed = (torch.empty_like(x) for _ in range(3))
    top = torch.empty(4, device="cuda")
    scan_kernel[(1,)](x, total, back, decayed, top, N=64)
    close(total, torch.cumsum(x, 1))
    close(back, torch.flip(torch.cumprod(torch.flip(x, [1]), 1), [1]))
    state, expected = torch.zeros(4), torch.empty(4, 64)
    for i in range(64):
        state = state * 0.5 + x[:, i]
        expected[:, i] = state
    close(decayed, expected)
    close(top, x.max(1).values, 0.0)


@triton.jit
def cross_entropy_kernel(x_ptr, target_ptr, loss_ptr, classes, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * classes + offsets, mask=offsets < classes, other=-float("inf")).to(tl.float32)
    top = tl.max(x, 0)
    log_sum = top + tl.log(tl.sum(tl.exp(x - top), 0))
    chosen = tl.load(x_ptr + row * classes + tl.load(target_ptr + row)).to(tl.float32)
    tl.atomic_add(loss_ptr, (log_sum - chosen) / tl.num_programs(0))


def case_cross_entropy_by_gather_and_atomic_add():
    x, target = rand(8, 30), torch.arange(8, device="cuda") * 3
    loss = torch.zeros(1, device="cuda")
    cross_entropy_kernel[(8,)](x, target, loss, 30, BLOCK=32)
    close(loss, torch.nn.functional.cross_entropy(x, target).reshape(1))


@triton.jit
def atomics_kernel(x_ptr, sum_ptr, max_ptr, count_ptr, old_ptr, N: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, N))
    tl.atomic_add(sum_ptr + tl.zeros((N,), tl.int32), x)
    tl.atomic_max(max_ptr, tl.max(x.to(tl.float32), 0))
    tl.store(old_ptr, tl.atomic_cas(count_ptr, 5, 7))


def case_atomics_with_duplicate_addresses_and_every_type():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        x = torch.ones(64, device="cuda", dtype=dtype)
        total = torch.zeros(1, device="cuda", dtype=dtype)
        top, count = torch.full((1,), -3.0, device="cuda"), torch.tensor([5], device="cuda", dtype=torch.int32)
        old = torch.zeros(1, device="cuda", dtype=torch.int32)
        atomics_kernel[(1,)](x, total, top, count, old, N=64)
        assert (total.item(), top.item(), count.item(), old.item()) == (64.0, 1.0, 7, 5)


@triton.jit
def block_pointer_kernel(x_ptr, y_ptr, M, N, BM: tl.constexpr, BN: tl.constexpr):
    at = (tl.program_id(0) * BM, 0)
    source = tl.make_block_ptr(x_ptr, (M, N), (N, 1), at, (BM, BN), (1, 0))
    goal = tl.make_block_ptr(y_ptr, (N, M), (1, N), (0, tl.program_id(0) * BM), (BN, BM), (0, 1))
    for _ in range(0, tl.cdiv(N, BN)):
        tile = tl.load(source, boundary_check=(0, 1), padding_option="zero")
        tl.store(goal, tl.trans(tile) * 2, boundary_check=(0, 1))
        source = tl.advance(source, (0, BN))
        goal = tl.advance(goal, (BN, 0))


def case_block_pointers():
    x = rand(19, 35)
    y = torch.empty_like(x)
    block_pointer_kernel[(3,)](x, y, 19, 35, BM=8, BN=16)
    close(y, x * 2, 0.0)


@triton.jit
def descriptor_kernel(x_ptr, y_desc, M, N, BM: tl.constexpr, BN: tl.constexpr):
    x_desc = tl.make_tensor_descriptor(x_ptr, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    row, column = tl.program_id(0) * BM, tl.program_id(1) * BN
    y_desc.store([row, column], x_desc.load([row, column]) + 1.0)


def case_tensor_descriptors_of_host_and_device():
    from triton.tools.tensor_descriptor import TensorDescriptor

    x = rand(20, 36)
    y = torch.empty_like(x)
    descriptor_kernel[(3, 3)](x, TensorDescriptor.from_tensor(y, [8, 16]), 20, 36, BM=8, BN=16)
    close(y, x + 1, 0.0)


pruned, hooked = [], []


def prune(configs, named_args, **kwargs):
    pruned.append(named_args["n"])
    return [c for c in configs if c.kwargs["BLOCK"] > 16]


def hook(nargs):
    hooked.append(nargs["n"])


@triton.autotune(
    configs=[
        triton.Config({"BLOCK": 16}),
        triton.Config({"BLOCK": 32}, num_warps=2, pre_hook=hook),
        triton.Config({"BLOCK": 64}, num_warps=8, pre_hook=hook),
    ],
    key=["n"],
    prune_configs_by={"early_config_prune": prune},
    reset_to_zero=["y_ptr"],
)
@triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})
@triton.jit
def tuned_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    tl.static_assert(BLOCK != 32, "too small")
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if EVEN:
        tl.atomic_add(y_ptr + offsets, tl.load(x_ptr + offsets))
    else:
        inside = offsets < n
        tl.atomic_add(y_ptr + offsets, tl.load(x_ptr + offsets, mask=inside), mask=inside)


def case_autotune_runs_the_first_valid_configuration():
    x = rand(100)
    y = torch.full_like(x, 5.0)
    grid = lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"]),)  # noqa: E731 - as candidates write it
    tuned_kernel[grid](x, y, 100)
    close(y, x, 0.0)  # zeroed once, before the run
    assert tuned_kernel.best_config.kwargs["BLOCK"] == 64 and pruned and hooked
    tuned_kernel[grid](x, y, 100)
    close(y, 2 * x, 0.0)  # and not again for a known key, as on the device


@triton.jit
def gelu_kernel(x_ptr, y_ptr, z_ptr, N: tl.constexpr):
    offsets = tl.arange(0, N)
    x = tl.load(x_ptr + offsets)
    tl.store(y_ptr + offsets, 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476)))
    inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
    both = (libdevice.tanh(inner) + cuda_tanh(inner)) * 0.5
    tl.store(z_ptr + offsets, 0.5 * x * (1.0 + both))


def case_gelu_by_erf_and_by_libdevice_tanh():
    x = rand(128)
    y, z = torch.empty_like(x), torch.empty_like(x)
    gelu_kernel[(1,)](x, y, z, N=128)
    close(y, torch.nn.functional.gelu(x), 1e-6)
    close(z, torch.nn.functional.gelu(x, approximate="tanh"), 1e-6)


@triton.jit
def libdevice_kernel(x_ptr, y_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    x = tl.load(x_ptr + at)
    tl.store(y_ptr + at, libdevice.erfc(x))
    tl.store(y_ptr + N + at, libdevice.log1p(libdevice.abs(x)))
    tl.store(y_ptr + 2 * N + at, libdevice.pow(libdevice.abs(x), 1.5))
    tl.store(y_ptr + 3 * N + at, libdevice.fast_expf(x))
    tl.store(y_ptr + 4 * N + at, libdevice.rint(x * 3))
    tl.store(y_ptr + 5 * N + at, libdevice.hypot(x, 2.0))
    tl.store(y_ptr + 6 * N + at, tl.where(libdevice.isnan(x / 0.0 * 0.0) != 0, 1.0, 0.0))
    tl.store(y_ptr + 7 * N + at, libdevice.round(x * 3 + 0.5))


def case_libdevice():
    x = rand(64)
    y = torch.empty(8, 64, device="cuda")
    libdevice_kernel[(1,)](x, y, N=64)
    close(y[0], torch.erfc(x), 1e-6)
    close(y[1], torch.log1p(x.abs()), 1e-6)
    close(y[2], x.abs() ** 1.5, 1e-6)
    close(y[3], x.exp(), 1e-6)
    close(y[4], torch.round(x * 3), 0.0)
    close(y[5], torch.hypot(x, torch.tensor(2.0)), 1e-6)
    close(y[6], torch.ones(64), 0.0)


def case_every_libdevice_function_is_known():
    import numpy as np

    from kernelgrove.engine.evaluator.interpreter import libdevice as table

    missing = [
        n for n in vars(libdevice) if not n.startswith("_") and callable(getattr(libdevice, n)) and n not in table.TABLE
    ]
    assert missing == ["rcp64h"], missing  # the top 32 bits of a rough reciprocal: nothing to match
    x = np.array([0.5, 1.5, -2.25], np.float32)
    assert table.TABLE["double2int_rz"](x.astype(np.float64)).tolist() == [0, 1, -2]
    assert table.TABLE["float2int_ru"](x).tolist() == [1, 2, -2]
    assert table.TABLE["popc"](np.array([7, -1], np.int32)).tolist() == [3, 32]
    assert table.TABLE["clz"](np.array([1, 0], np.int32)).tolist() == [31, 32]
    assert table.TABLE["ffs"](np.array([8, 0], np.int32)).tolist() == [4, 0]
    assert table.TABLE["brev"](np.array([1], np.int32)).view(np.uint32).tolist() == [1 << 31]
    third = np.array([1.0], np.float32), np.array([3.0], np.float32)
    assert float(table.TABLE["div_rd"](*third)[0]) < 1 / 3 < float(table.TABLE["div_ru"](*third)[0])
    try:
        table.find("rcp64h", "__nv_rcp64h")
    except NeedsGpu as error:
        assert "rcp64h" in str(error)
    else:
        raise AssertionError("rcp64h was found")


@triton.jit
def bf16_kernel(x_ptr, y_ptr, z_ptr, scale, N: tl.constexpr):
    at = tl.arange(0, N)
    x, y = tl.load(x_ptr + at), tl.load(y_ptr + at)
    tl.store(z_ptr + at, x * y + x)
    tl.store(z_ptr + N + at, tl.maximum(x, y))
    tl.store(z_ptr + 2 * N + at, tl.where(x > y, -x, tl.abs(y)))
    tl.store(z_ptr + 3 * N + at, (tl.exp(x.to(tl.float32)) * scale).to(tl.bfloat16))
    tl.store(z_ptr + 4 * N + at, tl.zeros((N,), tl.bfloat16) + tl.max(x, 0))
    tl.store(z_ptr + 5 * N + at, x * scale)


def case_bf16_arithmetic_rounds_as_torch_does():
    x, y = rand(128, dtype=torch.bfloat16), rand(256, dtype=torch.bfloat16)[128:]
    z = torch.empty(6, 128, device="cuda", dtype=torch.bfloat16)
    bf16_kernel[(1,)](x, y, z, 1.3, N=128)
    scale = torch.tensor(1.3)
    expected = [
        x * y + x,
        torch.maximum(x, y),
        torch.where(x > y, -x, y.abs()),
        (x.float().exp() * scale).bfloat16(),
        x.max().expand(128),
        (x.float() * scale).bfloat16(),  # a float argument is an fp32 scalar on the device
    ]
    for found, wanted in zip(z, expected, strict=True):
        assert torch.equal(found, wanted)


def case_narrow_formats_round_as_torch_does():
    import numpy as np

    with torch._C.DisableTorchFunction():
        x = torch.cat(
            [torch.randn(4000) * torch.logspace(-8, 8, 4000), torch.tensor([0.0, -0.0, float("inf"), float("nan")])]
        )
        bits = x.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
        assert (formats.pack(x[:-1].numpy(), "bf16") == bits[:-1]).all()
        assert np.array_equal(formats.value(bits, "bf16"), x.to(torch.bfloat16).float().numpy(), equal_nan=True)
        x = x[x.abs() < 448]
        for name, kind in (("fp8e4nv", torch.float8_e4m3fn), ("fp8e5", torch.float8_e5m2)):
            bits = x.to(kind).view(torch.uint8).numpy()
            assert (formats.pack(x.numpy(), name) == bits).all(), name
            assert (formats.value(bits, name) == x.to(kind).float().numpy()).all(), name


@triton.jit
def scalars_kernel(x_ptr, y_ptr, n, scale, flag, first: tl.constexpr, N: tl.constexpr):
    half = scale.to(tl.float32) * 0.5
    total = 0.0
    for i in range(n):
        total += i.to(tl.float32)
    count: tl.constexpr = N // 2
    x = tl.load(x_ptr + tl.arange(0, count))
    y = tl.where(flag, min(x, 0.5), 7.0) * half + max(total, 1.0)
    if n == 4 and first is None:
        y += tl.where(n > 3, 1, 2)
    tl.store(y_ptr + tl.arange(0, count), y)


def case_python_scalars_behave_as_on_the_device():
    x = rand(16)
    y = torch.empty_like(x)
    scalars_kernel[1,](x, y, 4, 3.0, True, None, N=32)
    close(y, torch.clamp(x, max=0.5) * 1.5 + 6 + 1)


@triton.jit
def library_kernel(x_ptr, y_ptr, i_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    x = tl.load(x_ptr + at)
    tl.store(y_ptr + at, tl.sort(x))
    tl.store(y_ptr + N + at, tl.flip(x, 0))
    tl.store(y_ptr + 2 * N + at, tl.softmax(x))
    best, where = tl.max(x, 0, return_indices=True)
    tl.store(i_ptr, where)
    tl.store(i_ptr + 1, tl.argmin(x, 0))
    tl.store(y_ptr + 3 * N + at, tl.rand(3, at) + best * 0)
    tl.store(i_ptr + 2, tl.sum((x > 0).to(tl.int32), 0))


def case_the_standard_library_of_triton():
    x = rand(32)
    y, index = torch.empty(4, 32, device="cuda"), torch.empty(3, device="cuda", dtype=torch.int32)
    library_kernel[(1,)](x, y, index, N=32)
    close(y[0], x.sort().values, 0.0)
    close(y[1], x.flip(0), 0.0)
    close(y[2], x.softmax(0))
    assert index.tolist() == [x.argmax().item(), x.argmin().item(), int((x > 0).sum())]
    assert 0 <= y[3].min() < y[3].max() < 1


@triton.jit
def int8_kernel(a_ptr, b_ptr, c_ptr, N: tl.constexpr):
    at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(c_ptr + at, tl.dot(tl.load(a_ptr + at), tl.load(b_ptr + at)))


def case_dots_of_integers_and_sizes_the_device_refuses():
    a, b = (torch.randint(-128, 127, (32, 32), device="cuda").to(torch.int8) for _ in range(2))
    c = torch.empty(32, 32, device="cuda", dtype=torch.int32)
    int8_kernel[(1,)](a, b, c, N=32)
    assert torch.equal(c, a.int() @ b.int())
    half = rand(8, 8, dtype=torch.float16)
    try:
        int8_kernel[(1,)](half, half, torch.empty(8, 8, device="cuda"), N=8)
    except AssertionError as error:
        assert "K >= 16" in str(error)
    else:
        raise AssertionError("a dot with K = 8 passed")


def case_occupancy_arithmetic_on_a_warmed_up_kernel():
    from triton.runtime import driver

    x = rand(4, 64)
    y = torch.empty_like(x)
    facts = driver.active.utils.get_device_properties(torch.cuda.current_device())
    kernel = softmax_kernel.warmup(x, y, 64, 64, BLOCK=64, num_warps=4, grid=(1,))
    kernel._init_handles()
    programs = min(facts["multiprocessor_count"] * facts["max_num_regs"] // (kernel.n_regs * 32 * 4), 4)
    assert facts["max_shared_mem"] // kernel.metadata.shared > 0 and FACTS["sms"] == facts["multiprocessor_count"]
    softmax_kernel[(programs, 1, 1)](x, y, 64, 64, BLOCK=64)
    close(y, x.softmax(-1))


def case_a_kernel_keeps_its_closure():
    width = tl.constexpr(8)

    @triton.jit
    def inner(y_ptr):
        tl.store(y_ptr + tl.arange(0, width), tl.full((width,), 3.0, tl.float32))

    y = torch.empty(8, device="cuda")
    inner[(1,)](y)
    assert y.tolist() == [3.0] * 8
