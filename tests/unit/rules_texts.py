"""References as other people write them: one idea a file, every spelling of PyTorch, sizes as globals or literals.

``TEXTS`` maps a name to (source, mode). The names of those in ``LEFT_ALONE`` hold nothing that rules can fuse.
"""

from __future__ import annotations

import textwrap

HEAD = "import math\n\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def text(
    forward: str,
    inputs: str = "torch.randn(7, 311)",
    *,
    init: str = "",
    init_args: str = "",
    values: str = "",
    args: str = "x",
) -> str:
    """A problem file: the bodies of forward and __init__, the inputs and the constructor's arguments."""
    return (
        f"{HEAD}\n\nclass Model(nn.Module):\n"
        f"    def __init__(self{', ' + init_args if init_args else ''}):\n        super(Model, self).__init__()\n"
        f"{textwrap.indent(textwrap.dedent(init).strip(), ' ' * 8)}\n\n"
        f"    def forward(self, {args}):\n{textwrap.indent(textwrap.dedent(forward).strip(), ' ' * 8)}\n\n\n"
        f"def get_inputs():\n    return [{inputs}]\n\n\ndef get_init_inputs():\n    return [{values}]\n"
    )


_POINTWISE = (
    "torch.relu(x)",
    "F.gelu(x)",
    "F.gelu(x, approximate='tanh')",
    "x * torch.sigmoid(x)",
    "torch.tanh(x)",
    "x * torch.tanh(F.softplus(x))",
    "F.mish(x)",
    "F.softplus(x, beta=2)",
    "F.elu(x, alpha=0.7)",
    "F.selu(x)",
    "F.celu(x, alpha=1.5)",
    "F.leaky_relu(x, negative_slope=0.1)",
    "F.hardswish(x)",
    "F.hardtanh(x, min_val=-0.5, max_val=0.8)",
    "F.relu6(3 * x)",
    "x / (1 + torch.abs(x))",
    "torch.exp(x)",
    "torch.log(x.abs() + 1) - x.abs().sqrt()",
    "x**3 - torch.pow(x.abs() + 0.1, 1.5) + 2**x + (x * x + 1) ** -2.5",
    "torch.clamp(x, 0.5, 0.7).rsqrt_() + torch.clamp(x, -0.5, 0.7)",
    "torch.where(x > 0, x, 2 * x)",
    "F.logsigmoid(x)",
    "0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))",
)

TEXTS: dict[str, tuple[str, str]] = {
    f"pointwise {number}: {expression}": (text(f"return {expression}"), "train")
    for number, expression in enumerate(_POINTWISE)
}

