"""One round of calls on fresh inputs, under seal: drawn, run together or singly, and compared with the reference."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ..checking.correctness import Verdict, compare
from ..checking.tensors import bits, computable, identical, is_tensor
from ..checking.values import compare_value
from ..checking.variants import CENTRED, Variant, apply
from ..sittings.sitting import Rejected, Sitting, Wrong
from ..wire.arena import Spec, torch_dtype
from ..wire.protocol import ProtocolBreak, finite_floats
from ..wire.structure import fingerprint, flatten
from .figures import Chunk
from .pending import Pending
from .sealing import Sealed
from .turnstile import CHANGED

#: So many inputs of a chunk are drawn, as long as one takes no longer than this, seconds; the others are varied.
_DRAWN, _SLOW_DRAW_S = 4, 0.03
_CHANGED = 4  # one in so many of those that go through alone has inputs that are changed
_PLACES, _LEVELS = 1 << 16, 1 << 20  # where factors that vary inputs may begin; what the one for all may be


class Round:
    """*calls* calls on fresh inputs, of which *checked* are compared with the reference: run together, or singly.

    Raises what ``Sealed.run`` raises, and Wrong, Rejected, ProtocolBreak; those of the comparisons through *pending*.
    """

    def __init__(
        self,
        sealed: Sealed,
        sitting: Sitting,
        calls: int,
        checked: int,
        allclose: float | None,
        pending: Pending,
        singly: bool = False,
        rehearsed: bool = False,
    ) -> None:
        """*singly*: no call's inputs tell anything of the next one's, and some are changed as those are that outputs
        are checked on: who knows that he is timed must not compute less exactly. *rehearsed*: the first call was made
        once before, on wrong inputs; it is checked besides, as it might be answered with what came of these."""
        self.sealed, self.sitting, self.calls, self.allclose = sealed, sitting, calls, allclose
        self._pending = pending
        self._said: list[list[list[Any]]] = []  # by calls: kinds and values of what is no tensor
        self.slots = slots = sealed.ground.slots
        self.watched = set(secrets.SystemRandom().sample(range(calls), min(checked, calls)))
        if checked and rehearsed:
            self.watched.add(0)
        self._variants = _variants(sitting, calls) if singly and checked else {}
        draws = enumerate(_draws(sitting, calls, singly))
        changed = (apply(self._variants[at], drawn) if at in self._variants else drawn for at, drawn in draws)
        self.filled = slots.fill(changed, calls, self.watched)
        slots.poison(calls)

    @property
    def bytes(self) -> int:
        """Of the inputs that it holds."""
        return sum(right.numel() * right.element_size() for right in self.filled.right)

    def together(self, stall: bool, empty_ms: float, core: int | None = None) -> Chunk:
        slots, timed = self.slots, self.sealed.run(self.filled, self.calls, stall, self._options, core)
        claims = self._claims(timed.reply)
        if slots.layout.talks and fingerprint(self._said).hex() != timed.said:
            raise Rejected(CHANGED)
        for number in self.watched:
            (copied,) = slots.copy_outputs(number, 1)
            # The copies themselves: whoever knows when they are taken could have right outputs there just then.
            _same([of_all[number] for of_all in timed.sample], slots.sample_of(copied))
            self._take(number, copied)
        _same(timed.sample, slots.sample(self.calls))
        self._are_written(timed.sample)
        return Chunk(tuple(claims), timed.wall_ms, empty_ms)

    def singly(
        self, cold: Sequence[bool], stall: bool, empty_ms: Mapping[bool, float], core: int | None = None
    ) -> list[Chunk]:
        """Each call as a chunk of its own. *cold*: whether its inputs are to stay cold; *stall*: whether they can be
        queued; *empty_ms*: of a call, by whether it is a cold one."""
        patience_s = self.sealed.patience_s(self.calls) if stall else 0.0
        timed = self.sealed.turnstile.run(self.filled, cold, patience_s, self._options, core)
        claims = self._claims(timed.reply)
        self.sealed.turnstile.verify(timed)
        for number in self.watched:
            self._take(number, timed.outputs[number].clone())  # so that what waits holds no other call's
        calls = zip(claims, timed.walls_ms, cold, strict=True)
        return [Chunk((claim,), wall, empty_ms[each], cold=each) for claim, wall, each in calls]

    @property
    def _options(self) -> dict[str, Any]:
        return {"empty": False, "restore": self.sitting.reference.stateful}

    def _claims(self, reply: dict[str, Any]) -> list[float]:
        self.sitting.delivered(reply, self.sitting.current(0))
        claims = finite_floats(reply.get("claims"), self.calls)
        if len(claims) != self.calls or min(claims) <= 0:
            raise ProtocolBreak(f"the worker gave {len(claims)} times for {self.calls} calls, or a time of zero")
        self._said, silent = reply["said"], [path for path, slot in self.slots.layout.outputs if slot is None]
        if silent and [len(said) for said in self._said] != [len(silent)] * self.calls:
            raise ProtocolBreak("the worker does not say what each call gave")
        return claims

    def _are_written(self, sample: list[torch.Tensor]) -> None:
        """Nobody's outputs are as they were before: *sample* is of all."""
        written = [path for path, slot in self.slots.layout.outputs if slot is not None]
        for path, found in zip(written, sample, strict=True):
            if found.numel() and found.dtype.is_floating_point:
                unwritten = found.isnan().all(dim=1).nonzero()
                if len(unwritten):
                    call = int(unwritten[0])
                    raise Wrong(Verdict(None, f"output{path} of timed call {call} of {self.calls} was not written"))

    def _take(self, number: int, copied: torch.Tensor) -> None:
        """Have what call *number* left compared: its outputs in *copied*, its inputs as they are now."""
        slots, sitting, drawn, allclose = self.slots, self.sitting, self.filled.watched[number], self.allclose
        given = [slots.flat(slot, self.calls)[number] for slot in slots.layout.inputs]
        pairs = zip(given, self.filled.right, strict=True)
        changed = {index for index, (now, right) in enumerate(pairs) if not _are_alike(now, right[number])}
        outputs = slots.views(copied)
        said = self._said[number] if slots.layout.talks else []
        size = copied.numel() + sum(tensor.numel() * tensor.element_size() for tensor in given)  # as they were drawn
        variant = self._variants.get(number)
        self._pending.add(lambda: _compare(sitting, drawn, variant, changed, outputs, said, allclose), size)


