"""Everything this package knows of Triton's interpreter from the inside; made for Triton 3.6 and 3.7.

The stock interpreter patches ``triton.language`` at every launch and at every call of a device function. A process that
only interprets can do it once: ``patch_language`` binds each builtin to one semantic object for good.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import triton
import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import autotuner as _autotuner
from triton.runtime import interpreter as _stock
from triton.runtime.driver import driver as _driver
from triton.runtime.errors import OutOfResources
from triton.runtime.jit import TensorWrapper, type_canonicalisation_dict
from triton.tools.tensor_descriptor import TensorDescriptor

StockBuilder = _stock.InterpreterBuilder
Handle = _stock.TensorHandle
InterpretedFunction = _stock.InterpretedFunction
Autotuner = _autotuner.Autotuner
Wrapper = TensorWrapper
Descriptor = TensorDescriptor
ATOMIC = _stock._ir.ATOMIC_OP
PRECISION = _stock._ir.INPUT_PRECISION
ROUND_TO_ZERO = _stock._ir.ROUNDING_MODE.RTZ
OUT_OF_RESOURCES: type[Exception] = OutOfResources
raw_load = _stock._interpreter.load
raw_store = _stock._interpreter.store
generic_reduce = _stock.ReduceOps
generic_scan = _stock.ScanOps

_NUMPY = {name: _stock._get_np_dtype(getattr(tl, long)) for name, long in (
    ("int1", "int1"), ("int8", "int8"), ("uint8", "uint8"), ("int16", "int16"), ("uint16", "uint16"),
    ("int32", "int32"), ("uint32", "uint32"), ("int64", "int64"), ("uint64", "uint64"),
    ("fp16", "float16"), ("fp32", "float32"), ("fp64", "float64"), ("bf16", "bfloat16"),
    ("fp8e5", "float8e5"), ("fp8e5b16", "float8e5b16"), ("fp8e4nv", "float8e4nv"),
    ("fp8e4b8", "float8e4b8"), ("fp8e4b15", "float8e4b15"),
)}  # fmt: skip
_POINTER = _stock._get_np_dtype(tl.pointer_type(tl.int8))


def np_dtype(kind: Any) -> Any:
    """NumPy dtype that holds a Triton scalar, block or pointer type; narrow floats as unsigned bits."""
    if isinstance(kind, tl.block_type):
        kind = kind.element_ty
    found = _NUMPY.get(kind.name)
    return _POINTER if found is None else found


@lru_cache(maxsize=64)
def pointer_to(torch_dtype: Any) -> Any:
    """Triton's pointer type for a torch dtype; ``KeyError`` for one that Triton does not know (complex, quantised)."""
    return tl.str_to_ty("*" + type_canonicalisation_dict[str(torch_dtype).rpartition(".")[2]], None)


def integer_type(value: int) -> Any:
    """The type that Triton gives an integer argument. Raises ``ValueError`` for one past 64 bits."""
    for kind, low, high in (
        (tl.int32, -(2**31), 2**31),
        (tl.uint32, 2**31, 2**32),
        (tl.int64, -(2**63), 2**63),
        (tl.uint64, 2**63, 2**64),
    ):
        if low <= value < high:
            return kind
    raise ValueError(f"the integer {value} does not fit 64 bits")


def allow_no_overflow_checks(builder: Any) -> None:
    """Off, as it acts on a device without ``debug``: the stock options compute every integer sum twice for nothing."""
    builder.options = type(builder.options)(sanitize_overflow=False)


def target_dot_sizes() -> Callable[[Any, Any], tuple[int, int, int]] | None:
    """The CUDA backend's rule for the least M, N, K of a dot, so that a dot it refuses is refused here."""
    try:
        from triton.backends.nvidia.compiler import min_dot_size
    except ImportError:
        return None
    rule: Callable[[Any, Any], tuple[int, int, int]] = min_dot_size(None)
    return rule


