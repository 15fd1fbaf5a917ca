"""Files of TritonLLM and KernelBench: what they claim arrives, marked as imported, and apart from what was measured."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_search import PROBLEM, FakeEvaluator, FakeProposer, controller, spec
from typer.testing import CliRunner

from kernelgrove.cli import app, run
from kernelgrove.model import Basis, Device, Idea, Outcome
from kernelgrove.storage import open_store
from kernelgrove.storage.documents import best, leaders, list_document, show_document, tree_document

REFERENCE = "import torch.nn as nn\n\n\nclass Model(nn.Module):\n    def forward(self, x):\n        return x\n\n\n"
REFERENCE += "def get_inputs():\n    return []\n\n\ndef get_init_inputs():\n    return []\n"


def _kernel(id_: str, idea: str | None, round_: int, **result: Any) -> dict[str, Any]:
    evaluated = {"compiled": True, "correctness": True, "runtime": None, "speedup": None, "error": None, **result}
    return {
        "code": f"class ModelNew:\n    name = {id_!r}\n",
        "kernel_id": id_,
        "idea_id": idea,
        "round_number": round_,
        "eval_result": evaluated,
        "code_hash": f"hash-{id_}",
        "metadata": {"temperature": 0.7},
    }


def _idea(id_: str, text: str, round_: int, *parents: str) -> dict[str, Any]:
    return {
        "idea_text": text,
        "round_number": round_,
        "idea_id": id_,
        "parent_kernel_ids": list(parents),
        "metadata": {},
    }


TRITONLLM: dict[str, Any] = {
    "metadata": {"problem_name": "23_Softmax", "timestamp": "2025-11-02T10:00:00"},
    "config": {"model": "gpt-5", "gpu_name": "RTX_4070_Laptop", "api_key": "sk-very-secret"},
    "statistics": {"total_kernels": 5},
    "round_summaries": [{"round": 0}, {"round": 1}],
    "best_kernel": {"kernel_id": "k4"},
    # The child stands before its parent: the order in the file means nothing.
    "all_ideas": [_idea("b", "walk rows in tiles", 1, "k2", "k1"), _idea("a", "fuse the passes", 0)],
    "all_kernels": [
        _kernel("k1", "a", 0, compiled=False, correctness=False, error="SyntaxError: line 3"),
        _kernel("k2", "a", 0, runtime=0.5, speedup=2.0),
        _kernel("k3", "b", 1, correctness=False, runtime=float("inf"), speedup=0.0),
        _kernel("k4", "b", 1, runtime=0.25, speedup=4.0),
        _kernel("k5", "b", 1, error="illegal memory access"),
    ],
}


def _command(*words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, [*words, "--json"])
    return done.exit_code, json.loads(done.stdout) if done.stdout else done.exception


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "grove.db")


@pytest.fixture
def results(tmp_path: Path) -> Callable[..., str]:
    def write(value: Any = TRITONLLM) -> str:
        path = tmp_path / "search_results_20251102.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return str(path)

    return write


def test_tritonllm_becomes_a_tree_of_claims(db: str, results: Callable[..., str]) -> None:
    code, document = _command("import", results(), "--db", db)
    assert (code, document["format"], document["searches"]) == (0, "tritonllm", ["s1"])
    with open_store(db) as store:
        tree = tree_document(store, 1)
        listed = list_document(store)[0]
        top = best(store, 1)
        shown = show_document(store, "s1")
    root, fuse, tiles = tree["nodes"]
    assert (fuse["idea"], fuse["parent"], fuse["round"]) == ("fuse the passes", root["id"], 0)
    assert (tiles["parent"], tiles["base"]) == (fuse["id"], fuse["implementations"][1]["id"])
    outcomes = [i["outcome"] for n in (fuse, tiles) for i in n["implementations"]]
    assert outcomes == ["compile_error", "ok", "wrong_result", "ok", "runtime_error"]
    assert {i["basis"] for n in tree["nodes"] for i in n["implementations"]} == {"imported"}
    assert (listed["problem"], listed["reference"]) == ("23_Softmax", "not attached")
    assert (listed["device"], listed["models"], listed["best_speedup"]) == ("RTX_4070_Laptop", ["gpt-5"], 4.0)
    assert top is not None
    assert (top["basis"], top["time_ms"], top["speedup"]["eager"]) == ("imported", 0.25, 4.0)
    assert shown["options"]["imported"]["statistics"] == {"total_kernels": 5}
    assert "sk-very-secret" not in json.dumps(shown)


def test_pages_for_people_say_imported_and_not_attached(
    db: str, results: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", results(), "--db", db]) == 0
    assert "reference is not attached" in capsys.readouterr().out
    for words, expected in {
        ("ls",): "23_Softmax (reference not",
        ("tree",): "0.2500 ms  4.00x imported",
        ("best",): "0.2500 ms, 4.00x over eager (imported for RTX_4070_Laptop)",
        ("show", "i1"): "SyntaxError: line 3",
        ("show", "s1"): "reference not attached",
    }.items():
        assert run([*words, "--db", db]) == 0
        assert expected in " ".join(capsys.readouterr().out.split()).replace("0.2500 ms 4", "0.2500 ms  4")


def test_the_reference_can_be_given_at_once_or_later(db: str, results: Callable[..., str], tmp_path: Path) -> None:
    reference = tmp_path / "23_Softmax.py"
    reference.write_text(REFERENCE)
    file = results()
    _command("import", file, "--db", db)
    code, again = _command("import", file, "--db", db)
    assert (code, again["already"], again["reference_missing"]) == (0, True, ["s1"])
    code, later = _command("import", file, "--db", db, "--problem", str(reference))
    assert (code, later["already"], later["attached"], later["reference_missing"]) == (0, True, ["s1"], [])
    with open_store(db) as store:
        assert store.search(1).spec.problem.source == REFERENCE
        assert store.search(1).spec.instance.source == REFERENCE
        assert len(list_document(store)) == 1
        assert best(store, 1)["time_ms"] == 0.25  # type: ignore[index]
    other = str(tmp_path / "other.db")
    _, once = _command("import", file, "--db", other, "--problem", str(reference))
    assert (once["already"], once["reference_missing"]) == (False, [])


def test_claims_never_mix_with_what_was_judged_here(db: str, results: Callable[..., str]) -> None:
    """The same program under the same problem: a search here neither reuses the claim nor ranks beside it."""
    value = copy.deepcopy(TRITONLLM)
    value["metadata"]["problem_name"] = PROBLEM.name
    evaluator = FakeEvaluator()
    with open_store(db, create=True) as store:
        controller(store, FakeProposer(failing=0.0), evaluator).run()
        first = store.tree(1).best(1)[0]
        value["all_kernels"][3]["code"] = store.code(first.program)
        value["all_kernels"][3]["eval_result"]["runtime"] = 1e-6
    _command("import", results(value), "--db", db)
    with open_store(db) as store:
        assert {row["basis"] for row in leaders(store, 1, 99)} == {"projected"}
        assert {row["basis"] for row in leaders(store, 2, 99)} == {"imported"}
        device = Device("RTX_4070_Laptop", "RTX_4070_Laptop", "RTX_4070_Laptop", Basis.MEASURED)
        third = store.create_search(spec(device=device, problem=store.search(2).spec.problem), Idea("x"))
        assert store.known_evaluation(third, first.program) is None


def _broken(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    value = copy.deepcopy(TRITONLLM)
    change(value)
    return value


BROKEN: dict[str, tuple[Any, str]] = {
    "cut off": (json.dumps(TRITONLLM)[:-300], "not JSON"),
    "no code": (_broken(lambda v: v["all_kernels"][3].pop("code")), r"all_kernels[3] (kernel_id k4): the key 'code'"),
    "no kernel_id": (_broken(lambda v: v["all_kernels"][1].pop("kernel_id")), "all_kernels[1]: the key 'kernel_id'"),
    "no eval_result": (_broken(lambda v: v["all_kernels"][2].pop("eval_result")), "the key 'eval_result' is missing"),
    "no ideas": (_broken(lambda v: v.pop("all_ideas")), "the key 'all_ideas' is missing"),
    "no object": (_broken(lambda v: v["all_kernels"].append(7)), "all_kernels[5]: 7, not an object"),
    "wrong type": (
        _broken(lambda v: v["all_kernels"][3]["eval_result"].update(runtime="fast")),
        "(kernel_id k4), eval_result: 'runtime' is \"fast\", not a number",
    ),
    "text for a flag": (
        _broken(lambda v: v["all_kernels"][3]["eval_result"].update(compiled="yes")),
        "'compiled' is \"yes\", not true or false",
    ),
    "NaN": (
        _broken(lambda v: v["all_kernels"][3]["eval_result"].update(runtime=float("nan"))),
        "(kernel_id k4), eval_result: 'runtime' is nan, which is no figure",
    ),
    "unknown idea": (_broken(lambda v: v["all_kernels"][0].update(idea_id="z")), "its idea 'z' is not in all_ideas"),
    "unknown parent": (
        _broken(lambda v: v["all_ideas"][0].update(parent_kernel_ids=["k9"])),
        "idea b: its parent kernel 'k9' is not in all_kernels",
    ),
    "a circle": (_broken(lambda v: v["all_ideas"][1].update(parent_kernel_ids=["k4"])), "it builds on itself"),
    "twice": (_broken(lambda v: v["all_kernels"].append(v["all_kernels"][0])), "a second kernel of this id"),
    "something else": ({"hello": 1}, "is nothing that can be imported"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_result_says_which_entry_and_imports_nothing(
    case: str, db: str, results: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    value, says = BROKEN[case]
    assert run(["import", results(value), "--db", db]) == 2
    assert says in capsys.readouterr().err
    assert not Path(db).exists()


# ------------------------------------------------------------------------------------------------- KernelBench


def _result(sample: int, *, runtime: float = -1.0, **more: Any) -> dict[str, Any]:
    return {
        "sample_id": sample,
        "compiled": True,
        "correctness": True,
        "metadata": {"hardware": "NVIDIA L40S", "device": "cuda:0", "correctness_trials": "(5 / 5)"},
        "runtime": runtime,
        "runtime_stats": {"mean": runtime, "std": 0.01, "min": 0.9, "max": 1.2, "num_trials": 100},
        **more,
    }


FAILED = {"compiled": True, "correctness": False, "runtime": -1.0, "runtime_stats": {}}
SAMPLES = {
    "23": [
        _result(0, runtime=1.5),
        _result(1, runtime=1.25),
        {"sample_id": 2, **FAILED, "metadata": {"runtime_error": "CUDA error", "hardware": "NVIDIA L40S"}},
        {"sample_id": 3, **FAILED, "metadata": {"correctness_issue": "max difference 0.5"}},
        {"sample_id": 4, **FAILED, "compiled": False, "metadata": {"compilation_error": "no module"}},
    ],
    "40": [_result(0, runtime=2.5)],
}


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., str]:
    def write(results: Any) -> str:
        folder = tmp_path / "my_run"
        folder.mkdir(exist_ok=True)
        for problem, samples in (("23", 6), ("40", 1)):
            for sample in range(samples):
                text = f"class ModelNew:\n    name = ({problem}, {sample})\n"
                (folder / f"level_1_problem_{problem}_sample_{sample}_kernel.py").write_text(text)
        if results is not None:
            (folder / "eval_results.json").write_text(results if isinstance(results, str) else json.dumps(results))
        return str(folder)

    return write


def test_a_run_becomes_a_search_a_problem(db: str, bench: Callable[..., str]) -> None:
    code, document = _command("import", bench(SAMPLES), "--db", db)
    assert (code, document["format"], document["searches"]) == (0, "kernelbench", ["s1", "s2"])
    with open_store(db) as store:
        made = tree_document(store, 1)["nodes"][0]["implementations"]
        listed = list_document(store)
        top = best(store, 1)
        evaluation = show_document(store, "e2")
    assert [i["outcome"] for i in made] == ["ok", "ok", "runtime_error", "wrong_result", "compile_error", None]
    assert [row["problem"] for row in listed] == ["level_1_problem_23", "level_1_problem_40"]
    assert {row["reference"] for row in listed} == {"not attached"}
    assert top is not None and (top["time_ms"], top["basis"], top["target"]) == (1.25, "imported", "NVIDIA L40S")
    assert evaluation["trials"] == {"passed": 5, "of": 5}
    assert evaluation["time_stats"]["n"] == 100


def test_the_shape_with_one_result_a_problem_is_read_too(db: str, bench: Callable[..., str]) -> None:
    one = {"23": _result(1, runtime=0.75), "40": {**FAILED, "metadata": {}}}
    assert _command("import", bench(one), "--db", db)[0] == 0
    with open_store(db) as store:
        judged = [i.evaluation for i in store.tree(1).implementations.values()]
        assert [e and e.time_ms for e in judged] == [None, 0.75, None, None, None, None]
        assert [i.evaluation and i.evaluation.outcome for i in store.tree(2).implementations.values()] == [
            Outcome.WRONG_RESULT
        ]


def test_references_are_matched_by_number(db: str, bench: Callable[..., str], tmp_path: Path) -> None:
    level = tmp_path / "level1"
    level.mkdir()
    (level / "23_Softmax.py").write_text(REFERENCE)
    (level / "24_LogSoftmax.py").write_text(REFERENCE + "\n# another\n")
    code, document = _command("import", bench(SAMPLES), "--db", db, "--problem", str(level))
    assert (code, document["reference_missing"]) == (0, ["s2"])
    with open_store(db) as store:
        assert store.search(1).spec.problem.name == "23_Softmax"
    assert run(["import", bench(SAMPLES), "--db", db, "--problem", str(level / "24_LogSoftmax.py")]) == 2


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ('{"23": [', "eval_results.json: not JSON"),
        ({"99": [_result(0)]}, "'99': there is no kernel of such a problem"),
        ({"23": [_result(0), _result(7)]}, "'23'[1]: there is no kernel of sample 7"),
        ({"23": [_result(0), _result(0)]}, "'23'[1]: a second result for sample 0"),
        ({"23": [{"sample_id": 0, "compiled": True}]}, "'23'[0]: the key 'correctness' is missing"),
        ({"23": [_result(0, runtime=float("nan"))]}, "'23'[0]: 'runtime' is nan"),
        ({"23": "fine"}, "'23': \"fine\", not an object"),
        ([], "[], not an object"),
    ],
)
def test_broken_results_say_which_entry(
    results: Any, says: str, db: str, bench: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", bench(results), "--db", db]) == 2
    assert says in capsys.readouterr().err
    assert not Path(db).exists()


def test_a_folder_without_kernels_is_refused(tmp_path: Path, db: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", str(tmp_path), "--db", db]) == 2
    assert "holds no level_L_problem_P_sample_S_kernel.py" in capsys.readouterr().err
