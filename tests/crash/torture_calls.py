"""``kill -9`` of a controller with eight paid calls in flight, again and again, and what the ledger says of the money.

    python tests/crash/torture_calls.py --kills 200 --seed 1

A server on loopback speaks OpenAI's protocol and counts what it bills; one search asks it through the real SDK, eight
calls at a time, under a cap in dollars. The process that runs it is killed at a random moment and started again. A
tenth of the answers is a fault. After every kill, once the next controller has taken over, and at the end:

    unrecorded   calls that reached the server and have no row in the ledger that is sent or settled
    undercharged dollars that the server billed and the ledger does not charge
    over cap     dollars charged or reserved beyond the cap

Exit code 1 when any is not 0.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "unit"))
sys.path.append(str(Path(__file__).parents[1] / "wire"))
sys.path.append(str(Path(__file__).parent))

from clients import good_answer, options
from dialects import Responses
from fake_search import FakeEvaluator, dice, spec
from fake_server import Asked, Broken, FakeServer, Reset, Say, Status, Step, serving

from kernelgrove import strategies
from kernelgrove.engine.budget import Budget
from kernelgrove.engine.calls import Policy
from kernelgrove.engine.context import ROOT_IDEA
from kernelgrove.engine.controller import Controller
from kernelgrove.model import SearchStatus
from kernelgrove.storage import open_store

PROCESSES = multiprocessing.get_context("forkserver")
_SLOW = "kernelgrove.engine.controller kernelgrove.engine.proposers.openai kernelgrove.engine.proposers.language"
PROCESSES.set_forkserver_preload([*_SLOW.split(), "openai.resources.responses", "tenacity", "jinja2", __name__])

CALLS = 8

#: Dollars of the cap for each kill: about twice what a process spends before it is killed.
PER_KILL = 0.5
QUICK = Policy(tries=4, first_wait_s=0.01, longest_wait_s=0.05)

#: Dollars for a million tokens; what ``Say``'s default answer costs is about a cent.
PRICES = '["openai:fake"]\ninput = 2.0\ncached_input = 0.2\noutput = 10.0\n'


def child(db: str, search: int, given: dict[str, Any], cap: float, started: Any) -> None:
    """Run *search* until its end, or its process's."""
    import os

    from kernelgrove.engine.proposers.base import make

    os.environ.update(given["environment"])
    with open_store(db) as store:
        proposer = make("openai:fake", given["options"])
        evaluator = FakeEvaluator(parallel=4, delay=lambda request: 0.005)
        strategy = strategies.make("zero_shot", {"samples": 1_000_000})
        controller = Controller(
            store, search, strategy, [proposer], evaluator, Budget(dollars=cap), parallel=CALLS, policy=QUICK
        )
        started.set()
        controller.run()