@lru_cache(maxsize=1)
def launch_options() -> frozenset[str]:
    """Keywords that a CUDA launch takes beside the kernel's own arguments."""
    try:
        from triton.backends.nvidia.compiler import CUDAOptions

        return frozenset(CUDAOptions.__dataclass_fields__)
    except ImportError:
        return frozenset({"num_warps", "num_stages", "num_ctas", "maxnreg"})


class _Semantic(TritonSemantic):  # type: ignore[misc]
    """Triton's semantics with short cuts where nothing is to be done."""

    def broadcast_impl_value(self, lhs: Any, rhs: Any) -> Any:
        left = getattr(lhs.type, "_kernelgrove_sizes", None)
        if left == getattr(rhs.type, "_kernelgrove_sizes", None) and (left is not None or not lhs.type.is_block()):
            return lhs, rhs
        return super().broadcast_impl_value(lhs, rhs)

    def cast(self, input: Any, dst_ty: Any, *rounding: Any) -> Any:
        if input.type.scalar is dst_ty and not any(rounding):
            return input
        return super().cast(input, dst_ty, *rounding)


def _bind(member: Any, semantic: Any) -> Callable[..., Any]:
    function = getattr(member, "__wrapped__", member)  # skip the check for a missing ``_semantic``

    def bound(*args: Any, **kwargs: Any) -> Any:
        kwargs["_semantic"] = semantic
        return function(*args, **kwargs)

    bound.__name__ = getattr(member, "__name__", "builtin")
    bound.__doc__ = getattr(member, "__doc__", None)
    return bound


def bind_builtins(owner: Any, semantic: Any) -> list[str]:
    """Make the builtins of a module or class callable from plain Python; returns their names."""
    names = []
    for name, member in inspect.getmembers(owner):
        if tl.core.is_builtin(member):
            setattr(owner, name, _bind(member, semantic))
            names.append(name)
    return names


def patch_language(builder: Any, replacements: Mapping[str, Any], members: Mapping[str, Any]) -> Any:
    """Bind ``triton.language`` to ``builder`` for the life of the process.

    ``replacements`` go into ``tl`` and ``tl.core``, ``members`` onto ``tl.tensor``. Returns the semantic object, whose
    ``builder`` may be exchanged for a while.
    """
    semantic = _Semantic(builder)
    _stock.interpreter_builder = builder
    _stock.interpreter_semantic = semantic
    _stock._get_np_dtype = np_dtype
    scope = _stock._LangPatchScope()
    for owner in (tl, tl.core, tl.math, tl.tensor, tl.core.tensor_descriptor_base):
        bind_builtins(owner, semantic)
    _stock._patch_lang_tensor(tl.tensor, scope)
    for owner in (tl, tl.core):
        _stock._patch_lang_core(owner, scope)
        for name, member in replacements.items():
            setattr(owner, name, member)
    for name, member in members.items():
        setattr(tl.tensor, name, member)
    return semantic


def quicken() -> None:
    """Keep what ``tl.tensor`` and ``tl.block_type`` work out of a shape: half of an interpreted operation's time."""
    stock_tensor, stock_block = tl.tensor.__init__, tl.block_type.__init__
    of_tensors: dict[Any, tuple[Any, Any]] = {}
    of_blocks: dict[Any, tuple[Any, int]] = {}

    def tensor(self: Any, handle: Any, type: Any) -> None:
        key = getattr(type, "_kernelgrove_sizes", None)
        known = of_tensors.get(key)
        if known is None:
            stock_tensor(self, handle, type)
            if key is not None or not type.is_block():
                of_tensors[key] = self.shape, self.numel
            return
        self.shape, self.numel = known
        self.handle, self.type, self.dtype = handle, type, type.scalar

    def block(self: Any, element_ty: Any, shape: Any) -> None:
        key = tuple([getattr(size, "value", size) for size in shape])
        known = of_blocks.get(key)
        if known is None:
            stock_block(self, element_ty, shape)
            of_blocks[key] = self.shape, self.numel
        else:
            self.element_ty = element_ty
            self.shape, self.numel = known
        self._kernelgrove_sizes = key

    tl.block_type.name = property(lambda self: f"<{self.shape}, {self.element_ty}>", lambda self, name: None)
    tl.tensor.__init__ = tensor
    tl.block_type.__init__ = block


