"""States that no program of ours leaves behind, each as SQL that gives one sentence a row.

They are what a torn write, another tool or a bug would leave, and what the rest of the code may take for granted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    name: str
    sql: str  # one text column: what is wrong, with the id as people write it


IMPOSSIBLE: tuple[State, ...] = (
    State(
        "implementations without a program",
        """SELECT 'i' || i.id || ' has no program ' || substr(coalesce(i.program, 'at all'), 1, 12)
           FROM implementation i LEFT JOIN program p ON p.hash = i.program WHERE p.id IS NULL ORDER BY i.id""",
    ),
    State(
        "evaluations of other programs",
        """SELECT 'i' || i.id || ' counts e' || e.id || ' as its own, which judged another program'
           FROM implementation i JOIN evaluation e ON e.id = i.evaluation_id WHERE e.program <> i.program
           ORDER BY i.id""",
    ),
    State(
        "verdicts that are not those of their evaluations",
        """SELECT 'i' || i.id || ' says ' || coalesce(i.outcome, 'nothing') || ', and its evaluation '
                  || coalesce('e' || e.id || ' ' || e.outcome, 'is not there')
           FROM implementation i LEFT JOIN evaluation e ON e.id = i.evaluation_id
           WHERE i.outcome IS NOT e.outcome OR i.basis IS NOT e.basis OR i.time_ms IS NOT e.time_ms ORDER BY i.id""",
    ),
    State(
        "duplicates of other programs",
        """SELECT 'i' || i.id || ' is marked as a duplicate of i' || d.id || CASE
                      WHEN d.program <> i.program THEN ', which is another program'
                      WHEN d.search_id <> i.search_id THEN ', which is in another search'
                      ELSE ', which is not older' END
           FROM implementation i JOIN implementation d ON d.id = i.duplicate_of
           WHERE d.program <> i.program OR d.search_id <> i.search_id OR d.id >= i.id ORDER BY i.id""",
    ),
    State(
        "evaluations that were done and are not there",
        """SELECT 't' || j.id || ' is done, and there is no evaluation of i' || coalesce(j.implementation_id, '?')
           FROM job j WHERE j.kind = 'evaluate' AND j.state = 'done'
           AND NOT EXISTS (SELECT 1 FROM evaluation e WHERE e.job_id = j.id)
           AND NOT EXISTS (SELECT 1 FROM implementation i WHERE i.id = j.implementation_id AND i.evaluation_id NOT NULL)
           ORDER BY j.id""",
    ),
    State(
        "leases without an owner",
        """SELECT 't' || id || ' is leased to nobody' FROM job
           WHERE state = 'leased' AND (owner IS NULL OR owner = '' OR lease_until IS NULL) ORDER BY id""",
    ),
    State(
        "finished searches with work left",
        # A budget, or a strategy's Stop, may end a search with jobs queued; one whose strategy asked for nothing more
        # has none, and nothing is leased after any end.
        """SELECT 's' || s.id || ' is finished, and t' || j.id || ' (' || j.kind || ') is ' || j.state
           FROM search s JOIN job j ON j.search_id = s.id
           WHERE s.status = 'finished' AND (j.state = 'leased' OR (j.state = 'queued' AND s.stopped_by = 'strategy'
           AND NOT EXISTS (SELECT 1 FROM decision d WHERE d.search_id = s.id AND d.actions LIKE '%"action": "stop"%')))
           ORDER BY j.id""",
    ),
    State(
        "trees that do not hang together",
        """SELECT says FROM (
           SELECT 's' || s.id || ' has ' || count(n.id) || ' roots instead of one' AS says, s.id AS at
           FROM search s LEFT JOIN node n ON n.search_id = s.id AND n.parent_id IS NULL
           GROUP BY s.id HAVING count(n.id) <> 1
           UNION ALL
           SELECT 'n' || n.id || ' hangs under n' || p.id || CASE
                      WHEN p.search_id <> n.search_id THEN ', which is in another search'
                      ELSE ', which is not older' END, n.id
           FROM node n JOIN node p ON p.id = n.parent_id WHERE p.search_id <> n.search_id OR p.id >= n.id
           UNION ALL
           SELECT 'n' || n.id || ' builds on i' || i.id || ', which is in another search', n.id
           FROM node n JOIN implementation i ON i.id = n.base_id WHERE i.search_id <> n.search_id
           UNION ALL
           SELECT 'i' || i.id || ' belongs to n' || n.id || ', which is in another search', i.id
           FROM implementation i JOIN node n ON n.id = i.node_id WHERE i.search_id <> n.search_id
           ) ORDER BY at""",
    ),
    State(
        "steps that are missing",
        """SELECT 's' || search_id || ' has ' || count(*) || ' decisions, and its last is step ' || max(step)
           FROM decision GROUP BY search_id HAVING count(*) <> max(step) + 1""",
    ),
    State(
        "figures of failures",
        """SELECT 'e' || id || ' is ' || outcome || ', and has a time or a speedup' FROM evaluation
           WHERE outcome <> 'ok' AND (time_ms NOT NULL OR speedup_eager NOT NULL OR speedup_compile NOT NULL)
           ORDER BY id""",
    ),
)
