"""Rows that refer to rows which are no longer there, mended so that the rest of a grove holds together: ``salvage``.

Each step is one statement and says what it did. In the order given, as later ones rely on earlier ones.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

_ROOT_OF = "(SELECT r.id FROM node r WHERE r.search_id = {table}.search_id AND r.parent_id IS NULL)"
_LOST = "{table}.{column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {of} t WHERE t.{key} = {table}.{column})"

#: table -> columns that hold JSON
_JSON = {
    "problem": ("sizes",),
    "device": ("software",),
    "search": ("instance", "strategy_options", "models", "options"),
    "evaluation": ("time_stats", "baselines", "speedup", "advice", "detail"),
    "job": ("payload",),
    "completion": ("proposal",),
    "decision": ("actions",),
}


@dataclass(frozen=True)
class Step:
    says: str  # how many follows
    sql: str


def _lost(table: str, column: str, of: str, key: str = "id") -> str:
    return _LOST.format(table=table, column=column, of=of, key=key)


def _cleared(table: str, column: str, of: str) -> Step:
    sql = f"UPDATE {table} SET {column} = NULL WHERE {_lost(table, column, of)}"
    return Step(f"{table} rows that no longer say their {column.removesuffix('_id')}", sql)


def _dropped(table: str, column: str, of: str, key: str = "id") -> Step:
    return Step(
        f"{table} rows left out, since their {column.removesuffix('_id')} is lost",
        f"DELETE FROM {table} WHERE {_lost(table, column, of, key)}",
    )


STEPS: tuple[Step, ...] = (
    Step(
        "problems made again from their searches",
        f"""INSERT INTO problem (id, digest, name, source, sizes, mode)
            SELECT problem_id, json_extract(instance, '$.digest'), json_extract(instance, '$.name'),
                   json_extract(instance, '$.source'), '{{}}', json_extract(instance, '$.mode')
            FROM search WHERE {_lost("search", "problem_id", "problem")} GROUP BY problem_id""",
    ),
    Step(
        "devices made again from their searches and evaluations",
        f"""INSERT OR IGNORE INTO device (id, name, gpu, key, basis, software)
            SELECT device_id, 'device ' || device_id, target, device_key, basis, '{{}}' FROM evaluation
            WHERE {_lost("evaluation", "device_id", "device")} GROUP BY device_id
            UNION ALL
            SELECT device_id, 'device ' || device_id, target, device_key,
                   CASE WHEN device_key LIKE 'cpu->%' THEN 'projected' ELSE 'measured' END, '{{}}' FROM search
            WHERE {_lost("search", "device_id", "device")} GROUP BY device_id""",
    ),
    *(_dropped(table, "search_id", "search") for table in ("node", "implementation", "job", "completion", "decision")),
    _cleared("evaluation", "search_id", "search"),
    Step(  # under the id that its children say, so that it stays older than they are
        "searches given a new root",
        f"""INSERT INTO node (id, search_id, address, round, idea, rationale, category, state, model, created_at)
            SELECT (SELECT min(parent_id) FROM node
                    WHERE search_id = search.id AND {_lost("node", "parent_id", "node")}),
                   id, 'r', 0, 'the reference', 'the root was lost to damage', 'reference', 'open', '', created_at
            FROM search WHERE NOT EXISTS (
                SELECT 1 FROM node n WHERE n.search_id = search.id AND n.parent_id IS NULL)""",
    ),
    Step(
        "ideas that hang under the root, since their parent is lost",
        f"UPDATE node SET parent_id = {_ROOT_OF.format(table='node')} WHERE {_lost('node', 'parent_id', 'node')}",
    ),
    _dropped("implementation", "program", "program", "hash"),
    _dropped("evaluation", "program", "program", "hash"),
    Step(
        "implementations that belong to the root, since their idea is lost",
        f"""UPDATE implementation SET node_id = {_ROOT_OF.format(table="implementation")}
            WHERE {_lost("implementation", "node_id", "node")}""",
    ),
    *(_cleared("implementation", column, "implementation") for column in ("repair_of", "duplicate_of")),
    _cleared("node", "base_id", "implementation"),
    _cleared("evaluation", "implementation_id", "implementation"),
    _cleared("evaluation", "remeasures", "evaluation"),
    Step(
        "implementations not judged any more, since their evaluation is lost",
        f"""UPDATE implementation SET evaluation_id = NULL, outcome = NULL, basis = NULL, time_ms = NULL
            WHERE {_lost("implementation", "evaluation_id", "evaluation")}""",
    ),
    Step(
        "jobs made again from their calls",
        f"""INSERT INTO job (id, search_id, kind, key, ordinal, payload, state, attempt, max_attempts, reason, model,
                             note, created_at)
            SELECT job_id, search_id, kind, key, 0, '{{}}', 'failed', max(attempt), max(attempt),
                   'lost to damage; its calls are not', model, '', min(created_at)
            FROM completion WHERE {_lost("completion", "job_id", "job")} GROUP BY job_id""",
    ),
    *(_cleared(table, "job_id", "job") for table in ("node", "implementation", "evaluation")),
    Step(
        "jobs given up, since what they were about is lost",
        f"""UPDATE job SET state = 'failed', owner = NULL, lease_until = NULL, reason = 'what it was about is lost'
            WHERE state IN ('queued', 'leased')
            AND (({_lost("job", "node_id", "node")}) OR ({_lost("job", "implementation_id", "implementation")}))""",
    ),
    _cleared("job", "node_id", "node"),
    _cleared("job", "implementation_id", "implementation"),
    Step(
        "evaluations that were done and are to be done again",
        """UPDATE job SET state = 'queued', attempt = 1, owner = NULL, lease_until = NULL, reason = 'its result is lost'
           WHERE kind = 'evaluate' AND state = 'done' AND implementation_id IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM evaluation e WHERE e.job_id = job.id)
           AND EXISTS (
               SELECT 1 FROM implementation i WHERE i.id = job.implementation_id AND i.evaluation_id IS NULL)""",
    ),
    Step(
        "evaluations given up with their implementations",
        """UPDATE job SET state = 'failed', reason = 'its result is lost'
           WHERE kind = 'evaluate' AND state = 'done' AND implementation_id IS NULL
           AND NOT EXISTS (SELECT 1 FROM evaluation e WHERE e.job_id = job.id)""",
    ),
    Step(
        "searches that were finished, have work left, and are paused",
        """UPDATE search SET status = 'paused', stopped_by = 'user', note = 'salvaged from a damaged file'
           WHERE status = 'finished' AND EXISTS (
               SELECT 1 FROM job j WHERE j.search_id = search.id AND j.state IN ('queued', 'leased'))""",
    ),
    Step(
        "decisions that stand empty in place of lost ones",
        """INSERT INTO decision (search_id, step, actions, note, created_at)
           WITH RECURSIVE every(search_id, step, top) AS (
               SELECT search_id, 0, max(step) FROM (
                   SELECT search_id, step FROM decision
                   UNION ALL SELECT search_id, step FROM job WHERE step IS NOT NULL) GROUP BY search_id
               UNION ALL SELECT search_id, step + 1, top FROM every WHERE step < top)
           SELECT e.search_id, e.step, '[]', 'lost to damage', 0.0 FROM every e
           WHERE NOT EXISTS (SELECT 1 FROM decision d WHERE d.search_id = e.search_id AND d.step = e.step)""",
    ),
)


def without_triggers(file: sqlite3.Connection) -> list[str]:
    """Drop the triggers that keep facts as they are; the statements that make them again."""
    found = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%RAISE%'").fetchall()
    for name, _ in found:
        file.execute(f"DROP TRIGGER {name}")
    return [sql for _, sql in found]


def mend(file: sqlite3.Connection) -> list[str]:
    """Take all steps; what was done, where something was."""
    done = []
    for step in STEPS:
        count = file.execute(step.sql).rowcount
        if count:
            done.append(f"{step.says}: {count}")
    return done


def json_is_whole(table: str, row: dict[str, object]) -> bool:
    for column in _JSON.get(table, ()):
        value = row[column]
        if value is None:
            continue
        try:
            json.loads(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False
    return True