@dataclass
class Totals:
    kills: int = 0
    in_flight: list[int] = field(default_factory=list)  # calls sent and not settled, at each kill
    at_server: list[int] = field(default_factory=list)  # those that the server was at work on
    calls: int = 0
    billed: float = 0.0
    charged: float = 0.0
    cap: float = 0.0
    unknown: int = 0
    unrecorded: int = 0
    undercharged: float = 0.0
    over_cap: float = 0.0
    ended: str = ""
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        return not self.unrecorded and self.undercharged <= 1e-9 and self.over_cap <= 1e-9

    def lines(self) -> list[str]:
        busy = sum(n > 0 for n in self.in_flight)
        usual = sorted(self.in_flight)[len(self.in_flight) // 2] if self.in_flight else 0
        return [
            f"{self.kills} kills in {self.seconds:.0f} s, {busy} of them with calls in flight (median {usual}),"
            f" {sum(n > 0 for n in self.at_server)} while the server was answering",
            f"the server billed {self.calls} calls, ${self.billed:.4f}; the ledger charges ${self.charged:.4f}"
            f" of a cap of ${self.cap:.2f}, {self.unknown} calls at their reservation",
            f"unrecorded {self.unrecorded}, undercharged ${self.undercharged:.4f}, over cap ${self.over_cap:.4f}",
            f"the search ended by {self.ended}",
        ]


class Torture:
    """One run; a process is killed up to *window_s* seconds after its first call."""

    def __init__(self, db: Path, kills: int, seed: int, window_s: float = 2.0, faults: float = 0.1) -> None:
        self.db, self.kills, self.seed, self.window_s, self.faults = db, kills, seed, window_s, faults
        self.totals = Totals(cap=PER_KILL * kills)
        self._moments = random.Random(seed)

    def run(self) -> Totals:
        begun = time.monotonic()
        prices = self.db.with_suffix(".prices.toml")
        prices.write_text(PRICES)
        environment = {"OPENAI_API_KEY": "sk-fake", "KERNELGROVE_PRICES": str(prices)}
        with open_store(self.db, create=True) as store:
            search = store.create_search(spec(), ROOT_IDEA)
        with serving(Responses(), self._answer) as server:
            given = {"options": options(server, timeout_s=5.0, deadline_s=10.0), "environment": environment}
            given["options"]["max_output_tokens"] = 500
            for _ in range(self.kills):
                if self._life(server, search, given, self._moments.uniform(0.0, self.window_s)):
                    break  # the cap was reached: nothing is left to kill
            # What is left of the money would take long to spend: the last process gets a dozen calls' worth.
            self.totals.cap = min(self.totals.cap, self.totals.charged + 0.2)
            self._life(server, search, given, None)
        self.totals.seconds = time.monotonic() - begun
        return self.totals

    def _answer(self, asked: Asked, number: int) -> Step:
        time.sleep(0.1 + 0.2 * dice(self.seed, "takes", number))
        said = good_answer(asked, number)
        assert isinstance(said, Say)
        luck = dice(self.seed, "fault", number)
        if luck >= self.faults:
            return said
        faults: tuple[Step, ...] = (Status(429, "slow"), Status(500, "oops"), Reset(said), Broken(said))
        return faults[int(luck / self.faults * len(faults))]

    def _life(self, server: FakeServer, search: int, given: dict[str, Any], seconds: float | None) -> bool:
        """One process, killed *seconds* after its first call or left to end; whether the search has ended."""
        started = PROCESSES.Event()
        process = PROCESSES.Process(target=child, args=(str(self.db), search, given, self.totals.cap, started))
        process.start()
        started.wait(60)
        if seconds is None:
            process.join(300)
        else:
            before = len(server.received)
            while process.is_alive() and len(server.received) == before:
                time.sleep(0.002)
            process.join(seconds)
            if process.is_alive():
                self.totals.at_server.append(server.at_once)
                process.kill()
                process.join(60)
                self.totals.in_flight.append(self._count("state = 'sent'"))
                self.totals.kills += 1
        while server.at_once:  # the server goes on with what it was asked, and bills it
            time.sleep(0.005)
        with open_store(self.db) as store:
            store.recover(search, lambda owner: False)
            spent = store.spent(search)
            status = store.search(search)
        self._check(server, spent.cost_usd + spent.reserved_usd)
        self.totals.charged = spent.cost_usd
        self.totals.ended = str(status.stopped_by or status.status)
        return status.status is SearchStatus.FINISHED

    def _check(self, server: FakeServer, charged: float) -> None:
        totals = self.totals
        billed = sum(cost(bill.say) for bill in server.billed)
        recorded = self._count("state IN ('sent', 'ok', 'error', 'unknown')")
        totals.calls, totals.billed, totals.unknown = len(server.billed), billed, self._count("state = 'unknown'")
        totals.unrecorded = max(totals.unrecorded, len(server.received) - recorded)
        totals.undercharged = max(totals.undercharged, billed - charged)
        totals.over_cap = max(totals.over_cap, charged - totals.cap)

    def _count(self, which: str) -> int:
        with closing(sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=30)) as file:
            return int(file.execute(f"SELECT count(*) FROM completion WHERE {which}").fetchone()[0])


def cost(say: Say) -> float:
    return ((say.input_tokens - say.cached) * 2.0 + say.cached * 0.2 + say.output_tokens * 10.0) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--db", type=Path, help="keep the grove there; it must not exist")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = given.db or Path(folder) / "grove.db"
        if db.exists():
            parser.error(f"{db} exists")
        totals = Torture(db, given.kills, given.seed).run()
    print(f"seed {given.seed}, {CALLS} calls at once")
    print("\n".join(totals.lines()))
    return 0 if totals.clean else 1


if __name__ == "__main__":
    sys.exit(main())
