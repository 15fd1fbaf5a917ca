"""TreeQuest's AB-MCTS-A (treequest.ABMCTSA) with its defaults: a state is a program.

A score has to be from 0 to 1: log-speedup is squashed four times as steeply as for ours, with which it did better on
the development seeds than as steeply as ours or twelve times as much.
"""

from __future__ import annotations

import math
import random

import numpy as np
import treequest

from kernelgrove.strategies.fold import squash

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
        score = squash(4 * math.log(child.speedup)) if child.speedup else 0.0
        self.state = self.algorithm.tell(self.state, request.ticket, (child, score))


def make(seed: int, landscape: Landscape) -> AbMcts:
    return AbMcts(seed)
