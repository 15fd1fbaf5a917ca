"""Zero-shot: the reference straight to a kernel, *samples* times over, and the best is kept."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice

from ..model import Action, Implement, Stop, TreeView
from .fold import fold
from .options import Option, whole

OPTIONS = (Option("samples", 4, whole(1), "independent implementations of the reference", ("n",)),)


class ZeroShot:
    """Independent implementations of the reference, with no idea in between; the best is kept."""

    name = "zero_shot"

    def __init__(self, samples: int = 4) -> None:
        self.samples = samples

    def propose(self, view: TreeView, slots: int, rng: random.Random) -> Sequence[Action]:
        asked = fold(view).translated
        missing = (Implement(view.root, variant) for variant in range(self.samples) if variant not in asked)
        work = list(islice(missing, slots))
        if work:
            return work
        if fold(view).flying:
            return []
        return [Stop(f"all {self.samples} samples are judged")]
