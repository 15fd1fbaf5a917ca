"""OpenEvolve's database sampling (openevolve.database.ProgramDatabase) with its defaults.

Islands, MAP-Elites cells, archive, inspirations and migration are its own; iterations go round the islands as in its
process pool. Its first program is a translation; it is asked again until one passes, as OpenEvolve is given a program
that works.
"""

from __future__ import annotations

import logging
import random

from openevolve.config import DatabaseConfig, PromptConfig
from openevolve.database import Program, ProgramDatabase

from ..landscape import Landscape
from . import Member, Request


class OpenEvolve:
    def __init__(self, seed: int, landscape: Landscape) -> None:
        logging.disable(logging.WARNING)
        random.seed(seed)
        self.land = landscape
        self.database = ProgramDatabase(DatabaseConfig(random_seed=seed, log_prompts=False))
        self.inspirations = PromptConfig().num_diverse_programs
        self.members: dict[str, Member] = {}
        self.asked = self.told = 0

    def ask(self) -> Request:
        if not self.members:
            return Request(None, None)
        island = self.asked % self.database.config.num_islands
        self.asked += 1
        parent, inspirations = self.database.sample_from_island(island, self.inspirations)
        others = tuple(self._member(p) for p in inspirations if p.id != parent.id)
        return Request((island, parent.id, parent.generation), self._member(parent), others)

    def _member(self, program: Program) -> Member:
        return self.members.get(program.id) or self.members[program.code]

    def tell(self, request: Request, child: Member) -> None:
        if request.ticket is None and (self.members or not child.ok):
            return
        code, id_ = self.land.code(child.program), f"p{self.told}"
        self.members[id_] = self.members[code] = child
        island, parent, generation = request.ticket or (0, None, -1)
        program = Program(
            id=id_,
            code=code,
            parent_id=parent,
            generation=generation + 1,
            iteration_found=self.told,
            metrics={"combined_score": child.speedup},
        )
        self.told += 1
        if request.ticket is None:
            self.database.add(program)
            return
        self.database.add(program, iteration=self.told, target_island=island)
        self.database.increment_island_generation(island_idx=island)
        if self.database.should_migrate():
            self.database.migrate_programs()


def make(seed: int, landscape: Landscape) -> OpenEvolve:
    return OpenEvolve(seed, landscape)
