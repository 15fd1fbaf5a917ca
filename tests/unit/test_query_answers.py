"""What queries find, over a grove whose every figure is known (``query_grove``), and that they can only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import query_grove
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelgrove.errors import UsageError
from kernelgrove.storage import SqliteStore, open_store
from kernelgrove.storage.query import Facts, Wanted, ask, ask_raw, run
from kernelgrove.storage.query.relations import RELATIONS

FACTS = Facts({"A100": ("Ampere", "Ampere", "sm_80"), "L4": ("Ada Lovelace", "Ada", "sm_89")})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    with open_store(query_grove.build(tmp_path_factory.mktemp("grove") / "grove.db")) as made:
        yield made


def found(store: SqliteStore, text: str, of: str = "implementations", **wanted: Any) -> list[dict[str, Any]]:
    answer = ask(store, text, Wanted(of, **wanted), FACTS)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def ids(store: SqliteStore, text: str, of: str = "implementations") -> list[int]:
    return [int(row[of[:-1]][1:]) for row in found(store, text, of)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("speedup > 3 and outcome = ok and idea ~ 'split-k' and device = a100", [3, 4]),
        ("code ~ tl.atomic_add", [3, 7]),
        ("text ~ atomic* or text ~ bytes", [3, 7, 8]),
        ("idea ~ fusing or idea ~ computing", [1, 5, 6]),  # stemmed
        ("outcome != ok", [2, 6]),
        ("not outcome = ok", [2, 6, 10, 11]),
        ("outcome = none", [10, 11]),
        ("outcome in (wrong_result, compile_error)", [2, 6]),
        ("outcome not in (ok)", [2, 6, 10, 11]),
        ("not (outcome = ok or model = openai:small)", []),
        ("search = s2 and time_ms <= 0.15", [7, 8]),
        ("search = NIGHT and repair_of != none", [3]),
        ("device = 'NVIDIA H100 80GB HBM3'", [5, 6, 7, 8]),
        ("device != H100 and device != A100", [9, 10, 11]),
        ("architecture = Ada and family = reduction", [9, 10, 11]),
        ("architecture = sm_80", [1, 2, 3, 4]),
        ("family = matmul", []),
        ("message ~ 'by 0.2'", [2]),
        ("message ~ '%'", []),
        ("reason = 'row 3 differs'", [2]),
        ("improvement = yes", [1, 3, 5, 7, 8, 9]),
        ("improvement != yes", [2, 4, 6, 10, 11]),
        ("created >= 2026-01-31 and created < 2026-02-01T00:00", list(range(1, 12))),
        ("created < 2026-01-31T11:59:59+00:00", []),
        ("cost_usd > 0.05", [3, 4]),
        ("duplicate_of = i9", [11]),
        ("under n2", [1, 2, 3, 4]),
        ("under n1 and outcome = ok", [1, 3, 4]),
        ("under i1", [2, 3, 4]),
        ("under i2", [3]),
        ("above i3", [1, 2]),
        ("above n3", [1]),
        ("best per device", [3, 8, 9]),
        ("best 2 by time_ms per problem", [8, 7, 9]),
        ("best per model", [8, 7, 9]),  # openai:small has a best of each basis
        ("device = A100 | best | count", None),
        ("repeated by idea, device", [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ],
)
def test_conditions(store: SqliteStore, text: str, expected: list[int] | None) -> None:
    if expected is None:
        assert found(store, text) == [{"count": 1, "example": "i3"}]
    elif "best" in text or "repeated" in text:
        assert sorted(ids(store, text)) == sorted(expected)
    else:
        assert ids(store, text) == expected


def test_nodes_below_and_above(store: SqliteStore) -> None:
    assert ids(store, "under n1", "nodes") == [2, 3]
    assert ids(store, "above n3", "nodes") == [1, 2]
    assert ids(store, "under i1", "nodes") == [3]
    assert ids(store, "above i3", "nodes") == [1, 2, 3]
    with pytest.raises(UsageError, match="no place in a tree"):
        ids(store, "under n1", "completions")


@pytest.mark.parametrize("text", ["under n999", "outcome = ok and not (speedup > 1 or above i999)"])
def test_a_place_that_is_not_there_is_told(store: SqliteStore, text: str) -> None:
    with pytest.raises(UsageError, match=r"column \d+, at '[ni]999': there is no such (node|implementation) in this"):
        ask(store, text)


@pytest.mark.parametrize("of", RELATIONS)
def test_every_field_can_be_shown_sorted_compared_and_counted(store: SqliteStore, of: str) -> None:
    for name, field in RELATIONS[of].fields.items():
        found(store, "", of, columns=(name,), sort=f"{name}:desc")
        value = {"number": "1", "id": f"{field.letter}1", "time": "2026-01-01", "yes or no": "yes"}
        found(store, f"{name} = {(*field.choices, value.get(field.kind.value, 'x'))[0]}", of)
        found(store, f"not {name} = none | count by {name}", of)
        if field.kind.value in ("text", "list"):
            found(store, f"{name} ~ 'a b%'", of)


def test_a_figure_never_leaves_its_basis(store: SqliteStore) -> None:
    rows = found(store, "outcome = ok", columns=("implementation", "speedup"), sort="speedup:desc")
    assert [(row["basis"], row["implementation"]) for row in rows] == [
        *(("measured", f"i{number}") for number in (8, 7, 3, 4, 5, 1)),
        ("projected", "i9"),  # a higher speedup than i1's, and yet after it
    ]
    assert {row["basis"] for row in found(store, "stats speedup")} == {"measured", "projected"}
    assert list(found(store, "stats time_ms by model", columns=("median",))[0]) == ["basis", "median"]
    assert found(store, "", sort="time_ms", columns=("implementation",))[0].keys() == {"implementation", "basis"}


def test_statistics(store: SqliteStore) -> None:
    first, *_ = found(store, "search = s1 | stats time_ms by category")
    assert first == {
        **{"category": "tiling", "basis": "measured", "n": 2, "least": 0.2},
        **{"median": 0.225, "mean": 0.225, "most": 0.25},
    }
    assert found(store, "search = s1 | stats cost_usd")[0]["total"] == pytest.approx(0.2)


def test_what_fails_most_and_why_by_model(store: SqliteStore) -> None:
    assert found(store, "outcome != ok | count by model, outcome, reason") == [
        {"model": "openai:small", "outcome": outcome, "reason": reason, "count": 1, "example": example}
        for outcome, reason, example in [("compile_error", "no tl.foo", "i6"), ("wrong_result", "row 3 differs", "i2")]
    ]


def test_the_lineage_of_the_best_with_each_gain(store: SqliteStore) -> None:
    steps = found(store, "search = s1 | best | lineage")
    assert [(row["step"], row["implementation"], row["outcome"], row["gain"]) for row in steps] == [
        (1, "i1", "ok", 2.0),
        (2, "i2", "wrong_result", None),
        (3, "i3", "ok", 2.5),  # over i1: i2 has no time
    ]
    assert [row["implementation"] for row in found(store, "node = n3 | lineage", "nodes")] == ["i1", "i2", "i3"]


def test_ideas_tried_twice(store: SqliteStore) -> None:
    twice = found(store, "category != reference | repeated by idea, problem", "nodes")
    assert [(row["node"], row["search"], row["speedup"]) for row in twice] == [
        ("n2", "s1", 2.0),
        ("n5", "s2", pytest.approx(1 / 0.3)),
    ]


def test_dollars_per_improvement_count_calls_that_gave_nothing(store: SqliteStore) -> None:
    rows = {row["model"]: row for row in found(store, "problem = layer_norm | cost by model")}
    large, small, none = (rows[f"openai:{name}"] for name in ("large", "small", "none"))
    assert (large["calls"], large["improvements"]) == (5, 3)
    assert large["usd_per_improvement"] == pytest.approx((0.10 + 0.08 + 0.08 + 0.02 + 0.02) / 3)
    assert (small["unpriced"], small["improvements"]) == (1, 2)
    assert (none["cost_usd"], none["improvements"], none["usd_per_improvement"]) == (0.5, 0, None)


def test_what_was_best_on_one_device_and_lost_on_another(store: SqliteStore) -> None:
    (row,) = found(store, "device = A100 | best per problem | lost on H100")
    assert (row["implementation"], row["ms_there"], row["rank_there"], row["best_there"]) == ("i3", 0.15, 3, 0.1)
    assert found(store, "device = H100 | best per problem | lost on H100") == []


# ---------------------------------------------------------------------------------------- values, not SQL


@pytest.mark.parametrize(
    "text", ["x' OR 1=1 --", 'x" OR 1=1 --', "'); DELETE FROM node; --", "a\x00b", "%", "\\", "NEAR("]
)
@pytest.mark.parametrize("field", ["idea", "model", "code", "message", "search", "text"])
def test_what_looks_like_sql_is_a_value(store: SqliteStore, field: str, text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for operator in ("=", "~") if field != "search" else ("=",):
        if field in ("text", "search") and operator == "~":
            continue
        assert found(store, f'{field} {operator} "{escaped}"') == []
    assert len(found(store, "", "nodes")) == 8


@given(
    st.text(max_size=30).map(lambda text: text + " "),
    st.sampled_from(["idea ~ ", "code = ", "search = ", "", "| lost on "]),
)
@settings(max_examples=150, deadline=None)
def test_any_text_is_answered_or_refused(store: SqliteStore, text: str, before: str) -> None:
    for query in (before + text, before + "'" + text.replace("\\", "").replace("'", "") + "'"):
        try:
            found(store, query, limit=3)
        except UsageError:
            pass


def test_names_are_never_sql(store: SqliteStore) -> None:
    for wanted in ({"columns": ("1); DROP TABLE node",)}, {"sort": 'x"; --'}, {"sort": "time_ms:sideways"}):
        with pytest.raises(UsageError):
            found(store, "", **wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM node",
        "DROP TABLE node",
        "CREATE TEMP TABLE t(a)",
        "PRAGMA query_only = OFF",
        "PRAGMA user_version = 7",
        "COMMIT",
        "INSERT INTO idea_fts(idea_fts) VALUES ('rebuild')",
        "ATTACH '{folder}/evil.db' AS evil",
        "VACUUM INTO '{folder}/evil.db'",
    ],
)
def test_raw_sql_only_reads(store: SqliteStore, tmp_path: Path, sql: str) -> None:
    with pytest.raises(UsageError, match="A query only reads"):
        ask_raw(store, sql.format(folder=tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert ask_raw(store, "SELECT count(*) AS n FROM node").rows == [(8,)]


def test_raw_sql_that_is_wrong_is_one_sentence(store: SqliteStore) -> None:
    for sql in ("SELEC 1", "SELECT nothing", "SELECT 1; SELECT 2", "SELECT ?", "", "SELECT '\ud800'"):
        with pytest.raises(UsageError) as caught:
            ask_raw(store, sql)
        assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------------- speed


def test_work_grows_no_faster_than_the_grove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in steps of SQLite's machine, which are the same however busy the computer is."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 100
        return 0

    def counted(connection: Any, *arguments: Any) -> Any:
        connection.connection.driver_connection.set_progress_handler(step, 100)
        return execute(connection, *arguments)

    execute = run._execute
    monkeypatch.setattr(run, "_execute", counted)
    with open_store(query_grove.many(tmp_path / "grove.db", 10_000)) as store:
        for text in (
            "speedup > 1.5 and outcome = ok and idea ~ split-k and device = H100",
            "code ~ 'tl.dot' and round > 500",
            "best 3 per model",
            "improvement = yes",
            "best | lineage",
            "under i5",
            "under n2",
            "outcome != ok | count by model, reason",
            "stats speedup by category",
            "cost by model",
        ):
            steps = 0
            ask(store, text, Wanted(limit=50), FACTS)
            most = 1000 if "lineage" in text else 200  # the lineage here has a thousand steps
            assert steps < most * 10_000, text