def _same(before: list[torch.Tensor], after: list[torch.Tensor]) -> None:
    """Raises Rejected."""
    if not all(map(identical, before, after)):
        raise Rejected(CHANGED)


def _are_alike(now: torch.Tensor, before: torch.Tensor) -> bool:
    return torch.equal(bits(now), bits(before)) or identical(now, before)


def _compare(
    sitting: Sitting,
    drawn: list[Any],
    variant: Variant | None,
    changed: set[int],
    outputs: list[torch.Tensor | None],
    said: list[list[Any]],
    allclose: float | None,
) -> None:
    """Compare what a timed call made of *drawn*: which inputs it *changed*, its outputs, and what it said of those that
    are no tensors. Raises Wrong, Rejected."""
    case, on = None, ""
    if variant is not None:
        case, on = sitting.reference.changed_case(variant, drawn, sitting.draw), f" on {variant.name}"
        if case is None:
            return
    case = case or sitting.reference.case_of(drawn, sitting.draw, secrets.randbits(31))
    if forbidden := changed - case.mutable:
        raise Rejected(f"forward changed input {min(forbidden)} in a timed call, which the reference leaves alone")
    words = iter(said)
    for expected, output in zip(case.expected, outputs, strict=True):
        if output is not None:
            found = compare(output, expected, allclose)
        else:
            kind, shown = next(words)
            found = compare_value(kind, shown, expected, allclose)
        if found.message:
            raise Wrong(Verdict(found.error, f"in a timed call{on}: {found.message}"))