TEXTS |= {
    name: (source, "train")
    for name, source in {
        "tiny inputs": text("return torch.tanh(x) * F.elu(x)", "torch.randn(7, 311) * 1e-3"),
        "large inputs": text("return torch.softmax(x, dim=-1)", "torch.randn(7, 311) * 1e3"),
        "an argument called input": text(
            "return F.relu(input) * 2 + sum", args="input, sum", inputs="torch.randn(9, 130), torch.randn(130)"
        ),
        "a number as input": text("return A * s", "torch.randn(17, 80), 3.14", args="A, s"),
        "channel scale and bias": text(
            "x = x * self.scale\nreturn torch.clamp(x + self.bias, min=0)",
            "torch.randn(3, 8, 9, 11)",
            init="self.scale = nn.Parameter(torch.rand(8, 1, 1))\nself.bias = nn.Parameter(torch.rand(1, 8, 1, 1))",
        ),
        "softmax over channels": text("return F.softmax(x, dim=1)", "torch.randn(3, 37, 5, 7)"),
        "rms norm over channels": text(
            "rms = torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + self.eps)\nreturn x / rms",
            "torch.rand(3, 24, 6, 7)",
            init="self.num_features = num_features\nself.eps = eps",
            init_args="num_features: int, eps: float = 1e-5",
            values="24",
        ),
        "layer norm over three dimensions": text(
            "return self.ln(x)",
            "torch.randn(3, 4, 9, 14)",
            init="self.ln = nn.LayerNorm(normalized_shape=shape)",
            init_args="shape: tuple",
            values="(4, 9, 14)",
        ),
        "group norm and relu": text(
            "x = self.gn(x)\nx = F.relu(x, inplace=True)\nreturn x * self.scale",
            "torch.randn(3, 12, 5, 7)",
            init="self.gn = nn.GroupNorm(num_groups=groups, num_channels=features)\n"
            "self.scale = nn.Parameter(torch.rand(features, 1, 1))",
            init_args="features, groups",
            values="12, 3",
        ),
        "instance norm": text(
            "return self.inorm(x)", "torch.randn(3, 6, 9, 11)", init="self.inorm = nn.InstanceNorm2d(6)"
        ),
        "min max scaling": text(
            "low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)\nreturn (x - low) / (high - low + 1e-8)"
        ),
        "max over a middle dimension": text("return torch.max(x, dim=1)[0]", "torch.randn(5, 33, 21)"),
        "argmin over a middle dimension": text("return torch.argmin(x, dim=1)", "torch.randn(5, 33, 21)"),
        "sum that keeps its dimension": text("return torch.sum(x, dim=1, keepdim=True)", "torch.randn(5, 33, 21)"),
        "variance and deviation": text("return x.var(dim=-1), x.std(-1, unbiased=False, keepdim=True)"),
        "frobenius norm": text("return x / torch.norm(x, p='fro')", "torch.rand(5, 4, 9, 11)"),
        "l1 and l2 normalisation": text(
            "return x / torch.sum(torch.abs(x), dim=1, keepdim=True), F.normalize(x, dim=1)"
        ),
        "logsumexp and relu": text(
            "x = torch.logsumexp(x, dim=1, keepdim=True)\nreturn F.relu(x)", "torch.randn(9, 211)"
        ),
        "cumulative sum of a mask": text(
            "return torch.cumsum(x * mask, dim=-1)",
            "torch.randn(6, 301), torch.randint(0, 2, (6, 301)).bool()",
            args="x, mask",
        ),
        "cumulative product": text(
            "return torch.cumprod(x, dim=self.dim)",
            "torch.rand(6, 301) * 0.5 + 0.75",
            init="self.dim = dim",
            init_args="dim",
            values="1",
        ),
        "mean squared error": text(
            "return torch.mean((p - t) ** 2)", "torch.randn(13, 211), torch.randn(13, 211)", args="p, t"
        ),
        "hinge loss": text(
            "return torch.mean(torch.clamp(1 - p * t, min=0))",
            "torch.randn(33, 57), torch.randint(0, 2, (33, 1)).float() * 2 - 1",
            args="p, t",
        ),
        "smooth l1 loss": text(
            "return F.smooth_l1_loss(p, t)", "torch.randn(13, 211), torch.randn(13, 211)", args="p, t"
        ),
        "cross entropy": text(
            "return F.cross_entropy(p, t)", "torch.randn(37, 211), torch.randint(0, 211, (37,))", args="p, t"
        ),
        "global average pooling": text(
            "x = F.gelu(x)\nx = torch.mean(x, dim=(2, 3), keepdim=True)\n"
            "x = x * 2 + 1\nreturn x.squeeze(-1).squeeze(-1)",
            "torch.randn(3, 8, 12, 13)",
        ),
        "linear, batch norm, swish": text(
            "x = self.matmul(x)\nx = self.bn(x)\n"
            "x = x + self.bias\nx = x / self.divide_value\nreturn x * torch.sigmoid(x)",
            "torch.randn(19, 40)",
            init="self.matmul = nn.Linear(i, o)\nself.bn = nn.BatchNorm1d(o)\n"
            "self.bias = nn.Parameter(torch.randn(1))\nself.divide_value = 2.0",
            init_args="i, o",
            values="40, 72",
        ),
        "convolution and what follows": text(
            "x = self.conv(x)\nx = torch.relu(x)\nx = x + self.bias\nreturn x",
            "torch.randn(2, 3, 12, 13)",
            init="self.conv = nn.Conv2d(3, 16, 3)\nself.bias = nn.Parameter(torch.randn(16, 1, 1))",
        ),
        "transposed convolution, softmax": text(
            "x = self.up(x)\nx = torch.softmax(x, dim=1)\n"
            "x = x + self.bias\nx = x * self.scale\nreturn torch.sigmoid(x)",
            "torch.randn(2, 4, 6, 7)",
            init="self.up = nn.ConvTranspose2d(4, 32, 4, stride=2)\n"
            "self.bias = nn.Parameter(torch.randn(32, 1, 1))\nself.scale = 2.0",
        ),
        "a block of a transformer": text(
            "B, T, C = x.shape\nq, k, v = self.qkv(self.n1(x)).split(C, dim=2)\n"
            "q, k, v = (t.view(B, T, self.h, C // self.h).transpose(1, 2) for t in (q, k, v))\n"
            "att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))\n"
            "att = att.masked_fill(self.mask[:, :, :T, :T] == 0, float('-inf'))\n"
            "y = (F.softmax(att, dim=-1) @ v).transpose(1, 2).contiguous().view(B, T, C)\n"
            "x = x + self.proj(y)\nreturn x + self.mlp(self.n2(x))",
            "torch.randn(2, 18, 32)",
            init="self.n1 = nn.LayerNorm(c)\nself.n2 = nn.LayerNorm(c)\n"
            "self.qkv = nn.Linear(c, 3 * c)\nself.proj = nn.Linear(c, c)\n"
            "self.h = h\nself.mlp = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c))\n"
            "self.register_buffer('mask', torch.tril(torch.ones(n, n)).view(1, 1, n, n))",
            init_args="c, h, n",
            values="32, 4, 24",
        ),
        "dropout that drops nothing": text(
            "x = self.matmul(x)\nx = self.dropout(x)\nreturn torch.softmax(x, dim=1)",
            "torch.randn(9, 64)",
            init="self.matmul = nn.Linear(64, 131)\nself.dropout = nn.Dropout(0.0)",
        ),
    }.items()
}
TEXTS["batch norm in evaluation"] = (
    text("return F.relu(self.bn(x))", "torch.randn(3, 8, 12, 13)", init="self.bn = nn.BatchNorm2d(8)"),
    "eval",
)

