"""A small grove with two GPUs measured and one projected, three proposers with prices, failures and repairs: what a
query can ask about and no search with one fake proposer has. Made as rows, so that every figure is known.

====  ======  ============  =======================================================================
s1    A100    layer_norm    i1 0.50, i2 wrong, i3 repair of i2 0.20 (best), i4 0.25; openai:small, openai:large
s2    H100    layer_norm    i5 0.30, i6 compile error, i7 the program of i3 0.15, i8 0.10 (best)
s3    L4      row_sum       i9 projected 0.40, i10 not judged, i11 duplicate of i9
====  ======  ============  =======================================================================

and on the H100, a replay of i3 (0.15: as i7) and of i4 (0.12).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from kernelgrove.storage import open_store

LAYER_NORM = "class Model:\n    def forward(self, x):\n        return F.layer_norm(x, (8,))\n"
ROW_SUM = "class Model:\n    def forward(self, x):\n        return x.sum(-1)\n"
MATMUL = "class Model:\n    def forward(self, a, b):\n        return a @ b\n"
#: Seconds since the epoch: 2026-01-31T12:00:00Z.
NOON = 1769860800.0


class Rows:
    """Inserts rows by table and column; foreign keys are checked at the end."""

    def __init__(self, path: Path) -> None:
        open_store(path, create=True).close()
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("BEGIN")

    def add(self, table: str, **values: Any) -> int:
        marks = ", ".join("?" * len(values))
        self.db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
        return int(self.db.execute("SELECT last_insert_rowid()").fetchone()[0])

    def close(self) -> None:
        assert self.db.execute("PRAGMA foreign_key_check").fetchall() == []
        self.db.execute("COMMIT")
        self.db.close()

    def problem(self, name: str, source: str) -> int:
        return self.add("problem", digest=f"digest of {name}", name=name, source=source, sizes="{}", mode="train")

    def device(self, gpu: str, key: str, basis: str) -> int:
        return self.add("device", name="cuda:0", gpu=gpu, key=key, basis=basis, software="{}")

    def search(self, problem: int, device: int, name: str | None = None) -> int:
        gpu, key = self.db.execute("SELECT gpu, key FROM device WHERE id = ?", (device,)).fetchone()
        (digest,) = self.db.execute("SELECT digest FROM problem WHERE id = ?", (problem,)).fetchone()
        return self.add(
            "search",
            **{"name": name, "problem_id": problem, "problem_digest": digest, "device_id": device, "device_key": key},
            **{"target": gpu, "size_key": "full", "instance": "{}", "strategy": "branch", "strategy_options": "{}"},
            **{"models": '["openai:small"]', "seed": 1, "precision": "default", "protocol": 1, "options": "{}"},
            **{"status": "finished", "note": "", "created_at": NOON, "elapsed_s": 60.0},
        )

    def node(self, search: int, parent: int | None, idea: str, category: str, base: int | None = None) -> int:
        (number,) = self.db.execute("SELECT count(*) FROM node WHERE search_id = ?", (search,)).fetchone()
        return self.add(
            "node",
            **{"search_id": search, "parent_id": parent, "base_id": base, "address": f"r.{number}", "round": number},
            **{"idea": idea, "rationale": "because it helps", "category": category, "state": "open"},
            **{"model": "openai:small", "created_at": NOON},
        )

    def call(self, search: int, kind: str, model: str, cost: float | None, state: str = "ok") -> int:
        """A job and the proposer call that answered it; the job's id."""
        made = {"search_id": search, "kind": kind, "created_at": NOON, "model": model}
        job = self.add(
            "job", **made, key="k", ordinal=0, payload="{}", state="done", attempt=1, max_attempts=3, note=""
        )
        self.add(
            "completion",
            **made,
            **{"job_id": job, "owner": "me", "attempt": 1, "key": "k", "problem_digest": "d", "state": state},
            **{"reserve_usd": 0.0, "reserve_tokens": 0, "tokens": 100, "cost_usd": cost},
        )
        return job

    def evaluation(self, made: int | None, search: int, device: int, code: str, outcome: str, ms: float | None) -> int:
        gpu, key, basis = self.db.execute("SELECT gpu, key, basis FROM device WHERE id = ?", (device,)).fetchone()
        (digest,) = self.db.execute("SELECT problem_digest FROM search WHERE id = ?", (search,)).fetchone()
        message = {"wrong_result": "row 3 differs\nby 0.2", "compile_error": "no tl.foo"}.get(outcome, "")
        return self.add(
            "evaluation",
            **{"search_id": search, "implementation_id": made, "program": code, "problem_digest": digest},
            **{"size_key": "full", "device_id": device, "device_key": key, "target": gpu, "precision": "default"},
            **{"protocol": 1, "outcome": outcome, "stage": "time" if ms else "check", "message": message},
            **{"trials_passed": 5, "trials_of": 5, "basis": basis, "time_ms": ms, "eager_ms": 1.0 if ms else None},
            **{"speedup_eager": 1.0 / ms if ms else None, "wall_s": 2.0, "baselines": "{}", "speedup": "{}"},
            **{"advice": "[]", "detail": "{}", "created_at": NOON},
        )

    def implementation(
        self,
        node: int,
        model: str,
        code: str,
        verdict: tuple[int, str, float | None] | None,
        *,
        cost: float | None = 0.02,
        repair_of: int | None = None,
        duplicate_of: int | None = None,
    ) -> int:
        """*verdict* is (device, outcome, milliseconds); None leaves it unjudged."""
        (search,) = self.db.execute("SELECT search_id FROM node WHERE id = ?", (node,)).fetchone()
        (number,) = self.db.execute("SELECT count(*) FROM implementation").fetchone()
        self.db.execute("INSERT OR IGNORE INTO program (hash, code, created_at) VALUES (?, ?, ?)", (code, code, NOON))
        kind = "implement" if repair_of is None else "repair"
        made = self.add(
            "implementation",
            **{"search_id": search, "node_id": node, "address": f"r/{number}", "repair_of": repair_of},
            **{"duplicate_of": duplicate_of, "program": code, "model": model, "note": "", "created_at": NOON},
            job_id=self.call(search, kind, model, cost),
        )
        if verdict is not None:
            device, outcome, ms = verdict
            judged = self.evaluation(made, search, device, code, outcome, ms)
            self.db.execute(
                "UPDATE implementation SET (evaluation_id, outcome, basis, time_ms) ="
                " (SELECT id, outcome, basis, time_ms FROM evaluation WHERE id = ?) WHERE id = ?",
                (judged, made),
            )
        return made