def _variants(sitting: Sitting, calls: int) -> dict[int, Variant]:
    """Which of *calls* calls get inputs that are changed, and how: one in four, drawn in secret. Those centred on zero
    come first: inputs that are all positive hide lower precision."""
    secret = secrets.SystemRandom()
    fitting = sorted(secret.sample(given := sitting.reference.fitting, len(given)), key=lambda one: one is not CENTRED)
    count = calls // _CHANGED + (secret.randrange(_CHANGED) < calls % _CHANGED)
    return dict(zip(secret.sample(range(calls), count), itertools.cycle(fitting), strict=False))


def _draws(sitting: Sitting, calls: int, singly: bool) -> Iterator[list[Any]]:
    """*calls* sets of inputs of the shapes of case 0. A few are drawn; the others are these, changed in every element
    by a secret factor: other contents, at the price of a copy. Integers cannot be changed so, nor what the reference
    then no longer takes: they are drawn, as long as that is quick. *singly*: somebody has time to learn from one what
    the next might be; all are drawn as long as that is quick, integers always, and all are changed by factors from a
    draw of their own."""
    wanted = [Spec.of(master) for master in sitting.current(0).masters]
    noise = Noise(sitting.bench.device)
    bears = sitting.reference.bears(noise.vary)
    varies = bears and all(torch_dtype(spec.dtype).is_floating_point for spec in wanted)

    def varied(inputs: list[Any]) -> list[Any]:
        return (Noise(sitting.bench.device) if singly else noise).vary(inputs) if bears else inputs

    drawn: list[list[Any]] = []
    slow = False
    for _ in range(calls):
        enough = len(drawn) >= _DRAWN and not singly
        if drawn and (slow or enough) and (varies or (slow and not singly)):
            yield varied(drawn[secrets.randbelow(len(drawn))])
            continue
        started = time.perf_counter()
        inputs = sitting.reference.fresh_inputs()
        torch.cuda.synchronize()
        slow = bool(drawn) and time.perf_counter() - started > _SLOW_DRAW_S
        if [Spec.of(leaf) for _, leaf in flatten(inputs) if is_tensor(leaf)] != wanted:
            inputs = varied(sitting.reference.given_inputs(sitting.draw))  # another seed, other shapes
        if len(drawn) < _DRAWN:
            drawn.append(inputs)
        yield varied(inputs) if singly else inputs


class Noise:
    """Secret factors between 0.9 and 1.1, one an element. For each tensor of one size they are read from the same draw,
    each time from another secret place on: a fresh draw a call would take longer than many a kernel. As their mean is
    one, a sum of many elements would hardly change: so there is one more for all, between 0.9 and 1."""

    def __init__(self, device: str) -> None:
        self._generator = torch.Generator(device).manual_seed(secrets.randbits(62))
        self._drawn: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def factors(self, like: torch.Tensor) -> torch.Tensor:
        """Of the shape, type and device of *like*."""
        key = (like.numel(), like.dtype)
        if key not in self._drawn:
            drawn = torch.rand(like.numel() + _PLACES, generator=self._generator, device=like.device)
            self._drawn[key] = drawn.mul_(0.2).add_(0.9).to(like.dtype)
        at = 16 * secrets.randbelow(_PLACES // 16)  # where vectors begin
        return self._drawn[key][at : at + like.numel()].view(like.shape)

    def _varied(self, leaf: torch.Tensor) -> torch.Tensor:
        values = computable(leaf)
        varied = (values * self.factors(values)).mul_(1 - secrets.randbelow(_LEVELS) / (10 * _LEVELS))
        return varied.to(leaf.dtype)

    def vary(self, inputs: list[Any]) -> list[Any]:
        """*inputs* with each element multiplied by 0.81 to 1.1."""
        varied: list[Any] = pytree.tree_map(
            lambda leaf: self._varied(leaf) if is_tensor(leaf) and leaf.dtype.is_floating_point else leaf,
            inputs,
        )
        return varied