#: The published format with sizes as globals, comments, type hints and a device that is not here.
GLOBALS = '''import torch
import torch.nn as nn

batch_size = 16
features = 257


def activation(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)  # swish


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))

    def forward(self, x):
        return activation(x) * self.weight


class Model(nn.Module):
    """
    Simple model that gates its input.
    """

    def __init__(self, width: int = features):
        super(Model, self).__init__()
        self.gate = Gate(width)  # the Model's only part

    def forward(self, x: torch.Tensor, residual: bool = True) -> torch.Tensor:
        """
        Args:
            x (torch.Tensor): Input tensor of shape (batch_size, features).
        """
        y = self.gate(x)
        if residual:
            y += x
        return y


# Test code
def get_inputs():
    x = torch.rand(batch_size, features, device="cuda" if torch.cuda.is_available() else "cpu")
    return [x]


def get_init_inputs():
    return [features]  # what the constructor needs
'''
TEXTS["globals, helpers and comments"] = (GLOBALS, "train")

ONE_LINE = f"""{HEAD}
class Model(nn.Module):
    def forward(self, x): return torch.softmax(x * 0.5, -1)
def get_inputs(): return [torch.randn(5, 300)]
def get_init_inputs(): return []
"""
TEXTS["forward on one line"] = (ONE_LINE, "train")

LEFT_ALONE: dict[str, tuple[str, str]] = {
    "one convolution": (
        text("return self.c(x)", "torch.randn(2, 3, 32, 32)", init="self.c = nn.Conv2d(3, 8, 3)"),
        "one convolution",
    ),
    "one matrix product": (
        text("return torch.matmul(a, b)", "torch.randn(64, 64), torch.randn(64, 64)", args="a, b"),
        "one matrix product",
    ),
    "a change of its input": (text("x.mul_(2)\nreturn torch.relu(x)", "torch.randn(64, 64)"), "in place"),
    "an assignment into a tensor": (text("y = x * 2\ny[:, 0] = 0\nreturn y", "torch.randn(64, 64)"), "item assignment"),
    "a branch on values": (
        text("if x.sum() > 0:\n    return x * 2\nreturn x", "torch.randn(64, 64)"),
        "values of a tensor",
    ),
    "a random mask": (text("return F.dropout(x, 0.5)", "torch.randn(64, 64)"), "nothing"),
    "double precision": (text("return torch.relu(x) * 2", "torch.randn(64, 64).double()"), "no chain"),
    "whole numbers": (text("return x * 2 + 1", "torch.randint(0, 9, (64, 64))"), "no chain"),
    "too small to matter": (text("return torch.relu(x) * 2", "torch.randn(3, 4)"), "no chain"),
}
