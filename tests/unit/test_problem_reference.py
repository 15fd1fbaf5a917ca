"""Running a reference: seeds, devices, modes, and one sentence for each way that it can fail."""

from __future__ import annotations

import random
import sys
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kernelgrove.errors import ProblemError
from kernelgrove.problems.audit import weaknesses
from kernelgrove.problems.outputs import flatten
from kernelgrove.problems.reference import Reference, validate

GOOD = """import torch
import torch.nn as nn
import torch.nn.functional as F

class Model(nn.Module):
    def __init__(self, features, scale):
        super().__init__()
        self.linear = nn.Linear(features, 6)
        self.scale = scale

    def forward(self, x):
        return self.linear(x) * self.scale

def get_inputs():
    return [torch.randn(5, 12)]

def get_init_inputs():
    return [12, 0.5]
"""


def refusal(*changes: tuple[str, str], source: str = GOOD) -> str:
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    with pytest.raises(ProblemError) as caught:
        validate(Reference(source, "f"), "cpu")
    message = str(caught.value)
    assert "f.py" in message and "\n" not in message and "Traceback" not in message
    return message


def test_a_description_holds_shapes_dtypes_and_parameters() -> None:
    description = validate(Reference(GOOD, "f"), "cpu")
    assert [str(spec) for spec in description.inputs] == ["float32[5, 12]"]
    assert [(spec.path, spec.shape, spec.dtype) for spec in description.outputs] == [("", (5, 6), "float32")]
    assert description.parameters == 12 * 6 + 6


def test_inputs_that_do_not_fit() -> None:
    message = refusal(("[torch.randn(5, 12)]", "[torch.randn(5, 12)] * 2"))
    assert "forward() of Model in f.py does not accept what get_inputs() returns: too many positional" in message
    message = refusal(("randn(5, 12)", "randn(5, 13)"))
    assert "f.py:12: forward() of Model on what get_inputs() returns fails with RuntimeError: mat1 and mat2" in message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("* self.scale", "* float('nan')", "The reference in f.py gives NaN: 30 of 30 elements of its output"),
        ("* self.scale", "/ 0", "gives infinity"),
        ("return self.linear(x) * self.scale", "return {'a': x, 'b': (x, x / 0)}", r"output['b'][1]"),
        ("return self.linear(x) * self.scale", "return 3.0", "returns no tensor with elements (it returns a float)"),
        ("return self.linear(x) * self.scale", "pass", "it returns nothing"),
        ("return self.linear(x) * self.scale", "return x[:0]", "no tensor with elements"),
        ("return self.linear(x) * self.scale", "import sys; sys.exit(3)", "fails with SystemExit: 3"),
        ("[12, 0.5]", "[12]", "constructor of Model in f.py does not accept what get_init_inputs() returns: missing"),
        ("[12, 0.5]", "[-1, 0.5]", "f.py:8: the constructor of Model fails with RuntimeError"),
        ("[12, 0.5]", "12", "get_init_inputs() in f.py returns a int; it must return a list"),
        ("[torch.randn(5, 12)]", "torch.randn(5, 12)", "get_inputs() in f.py returns a Tensor"),
        ("[torch.randn(5, 12)]", "[undefined]", "f.py:15: get_inputs() fails with NameError"),
        ("import torch\n", "import torch\nraise OSError('no\\ndisk')\n", "f.py:2: importing it fails with OSError: no"),
        ("nn.Module", "object", "is not an nn.Module"),
        ("class Model", "class Net", "no Model once it has run"),
    ],
)
def test_each_fault_is_one_sentence(old: str, new: str, expected: str) -> None:
    if new == "object":
        message = refusal((old, new), ("        super().__init__()\n", ""))
    else:
        message = refusal((old, new))
    assert expected in message, message


def test_a_line_is_that_of_the_file_even_in_a_called_function() -> None:
    message = refusal(
        ("* self.scale", "* boom()"), ("def get_inputs", "def boom():\n    return 1 // 0\n\ndef get_inputs")
    )
    assert message.startswith("f.py:15: ")


def test_seeds_decide_weights_and_inputs() -> None:
    reference = Reference(GOOD, "f")
    one, same, other = (reference.make(seed, "cpu").linear.weight for seed in (1, 1, 2))  # type: ignore[union-attr]
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(reference.inputs(2**40 + 1, "cpu")[0], reference.inputs(2**40 + 1, "cpu")[0])
    assert not torch.equal(reference.inputs(1, "cpu")[0], reference.inputs(2, "cpu")[0])


def test_seeds_decide_in_every_thread() -> None:
    reference = Reference(GOOD.replace("randn(5, 12)", "randn(300, 12)"), "f")
    expected = [reference.inputs(seed, "cpu")[0] for seed in range(64)]
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda seed: reference.inputs(seed, "cpu")[0], range(64)))
    assert all(torch.equal(a, b) for a, b in zip(expected, drawn, strict=True))


def test_seeds_reach_numpy_and_random() -> None:
    text = GOOD.replace("[torch.randn(5, 12)]", "[torch.full((5, 12), random.random() + float(numpy.random.rand()))]")
    reference = Reference("import random, numpy\n" + text, "f")
    first = reference.inputs(5, "cpu")[0]
    random.random()
    assert torch.equal(first, reference.inputs(5, "cpu")[0])


