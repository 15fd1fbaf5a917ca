"""TreeQuest's AB-MCTS-A (treequest.ABMCTSA) with its defaults: a state is a program, its score the squashed log-speedup."""

from __future__ import annotations

import random

import numpy as np
import treequest

from ..landscape import Landscape
from . import Member, Request


class AbMcts:
    def __init__(self, seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)  # it draws from numpy's global generator
        self.algorithm = treequest.ABMCTSA()
        self.state = self.algorithm.init_tree()

    def ask(self) -> Request:
        self.state, (trial,) = self.algorithm.ask_batch(self.state, 1, ["write"])
        return Request(trial.trial_id, trial.parent_state)

    def tell(self, request: Request, child: Member) -> None:
        self.state = self.algorithm.tell(self.state, request.ticket, (child, child.score))


def make(seed: int, landscape: Landscape) -> AbMcts:
    return AbMcts(seed)
