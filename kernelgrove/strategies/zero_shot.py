"""Zero-shot: the reference straight to a kernel, *samples* times over, and the best is kept."""

from __future__ import annotations

import random
from collections.abc import Sequence

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
        asked = fold(view).asked(view.root)
        missing = [v for v in range(self.samples) if v not in asked]
        if missing:
            return [Implement(view.root, variant) for variant in missing[:slots]]
        if fold(view).flying:
            return []
        return [Stop(f"all {self.samples} samples are judged")]
