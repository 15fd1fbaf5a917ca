"""How a time was taken and its interval; what came of an implementation beside it; indexes that large groves need; the
view ``cost``. Written out in full, as the first."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

OUTCOMES = (
    "'ok', 'compile_error', 'runtime_error', 'wrong_result', 'timeout', 'out_of_memory', 'worker_died', 'rejected'"
)
COST = "search_id state model cost_usd tokens input_tokens output_tokens reserve_usd reserve_tokens".split()
LIGHT = "search_id outcome stage basis time_ms time_low_ms time_high_ms timing baselines speedup".split()


def upgrade() -> None:
    _columns()
    _indexes()
    for view in ("leaderboard", "node_tree"):
        op.execute(f"DROP VIEW {view}")
    for view in VIEWS:
        op.execute(view)


def _columns() -> None:
    for column, kind in (
        ("time_low_ms", "FLOAT"),
        ("time_high_ms", "FLOAT"),
        ("remeasures", "INTEGER CONSTRAINT fk_evaluation_remeasures REFERENCES evaluation (id)"),
        ("timing", "TEXT CONSTRAINT ck_evaluation_timing CHECK (timing IN ('screened', 'sealed'))"),
    ):
        op.execute(f"ALTER TABLE evaluation ADD COLUMN {column} {kind}")
    for column, kind in (
        ("outcome", f"TEXT CONSTRAINT ck_implementation_outcome CHECK (outcome IN ({OUTCOMES}))"),
        (
            "basis",
            "TEXT CONSTRAINT ck_implementation_basis CHECK (basis IN ('measured', 'projected', 'imported'))",
        ),
        ("time_ms", "FLOAT"),
    ):
        op.execute(f"ALTER TABLE implementation ADD COLUMN {column} {kind}")
    op.execute(
        """UPDATE implementation SET (outcome, basis, time_ms) =
               (SELECT e.outcome, e.basis, e.time_ms FROM evaluation e WHERE e.id = implementation.evaluation_id)
           WHERE evaluation_id IS NOT NULL"""
    )


def _indexes() -> None:
    for table in ("node", "implementation"):
        op.create_index(f"ix_{table}_search_id", table, ["search_id"])
    _only("ix_implementation_repair_of", "implementation", ["repair_of"], "repair_of IS NOT NULL")
    best = ["search_id", "outcome", "basis", "time_ms"]
    _only("ix_implementation_best", "implementation", best, "duplicate_of IS NULL")
    op.drop_index("ix_evaluation_search_id", "evaluation")
    op.drop_index("ix_completion_search_id_state", "completion")
    op.create_index("ix_completion_cost", "completion", COST)
    op.create_index("ix_evaluation_light", "evaluation", LIGHT)
    _only("ix_evaluation_remeasured", "evaluation", ["search_id", "remeasures"], "remeasures IS NOT NULL")
    _only("ix_evaluation_message", "evaluation", ["search_id"], "message <> ''")


def _only(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


# Each rank is within one search and one basis: figures of two bases never meet.
VIEWS = (
    """CREATE VIEW leaderboard AS
       SELECT i.search_id, i.basis,
              ROW_NUMBER() OVER (
                  PARTITION BY i.search_id, i.basis ORDER BY i.time_ms, LENGTH(i.address), i.address
              ) AS rank,
              p.name AS problem, i.id AS implementation_id, i.address, i.node_id, n.idea, i.model,
              e.id AS evaluation_id, e.device_key, e.target, e.time_ms, e.eager_ms, e.compile_ms,
              e.speedup_eager, e.speedup_compile, e.provenance, e.time_low_ms, e.time_high_ms, e.timing
       FROM implementation i
       JOIN evaluation e ON e.id = i.evaluation_id
       JOIN node n ON n.id = i.node_id
       JOIN search s ON s.id = i.search_id
       JOIN problem p ON p.id = s.problem_id
       WHERE i.outcome = 'ok' AND i.time_ms IS NOT NULL AND i.duplicate_of IS NULL""",
    """CREATE VIEW node_tree AS
       WITH RECURSIVE reach(id, depth, line) AS (
           SELECT id, 0, printf('%08d', id) FROM node WHERE parent_id IS NULL
           UNION ALL
           SELECT n.id, r.depth + 1, r.line || '/' || printf('%08d', n.id)
           FROM node n JOIN reach r ON n.parent_id = r.id)
       SELECT n.search_id, n.id AS node_id, n.parent_id, n.base_id, r.depth, r.line, n.address, n.round,
              substr('                                                  ', 1, 2 * r.depth) || n.idea AS indented,
              n.idea, n.category, n.state, n.pruned_because, n.model,
              (SELECT count(*) FROM implementation i WHERE i.node_id = n.id) AS implementations,
              d.basis,
              (SELECT min(i.time_ms) FROM implementation i WHERE i.node_id = n.id AND i.basis = d.basis) AS best_ms
       FROM node n JOIN reach r ON r.id = n.id JOIN search s ON s.id = n.search_id JOIN device d ON d.id = s.device_id
       ORDER BY n.search_id, r.line""",
    # Calls that were planned and never sent were free and are left out, as those that may still be running.
    """CREATE VIEW cost AS
       SELECT c.search_id, p.name AS problem, c.model, c.kind, count(*) AS calls,
              sum(CASE WHEN c.state = 'ok' THEN 1 ELSE 0 END) AS answered,
              sum(CASE WHEN c.state = 'error' THEN 1 ELSE 0 END) AS failed,
              sum(CASE WHEN c.state = 'unknown' THEN 1 ELSE 0 END) AS cut_off,
              sum(c.input_tokens) AS input_tokens, sum(c.output_tokens) AS output_tokens, sum(c.tokens) AS tokens,
              sum(c.cost_usd) AS cost_usd,
              sum(CASE WHEN c.cost_usd IS NULL THEN 1 ELSE 0 END) AS unpriced
       FROM completion c JOIN search s ON s.id = c.search_id JOIN problem p ON p.id = s.problem_id
       WHERE c.state NOT IN ('planned', 'sent', 'abandoned')
       GROUP BY c.search_id, p.name, c.model, c.kind""",
)
