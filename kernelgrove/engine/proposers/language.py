"""A language model as a proposer: prompt, one call, its answer read and priced. Who asks tries again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from kernelgrove.engine import answers, money
from kernelgrove.engine.money.tokens import at_most
from kernelgrove.engine.prompts import Prompt, build
from kernelgrove.model import Usage
from kernelgrove.ports import Feedback, Proposal, ProposalRequest

from .failures import CallFailed, Failure
from .limits import Limiter
from .settings import Key
from .wire import Client, Finish, Question, Reply, Turn

#: Longest answer asked for where nobody says, reasoning included.
MAX_OUTPUT_TOKENS = 32_768

#: How much of a useless answer is shown to its author again.
_SHOWN = 20_000


class LanguageModel:
    """*name* is ``provider:model``; *price* None where unknown, and *free* where no call is billed."""

    def __init__(
        self,
        name: str,
        client: Client,
        limiter: Limiter,
        options: Mapping[str, Any],
        *,
        key: Key | None = None,
        price: money.Price | None = None,
        free: bool = False,
    ) -> None:
        self.name = name
        self._client = client
        self._limiter = limiter
        self._options = options
        self._key = key or Key("")
        self._price = price
        self._free = free

    @property
    def priced(self) -> bool:
        """Whether what a call costs is known."""
        return self._free or self._price is not None

    # ------------------------------------------------------------------------------------------ before a call

    def prompt(self, request: ProposalRequest) -> Prompt:
        return build(request)

    def reserve(self, request: ProposalRequest) -> Usage:
        """What a call may use, and cost, at most."""
        question = self._question(request)
        text = "".join((question.system, question.prompt, *(turn.text for turn in question.turns)))
        tokens = at_most(text)
        cost = self._price.at_most(tokens, question.max_output_tokens) if self._price is not None else None
        return Usage(tokens, question.max_output_tokens, 0.0 if self._free else cost, estimated=True)

    def slot(self, tokens: int, halt: threading.Event | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """A place among the provider's calls; raises limits.Halted when *halt* is set while it waits."""
        return self._limiter.slot(tokens, halt)

    def quiet(self, seconds: float) -> None:
        """The provider asked to be left alone for so long."""
        self._limiter.quiet(seconds)

    # ------------------------------------------------------------------------------------------ the call

    def propose(self, request: ProposalRequest) -> Proposal:
        """One try. Raises CallFailed."""
        question = self._question(request)
        try:
            reply = self._client.send(question)
        except CallFailed as failed:
            raise self._clean(failed) from None
        reply = replace(reply, text=self._key.hide(reply.text))
        usage = self._bill(reply, question)
        kept = Proposal(
            usage=usage, request_text=self._key.hide(reply.request), response_text=self._key.hide(reply.response)
        )
        self._refuse_useless(reply, kept)
        try:
            proposal = answers.read(request, reply.text)
        except answers.Unreadable as wrong:
            raise self._failed(
                Failure.CONTRACT, f"gave an answer that breaks the contract: {wrong}", kept, reply.text, str(wrong)
            ) from None
        return replace(proposal, usage=usage, request_text=kept.request_text, response_text=kept.response_text)

    def _question(self, request: ProposalRequest) -> Question:
        prompt = self.prompt(request)
        options = {**self._options, **request.options}
        limit = int(options.get("max_output_tokens") or MAX_OUTPUT_TOKENS)
        if self._price is not None and self._price.max_output is not None:
            limit = min(limit, self._price.max_output)
        wanted = answers.contract(request)
        return Question(
            system=prompt.system,
            shared=prompt.shared,
            specific=prompt.specific,
            turns=_turns(request.feedback),
            schema=wanted.schema,
            schema_name=wanted.name,
            max_output_tokens=limit,
            temperature=options.get("temperature"),
            effort=options.get("effort"),
            seed=request.seed,
        )

    def _bill(self, reply: Reply, question: Question) -> Usage:
        usage = reply.usage
        if usage is None:
            asked = "".join((question.system, question.prompt, *(turn.text for turn in question.turns)))
            usage = Usage(money.estimate(asked), money.estimate(reply.text), None, estimated=True)
        if self._free:
            return replace(usage, cost_usd=0.0)
        return replace(usage, cost_usd=None if self._price is None else self._price.cost(usage))

    def _refuse_useless(self, reply: Reply, kept: Proposal) -> None:
        if reply.finish is Finish.REFUSED:
            why = self._key.hide(" ".join(reply.said.split()))[:300]
            raise self._failed(Failure.REFUSED, f"refused to answer{f': {why}' if why else ''}.", kept)
        if reply.finish is Finish.LENGTH:
            reason = (
                f"It was cut off after {kept.usage.output_tokens} tokens, reasoning included. Reason less, and "
                "answer with nothing but what is asked for."
            )
            raise self._failed(
                Failure.CUT,
                f"was cut off at the output limit ({kept.usage.output_tokens} tokens).",
                kept,
                reply.text,
                reason,
                "Raise --max-output-tokens, or lower --effort.",
            )
        if not reply.text.strip():
            raise self._failed(
                Failure.EMPTY, "gave an empty answer.", kept, "", "It was empty. Answer in the form asked for."
            )

    def _failed(
        self, kind: Failure, what: str, kept: Proposal, answer: str | None = None, reason: str = "", cure: str = ""
    ) -> CallFailed:
        feedback = None if answer is None else Feedback(answer[:_SHOWN], reason)
        return CallFailed(
            kind, f"{self.name} {what}", cure, proposal=replace(kept, failure=str(kind)), feedback=feedback
        )

    def _clean(self, failed: CallFailed) -> CallFailed:
        """The same failure without the key in any of its texts, and with what it cost."""
        proposal = failed.proposal
        if proposal is not None:
            usage = proposal.usage
            cost = 0.0 if self._free or self._price is None else self._price.cost(usage)
            proposal = replace(
                proposal,
                usage=replace(usage, cost_usd=cost),
                request_text=self._key.hide(proposal.request_text),
                response_text=self._key.hide(proposal.response_text),
            )
        return CallFailed(
            failed.kind,
            self._key.hide(failed.cause),
            failed.cure,
            in_doubt=failed.in_doubt,
            retry_after_s=failed.retry_after_s,
            proposal=proposal,
            feedback=failed.feedback,
        )


def _turns(feedback: Feedback | None) -> tuple[Turn, ...]:
    if feedback is None:
        return ()
    said = f"That answer cannot be used. {feedback.reason}\n\nAnswer again, in full, in the form asked for."
    if not feedback.answer.strip():
        return (Turn("user", said.replace("That answer", "Your last answer")),)
    return (Turn("assistant", feedback.answer), Turn("user", said))