def patch_calls(launch: Callable[..., Any], call: Callable[..., Any]) -> None:
    """``launch(function, args, grid, warmup, kwargs)`` runs a grid; ``call(function, args, kwargs)`` a device call."""

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        return launch(self, args, grid, warmup, kwargs)

    def device_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return call(self, args, kwargs)

    InterpretedFunction.run = run
    InterpretedFunction.__call__ = device_call


def use_driver(standin: Any) -> None:
    """Make ``triton.runtime.driver.active`` answer for the target."""
    _driver.set_active(standin)


def make_descriptor(semantic: Any, given: Any, convert: Callable[[Any], Any]) -> Any:
    """A host-side tensor descriptor as the kernel sees it."""
    strides = [convert(stride) for stride in given.strides]
    strides[-1] = tl.constexpr(1)
    return semantic.make_tensor_descriptor(
        base=convert(given.base),
        shape=[convert(size) for size in given.shape],
        strides=strides,
        block_shape=[tl.constexpr(size) for size in given.block_shape],
        padding_option=given.padding,
    )


class _Rewriter(ast.NodeTransformer):
    """Python's own semantics → the device's, where they part.

    Assigned numbers become scalars of the language; ``range`` gives scalars; ``min`` and ``max`` take blocks.
    """

    HELPERS = "_kernelgrove_device"

    def _helper(self, name: str) -> ast.expr:
        return ast.Attribute(value=ast.Name(id=self.HELPERS, ctx=ast.Load()), attr=name, ctx=ast.Load())

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if len(node.targets) > 1:
            raise SyntaxError(f"line {node.lineno}: simultaneous multiple assignment is not supported")
        self.generic_visit(node)
        node.value = ast.Call(func=self._helper("scalar"), args=[node.value], keywords=[])
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        constant = "constexpr" in ast.unparse(node.annotation)
        if node.value is None or not isinstance(node.target, ast.Name):
            return node
        wrap = "constant" if constant else "scalar"
        call = ast.Call(func=self._helper(wrap), args=[node.value], keywords=[])
        return ast.copy_location(ast.Assign(targets=[node.target], value=call), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in ("min", "max", "range") and not node.keywords:
            node.func = self._helper(node.func.id)
        return node


def rewrite(function: Callable[..., Any], helpers: Any) -> Callable[..., Any]:
    """The kernel's body compiled again with the device's semantics, its own globals, closure, defaults and lines."""
    try:
        lines, start = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return function  # made at run time: no source to go by
    definition = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    definition.decorator_list = []
    definition.returns = None
    arguments = definition.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    arguments.defaults, arguments.kw_defaults = [], []
    for index, statement in enumerate(definition.body):
        definition.body[index] = _Rewriter().visit(statement)
    cells = inspect.getclosurevars(function).nonlocals
    factory: Any = ast.FunctionDef(
        name="_kernelgrove_factory",
        args=ast.arguments(
            posonlyargs=[],
            args=[ast.arg(arg=name) for name in (_Rewriter.HELPERS, *cells)],
            kwonlyargs=[],
            kw_defaults=[],
            defaults=[],
        ),
        body=[definition, ast.Return(value=ast.Name(id=definition.name, ctx=ast.Load()))],
        decorator_list=[],
    )
    if "type_params" in ast.FunctionDef._fields:  # Python 3.12 wants the field, 3.11 does not know it
        factory.type_params = []
    module = ast.Module(body=[factory], type_ignores=[])
    ast.fix_missing_locations(module)
    ast.increment_lineno(module, start - 1)
    filename = inspect.getsourcefile(function) or function.__code__.co_filename
    made: dict[str, Any] = {}
    exec(compile(module, filename, "exec"), function.__globals__, made)
    rewritten: Any = made["_kernelgrove_factory"](helpers, **cells)
    rewritten.__defaults__, rewritten.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    result: Callable[..., Any] = rewritten
    return result


def version() -> str:
    """Triton's version."""
    return str(triton.__version__)