def test_everything_is_made_on_the_device() -> None:
    text = GOOD.replace("self.scale = scale", "self.scale = scale\n        self.table = torch.arange(3)").replace(
        "[torch.randn(5, 12)]", "[torch.randn(5, 12), [torch.ones(2, device='cpu')], 3]"
    )
    reference = Reference(text, "f")
    x, nested, number = reference.inputs(0, "meta")
    assert x.is_meta and nested[0].is_meta and number == 3
    model = reference.make(0, "meta")
    assert model.linear.weight.is_meta and model.table.is_meta  # type: ignore[union-attr]


def test_init_inputs_are_the_same_on_every_call_and_leave_the_generator_alone() -> None:
    reference = Reference(GOOD.replace("[12, 0.5]", "[12, torch.rand(6)]"), "f")
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    first = reference.init_inputs()
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first[1], reference.init_inputs()[1])
    validate(reference, "cpu")


def test_the_mode_is_the_one_it_is_constructed_in() -> None:
    assert Reference(GOOD, "f").make(0, "cpu").training
    assert not Reference(GOOD, "f", mode="eval").make(0, "cpu").training
    constructed = GOOD.replace("self.scale = scale", "self.scale = scale\n        self.eval()")
    assert not Reference(constructed, "f").make(0, "cpu").training


def test_dataclasses_in_a_file_work_and_closing_forgets_it() -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass C:\n    a: int\n"
    before = set(sys.modules)
    reference = Reference(text + GOOD, "f")
    validate(reference, "cpu")
    reference.close()
    assert not {name for name in set(sys.modules) - before if name.startswith("kernelgrove_problem")}


def test_two_files_of_one_name_do_not_mix() -> None:
    first, second = Reference(GOOD, "f"), Reference(GOOD.replace("0.5", "2.0"), "f")
    x = first.inputs(0, "cpu")
    a, b = first.run(first.make(0, "cpu"), x), second.run(second.make(0, "cpu"), x)
    assert torch.allclose(a * 4, b)


def test_outputs_may_be_nested() -> None:
    text = GOOD.replace("return self.linear(x) * self.scale", "return {'y': (x.sum(), [x > 0, 7])}, x.argmax()")
    description = validate(Reference(text, "f"), "cpu")
    assert [(s.path, s.dtype, s.tensor) for s in description.outputs] == [
        ("[0]['y'][0]", "float32", True),
        ("[0]['y'][1][0]", "bool", True),
        ("[0]['y'][1][1]", "int", False),
        ("[1]", "int64", True),
    ]


def test_flatten_walks_any_tuple_or_mapping() -> None:
    pair = namedtuple("pair", "a b")
    assert flatten(pair(1, {"k": [None]})) == [("[0]", 1), ("[1]['k'][0]", None)]
    assert flatten("text") == [("", "text")]
    assert flatten([]) == []


def allclose_to(expected: list[torch.Tensor], tolerance: float) -> Callable[[list[torch.Tensor]], bool]:
    def passes(answers: list[torch.Tensor]) -> bool:
        pairs = zip(answers, expected, strict=True)
        return all(torch.allclose(a.double(), e.double(), rtol=tolerance, atol=tolerance) for a, e in pairs)

    return passes


def test_weaknesses_respect_the_rule_and_integers() -> None:
    nearly = [torch.full((4,), 0.05)]
    assert weaknesses(nearly, [torch.full((4,), 9.0)], allclose_to(nearly, 0.1))
    assert not any("zeros" in line for line in weaknesses(nearly, nearly, allclose_to(nearly, 1e-3)))
    counts = [torch.tensor([1, 2, 3])]
    assert weaknesses(counts, [torch.tensor([1, 2, 4])], allclose_to(counts, 0.0)) == []
    assert weaknesses(counts, [torch.tensor([1, 2])], allclose_to(counts, 0.0)) == []
    tail = [torch.cat([torch.ones(15), torch.zeros(1)])]
    assert any("tail" in line for line in weaknesses(tail, [torch.ones(16)], allclose_to(tail, 1e-3)))


def returning(output: str) -> tuple[str, str]:
    return "return self.linear(x) * self.scale", f"return {output}"


def test_outputs_that_cannot_be_compared() -> None:
    good = "{'y': self.linear(x), 'n': 5, 'total': 0.5, 'how': 'sum', 'rest': None}"
    assert len(validate(Reference(GOOD.replace(*returning(good)), "f"), "cpu").outputs) == 5
    assert (
        "output['on'] of forward() of Model in f.py is a device, which cannot be compared. Return tensors"
        in refusal(returning("{'y': self.linear(x), 'on': x.device}"))
    )
    assert "output[1] of forward() of Model in f.py is nan" in refusal(returning("self.linear(x), float('nan')"))
    assert "returns 71 outputs" in refusal(returning("[self.linear(x), *range(70)]"))
    many = GOOD.replace(*returning("[self.linear(x)] * 70"))
    assert len(validate(Reference(many, "f"), "cpu").outputs) == 70
