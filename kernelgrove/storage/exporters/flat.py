"""CSV: one row an implementation of the searches, judged or not. A figure's basis is in every row that has one."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import IO

from ..ids import show, show_or_none
from ..overview import iso, search_row
from ..queries import rows
from ..store import SqliteStore

#: The columns, in order. Times are milliseconds; speedups are over eager PyTorch and over ``torch.compile``.
COLUMNS = (
    *("search", "problem", "node", "address", "round", "idea", "category", "implementation", "model"),
    *("repair_of", "duplicate_of", "outcome", "stage", "message", "basis", "device", "target", "precision"),
    *("time_ms", "eager_ms", "compile_ms", "speedup_eager", "speedup_compile", "provenance"),
    *("evaluation", "program", "created"),
)

_IMPLEMENTATIONS = """
SELECT i.id, i.node_id, i.address, n.round, n.idea, n.category, i.model, i.repair_of, i.duplicate_of, e.outcome,
       e.stage, e.message, e.basis, e.device_key, e.target, e.precision, e.time_ms, e.eager_ms, e.compile_ms,
       e.speedup_eager, e.speedup_compile, e.provenance, e.id AS evaluation, i.program, i.created_at
FROM implementation i JOIN node n ON n.id = i.node_id LEFT JOIN evaluation e ON e.id = i.evaluation_id
WHERE i.search_id = :search ORDER BY i.id
"""


def write(store: SqliteStore, searches: Sequence[int], out: IO[str]) -> int:
    """Write the rows of *searches* under a line of ``COLUMNS``; how many. *out* must not translate line ends.

    An empty cell is "no value". Raises NotFound.
    """
    to = csv.writer(out, lineterminator="\n")
    to.writerow(COLUMNS)
    count = 0
    for search in searches:
        with store.read() as connection:
            problem = search_row(connection, search)["problem"]
            found = rows(connection, _IMPLEMENTATIONS, search=search)
        for row in found:
            to.writerow(
                [
                    *(show("s", search), problem, show("n", row.node_id), row.address, row.round, row.idea),
                    *(row.category, show("i", row.id), row.model),
                    *(show_or_none("i", row.repair_of), show_or_none("i", row.duplicate_of)),
                    *(row.outcome, row.stage, row.message, row.basis, row.device_key, row.target, row.precision),
                    *(row.time_ms, row.eager_ms, row.compile_ms, row.speedup_eager, row.speedup_compile),
                    *(row.provenance, show_or_none("e", row.evaluation), row.program, iso(row.created_at)),
                ]
            )
        count += len(found)
    return count