def build(path: Path) -> Path:
    rows = Rows(path)
    norm, total = rows.problem("layer_norm", LAYER_NORM), rows.problem("row_sum", ROW_SUM)
    rows.problem("matmul", MATMUL)
    a100 = rows.device("A100", "NVIDIA A100-SXM4-40GB", "measured")
    h100 = rows.device("H100", "NVIDIA H100 80GB HBM3", "measured")
    l4 = rows.device("L4", "cpu->L4", "projected")
    small, large = "openai:small", "openai:large"

    s1 = rows.search(norm, a100, "night")
    rows.call(s1, "ideate", large, 0.10)
    root = rows.node(s1, None, "the reference itself", "reference")
    one_pass = rows.node(s1, root, "Compute mean and variance in one pass", "fusion")
    i1 = rows.implementation(one_pass, small, "one pass", (a100, "ok", 0.5))
    split = rows.node(s1, one_pass, "Split-k: reduce halves of a row in two programs", "tiling", base=i1)
    i2 = rows.implementation(split, small, "split wrong", (a100, "wrong_result", None))
    rows.implementation(split, large, "tl.atomic_add split", (a100, "ok", 0.2), repair_of=i2, cost=0.08)
    rows.implementation(split, large, "split again", (a100, "ok", 0.25), cost=0.08)

    s2 = rows.search(norm, h100)
    root = rows.node(s2, None, "the reference itself", "reference")
    again = rows.node(s2, root, "compute mean and variance in one pass", "fusion")
    rows.implementation(again, large, "one pass on h100", (h100, "ok", 0.3))
    rows.implementation(again, small, "broken", (h100, "compile_error", None), cost=None)
    wide = rows.node(s2, root, "Load sixteen bytes at a time", "memory")
    rows.implementation(wide, small, "tl.atomic_add split", (h100, "ok", 0.15))
    rows.implementation(wide, large, "wide loads", (h100, "ok", 0.1))
    rows.call(s2, "implement", "openai:none", 0.5, state="error")

    s3 = rows.search(total, l4)
    root = rows.node(s3, None, "the reference itself", "reference")
    rows_idea = rows.node(s3, root, "Let a program take several rows", "tiling")
    i9 = rows.implementation(rows_idea, small, "rows", (l4, "ok", 0.4))
    rows.implementation(rows_idea, small, "not judged", None)
    rows.implementation(rows_idea, small, "rows", None, duplicate_of=i9)
    rows.evaluation(4, s1, h100, "split again", "ok", 0.12)
    rows.close()
    return path


def many(path: Path, count: int) -> Path:
    """One search of *count* implementations, ten a node, each node below one before it."""
    rows = Rows(path)
    search = rows.search(rows.problem("layer_norm", LAYER_NORM), rows.device("H100", "cpu->H100", "projected"))
    nodes = [rows.node(search, None, "the reference itself", "reference")]
    last: int | None = None
    for number in range(count):
        if number % 10 == 0:
            nodes.append(rows.node(search, nodes[len(nodes) // 2], f"idea {number} split-k", "tiling", last))
        failed = number % 3 == 0
        time_ms = None if failed else 0.1 + ((number * 7919) % count) / count
        verdict = (1, "wrong_result" if failed else "ok", time_ms)
        last = rows.implementation(nodes[-1], f"m{number % 4}", f"code {number} tl.dot", verdict)
    rows.close()
    return path
