"""What kind of computation a reference is, read off its text: ``reduction``, ``matmul`` and the like.

A problem is of every family whose operators its source names; of none of them, it is ``elementwise``. This is a rule of
thumb to find problems by, never something a figure depends on.
"""

from __future__ import annotations

import ast
import re

_OPERATORS = {
    "reduction": "sum mean max min amax amin argmax argmin prod var std logsumexp softmax log_softmax softmin norm"
    " layer_norm rms_norm group_norm instance_norm batch_norm normalize cross_entropy nll_loss mse_loss kl_div"
    " Softmax LogSoftmax LayerNorm RMSNorm GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d BatchNorm1d"
    " BatchNorm2d BatchNorm3d CrossEntropyLoss MSELoss KLDivLoss",
    "matmul": "matmul mm bmm addmm baddbmm einsum linear Linear Bilinear",
    "convolution": "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d Conv1d Conv2d Conv3d"
    " ConvTranspose1d ConvTranspose2d ConvTranspose3d",
    "attention": "scaled_dot_product_attention MultiheadAttention",
    "pooling": "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d MaxPool1d MaxPool2d MaxPool3d"
    " AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d",
    "scan": "cumsum cumprod cummax cummin logcumsumexp",
}

#: operator -> family
_FAMILY = {operator: family for family, operators in _OPERATORS.items() for operator in operators.split()}

FAMILIES = (*_OPERATORS, "elementwise")


def families(source: str) -> tuple[str, ...]:
    """The families of a reference, in the order of ``FAMILIES``. Text that is no Python is read word by word."""
    try:
        words = _called(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        words = set(re.findall(r"\.(\w+)\(", source))
    found = {_FAMILY[word] for word in words if word in _FAMILY}
    return tuple(family for family in FAMILIES if family in found) or ("elementwise",)


def _called(tree: ast.Module) -> set[str]:
    """The names called anywhere but in ``get_inputs`` and ``get_init_inputs``, ``@`` as ``matmul``."""
    inputs = {"get_inputs", "get_init_inputs"}
    body = [item for item in tree.body if not (isinstance(item, ast.FunctionDef) and item.name in inputs)]
    words: set[str] = set()
    for item in body:
        for node in ast.walk(item):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                words.add(node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id)
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
                words.add("matmul")
    return words
