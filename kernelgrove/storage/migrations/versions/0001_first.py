"""The first schema. Written out in full, not taken from ``tables``, which goes on to change."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _text_or_null(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text)


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _whole_or_null(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer)


def _real(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float, nullable=False)


def _real_or_null(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float)


def _table(name: str, *parts: sa.schema.SchemaItem) -> None:
    op.create_table(
        name, sa.Column("id", sa.Integer, nullable=False), *parts, sa.PrimaryKeyConstraint("id", name=f"pk_{name}")
    )


def _refers(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}")


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def _one_of(table: str, column: str, values: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values.split())
    return sa.CheckConstraint(f"{column} IN ({listed})", name=f"ck_{table}_{column}")


def _index(table: str, *columns: str, name: str | None = None) -> None:
    op.create_index(name or f"ix_{table}_{'_'.join(columns)}", table, list(columns))


BASES = "measured projected imported"
KINDS = "ideate implement repair rate evaluate"


def upgrade() -> None:
    _searches()
    _tree()
    _evaluations()
    _jobs()
    for statement in (*IMMUTABLE, *FULL_TEXT, *VIEWS):
        op.execute(statement)


def _searches() -> None:
    _table(
        "problem",
        *(_text("digest"), _text("name"), _text("source"), _text_or_null("path")),
        *(_text("sizes"), _text_or_null("precision"), _text("mode")),
    )
    _index("problem", "digest")
    _table(
        "device",
        *(_text("name"), _text("gpu"), _text("key"), _text("basis"), _text("software")),
        _unique("device", "name", "gpu", "key", "basis", "software"),
        _one_of("device", "basis", BASES),
    )
    _table(
        "search",
        *(_text_or_null("name"), _whole("problem_id"), _text("problem_digest")),
        *(_whole("device_id"), _text("device_key"), _text("target"), _text("size_key"), _text("instance")),
        *(_text("strategy"), _text("strategy_options"), _text("models"), _whole("seed")),
        *(_text("precision"), _real_or_null("tolerance"), _whole("protocol"), _text("options")),
        *(_text("status"), _text_or_null("stopped_by"), _text("note"), _real("created_at"), _real("elapsed_s")),
        _one_of("search", "status", "running paused finished failed"),
        _one_of("search", "stopped_by", "strategy evaluations dollars tokens time patience user waiting"),
        _refers("search", "problem_id", "problem.id"),
        _refers("search", "device_id", "device.id"),
    )
    _index("search", "name")


def _tree() -> None:
    _table(
        "program",
        *(_text("hash"), _text("code"), _real("created_at")),
        _unique("program", "hash"),
    )
    _table(
        "node",
        *(_whole("search_id"), _whole_or_null("parent_id"), _whole_or_null("base_id"), _text("address")),
        *(_whole("round"), _text("idea"), _text("rationale"), _text("category"), _text("state")),
        *(_text_or_null("pruned_because"), _real_or_null("rating"), _text("model"), _whole_or_null("job_id")),
        _real("created_at"),
        _unique("node", "search_id", "address"),
        _one_of("node", "state", "open pruned"),
        _refers("node", "search_id", "search.id"),
        _refers("node", "parent_id", "node.id"),
        _refers("node", "base_id", "implementation.id"),
        _refers("node", "job_id", "job.id"),
    )
    _index("node", "parent_id")
    _table(
        "implementation",
        *(_whole("search_id"), _whole("node_id"), _text("address"), _whole_or_null("repair_of")),
        *(_whole_or_null("duplicate_of"), _text("program"), _whole_or_null("evaluation_id"), _text("model")),
        *(_text("note"), _whole_or_null("job_id"), _real("created_at")),
        _unique("implementation", "search_id", "address"),
        _refers("implementation", "search_id", "search.id"),
        _refers("implementation", "node_id", "node.id"),
        _refers("implementation", "repair_of", "implementation.id"),
        _refers("implementation", "duplicate_of", "implementation.id"),
        _refers("implementation", "program", "program.hash"),
        _refers("implementation", "evaluation_id", "evaluation.id"),
        _refers("implementation", "job_id", "job.id"),
    )
    _index("implementation", "search_id", "program")
    for column in ("program", "node_id", "evaluation_id"):
        _index("implementation", column)


def _evaluations() -> None:
    _table(
        "evaluation",
        *(_whole_or_null("search_id"), _whole_or_null("implementation_id"), _whole_or_null("job_id")),
        *(_text("program"), _text("problem_digest"), _text("size_key")),
        *(_whole("device_id"), _text("device_key"), _text("target")),
        *(_text("precision"), _real_or_null("tolerance"), _whole("protocol")),
        *(_text("outcome"), _text("stage"), _text("message")),
        *(_whole("trials_passed"), _whole("trials_of"), _real_or_null("max_error"), _text("basis")),
        *(_real_or_null("time_ms"), _real_or_null("eager_ms"), _real_or_null("compile_ms")),
        *(_real_or_null("speedup_eager"), _real_or_null("speedup_compile")),
        *(_text_or_null("provenance"), _real("wall_s"), _text_or_null("time_stats")),
        *(_text("baselines"), _text("speedup"), _text("advice"), _text("detail"), _real("created_at")),
        _one_of(
            "evaluation",
            "outcome",
            "ok compile_error runtime_error wrong_result timeout out_of_memory worker_died rejected",
        ),
        _one_of("evaluation", "stage", "parse load compile run check time"),
        _one_of("evaluation", "basis", BASES),
        sa.CheckConstraint("time_ms IS NULL OR outcome = 'ok'", name="ck_evaluation_time"),
        _refers("evaluation", "search_id", "search.id"),
        _refers("evaluation", "implementation_id", "implementation.id"),
        _refers("evaluation", "job_id", "job.id"),
        _refers("evaluation", "program", "program.hash"),
        _refers("evaluation", "device_id", "device.id"),
    )
    known = "program problem_digest size_key device_key target precision tolerance protocol".split()
    _index("evaluation", *known, name="ix_evaluation_known")
    _index("evaluation", "search_id")


def _jobs() -> None:
    _table(
        "job",
        *(_whole("search_id"), _whole_or_null("step"), _text("kind"), _text("key"), _whole("ordinal")),
        *(_text("payload"), _whole_or_null("node_id"), _whole_or_null("implementation_id")),
        *(_text("state"), _whole("attempt"), _whole("max_attempts")),
        *(_text_or_null("owner"), _real_or_null("lease_until"), _text_or_null("reason"), _text("model")),
        *(_text("note"), _real("created_at"), _real_or_null("started_at"), _real_or_null("finished_at")),
        _one_of("job", "kind", KINDS),
        _one_of("job", "state", "queued leased done failed dead"),
        sa.CheckConstraint("state <> 'leased' OR (owner IS NOT NULL AND lease_until IS NOT NULL)", name="ck_job_lease"),
        _refers("job", "search_id", "search.id"),
        _refers("job", "node_id", "node.id"),
        _refers("job", "implementation_id", "implementation.id"),
    )
    _index("job", "state", "kind", "search_id")
    _index("job", "search_id", "kind", "node_id")
    _index("job", "implementation_id", "kind")
    _table(
        "completion",
        *(_whole("search_id"), _whole("job_id"), _text("owner"), _whole("attempt")),
        *(_text("kind"), _text("key"), _text("problem_digest"), _text("model"), _text("state")),
        *(_real("reserve_usd"), _whole("reserve_tokens"), _whole_or_null("input_tokens")),
        *(_whole_or_null("output_tokens"), _whole_or_null("tokens"), _real_or_null("cost_usd")),
        *(_text_or_null("request"), _text_or_null("response"), _text_or_null("proposal"), _text_or_null("error")),
        *(_real("created_at"), _real_or_null("sent_at"), _real_or_null("settled_at")),
        _one_of("completion", "kind", KINDS),
        _one_of("completion", "state", "planned sent ok error unknown abandoned"),
        _refers("completion", "search_id", "search.id"),
        _refers("completion", "job_id", "job.id"),
    )
    _index("completion", "search_id", "state")
    _index("completion", "problem_digest", "key")
    _index("completion", "job_id")
    _table(
        "decision",
        *(_whole("search_id"), _whole("step"), _text("actions"), _text("note"), _real("created_at")),
        _unique("decision", "search_id", "step"),
        _refers("decision", "search_id", "search.id"),
    )


IMMUTABLE = (
    """CREATE TRIGGER evaluation_never_changes BEFORE UPDATE ON evaluation
       BEGIN SELECT RAISE(ABORT, 'a finished evaluation never changes'); END""",
    """CREATE TRIGGER evaluation_never_goes BEFORE DELETE ON evaluation
       BEGIN SELECT RAISE(ABORT, 'a finished evaluation is never deleted'); END""",
    """CREATE TRIGGER completion_never_changes BEFORE UPDATE ON completion
       WHEN OLD.state NOT IN ('planned', 'sent')
       BEGIN SELECT RAISE(ABORT, 'a settled completion never changes'); END""",
    """CREATE TRIGGER completion_never_goes BEFORE DELETE ON completion
       WHEN OLD.state <> 'planned'
       BEGIN SELECT RAISE(ABORT, 'a completion that was sent is never deleted'); END""",
    """CREATE TRIGGER program_never_changes BEFORE UPDATE ON program
       BEGIN SELECT RAISE(ABORT, 'a stored program never changes'); END""",
)

# External-content tables: the text lies once, in node and program. Ideas are stemmed ("fused" finds "fusing");
# code keeps identifiers whole.
FULL_TEXT = (
    """CREATE VIRTUAL TABLE idea_fts USING fts5(idea, rationale, category,
       content='node', content_rowid='id', tokenize='porter unicode61')""",
    """CREATE VIRTUAL TABLE code_fts USING fts5(code,
       content='program', content_rowid='id', tokenize="unicode61 tokenchars '_'")""",
    """CREATE TRIGGER node_into_fts AFTER INSERT ON node BEGIN
       INSERT INTO idea_fts(rowid, idea, rationale, category)
       VALUES (NEW.id, NEW.idea, NEW.rationale, NEW.category); END""",
    """CREATE TRIGGER node_out_of_fts AFTER DELETE ON node BEGIN
       INSERT INTO idea_fts(idea_fts, rowid, idea, rationale, category)
       VALUES ('delete', OLD.id, OLD.idea, OLD.rationale, OLD.category); END""",
    """CREATE TRIGGER node_in_fts AFTER UPDATE OF idea, rationale, category ON node BEGIN
       INSERT INTO idea_fts(idea_fts, rowid, idea, rationale, category)
       VALUES ('delete', OLD.id, OLD.idea, OLD.rationale, OLD.category);
       INSERT INTO idea_fts(rowid, idea, rationale, category)
       VALUES (NEW.id, NEW.idea, NEW.rationale, NEW.category); END""",
    """CREATE TRIGGER program_into_fts AFTER INSERT ON program BEGIN
       INSERT INTO code_fts(rowid, code) VALUES (NEW.id, NEW.code); END""",
    """CREATE TRIGGER program_out_of_fts AFTER DELETE ON program BEGIN
       INSERT INTO code_fts(code_fts, rowid, code) VALUES ('delete', OLD.id, OLD.code); END""",
)

# Each rank is within one search and one basis: figures of two bases never meet.
VIEWS = (
    """CREATE VIEW leaderboard AS
       SELECT i.search_id, e.basis,
              ROW_NUMBER() OVER (
                  PARTITION BY i.search_id, e.basis ORDER BY e.time_ms, LENGTH(i.address), i.address
              ) AS rank,
              p.name AS problem, i.id AS implementation_id, i.address, i.node_id, n.idea, i.model,
              e.id AS evaluation_id, e.device_key, e.target, e.time_ms, e.eager_ms, e.compile_ms,
              e.speedup_eager, e.speedup_compile, e.provenance
       FROM implementation i
       JOIN evaluation e ON e.id = i.evaluation_id
       JOIN node n ON n.id = i.node_id
       JOIN search s ON s.id = i.search_id
       JOIN problem p ON p.id = s.problem_id
       WHERE e.outcome = 'ok' AND e.time_ms IS NOT NULL AND i.duplicate_of IS NULL""",
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
              (SELECT min(e.time_ms) FROM implementation i JOIN evaluation e ON e.id = i.evaluation_id
               WHERE i.node_id = n.id AND e.basis = d.basis) AS best_ms
       FROM node n JOIN reach r ON r.id = n.id JOIN search s ON s.id = n.search_id JOIN device d ON d.id = s.device_id
       ORDER BY n.search_id, r.line""",
)
