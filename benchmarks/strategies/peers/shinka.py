"""ShinkaEvolve's parent sampling (shinka.database.ProgramDatabase) with its defaults, in memory.

Islands, archive, weighted parent selection and its fix mode are its own; embeddings, which want an API, are left empty,
so that its novelty rejection does nothing. Its first program is a translation; it is asked again until one passes, as
ShinkaEvolve is given a program that works.
"""

from __future__ import annotations

import logging
import random

import numpy as np
from shinka.database import DatabaseConfig, Program, ProgramDatabase

from ..landscape import Landscape
from . import Member, Request


class Shinka:
    def __init__(self, seed: int, landscape: Landscape) -> None:
        logging.disable(logging.WARNING)
        random.seed(seed)
        np.random.seed(seed)
        self.land = landscape
        self.database = ProgramDatabase(DatabaseConfig(db_path=None), embedding_model="")
        # Neither changes what it chooses: nothing is printed, and what it draws in SQL comes from the seed too.
        self.database._print_sampling_summary_helper = lambda *args, **more: None
        self.database.conn.create_function("random", 0, lambda: random.getrandbits(62))
        self.members: dict[str, Member] = {}
        self.started = False
        self.generation = 0

    def ask(self) -> Request:
        if not self.started:
            return Request(None, None)
        parent, archive, top, _ = self.database.sample_with_fix_mode(target_generation=self.generation)
        others = {p.id: p for p in [*archive, *top] if p.id != parent.id}
        return Request((parent.id, list(others)), self._member(parent), tuple(map(self._member, others.values())))

    def _member(self, program: Program) -> Member:
        """Copies that islands make of a program carry its source's identity in their code."""
        return self.members.get(program.id) or self.members[program.code]

    def tell(self, request: Request, child: Member) -> None:
        if request.ticket is None and self.started:
            return  # another first program, under way when one had passed
        if not self.started and not child.ok:
            return
        first, self.started = not self.started, True
        code = self.land.code(child.program)
        id_ = f"p{self.generation}"
        self.members[id_] = self.members[code] = child
        program = Program(
            id=id_,
            code=code,
            parent_id=None if first else request.ticket[0],
            archive_inspiration_ids=[] if first else request.ticket[1],
            generation=self.generation,
            timestamp=float(self.generation),
            combined_score=child.speedup,
            correct=child.ok,
            text_feedback="" if child.ok else str(child.program.fault),
        )
        self.database.add(program)
        self.database.check_scheduled_operations()
        self.generation += 1


def make(seed: int, landscape: Landscape) -> Shinka:
    return Shinka(seed, landscape)
