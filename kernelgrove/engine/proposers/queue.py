"""``queue``: nobody is called; proposer jobs wait in the store for a person or an agent (``kernelgrove tasks``)."""

from __future__ import annotations

from typing import NoReturn

from kernelgrove.errors import ProposerError
from kernelgrove.ports import ProposalRequest


class QueueProposer:
    """Answers nothing itself: a search that has only this one leaves its jobs queued."""

    name = "queue"

    def propose(self, request: ProposalRequest) -> NoReturn:
        """Raises ProposerError: whoever calls this has taken a job that was to wait."""
        raise ProposerError(
            f"{request.key} waits for an answer from outside.", "Answer it with `kernelgrove tasks`.", retry=False
        )
