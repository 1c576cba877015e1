"""Readings on a fork: its own collector reports them, for keys that the meters are given for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import repeat
from typing import TYPE_CHECKING

from attrs import evolve

from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import NO_SIGNATURE, PrivateKey, unsigned_as_good
from gridtokenx.forks.errors import ForkError
from gridtokenx.forks.mined import Refusal
from gridtokenx.ledger import spaces, weights
from gridtokenx.ledger.metering_records import Collector, Quality
from gridtokenx.ledger.operations import ReportReadings, sign_report
from gridtokenx.ledger.operations.report_readings import MAX_READINGS, SignedReport
from gridtokenx.ledger.receipts import Code, Receipt
from gridtokenx.ledger.records import Meter
from gridtokenx.ledger.session import Session
from gridtokenx.market.clock import MarketClock
from gridtokenx.market.readings import MAX_REPORT_WINDOWS

if TYPE_CHECKING:
    from gridtokenx.forks.chain import Chain

NAMED_MOST = 3
WEIGHT_OF_A_TRANSACTION = 17_500
"""Of its readings, with which it fits into a block of the least `max_block_weight` there may be."""
ALL_ZONES = (1 << 64) - 1


def report(chain: Chain, window: int, readings: Mapping[int, tuple[int, int]]) -> None:
    """Reports readings of a window, as `Chain.report` says. Raises ForkError."""
    numbers = sorted(readings)
    report_columns(chain, window, numbers, [readings[number] for number in numbers])


def report_columns(chain: Chain, window: int, numbers: Sequence[int], energies: Sequence[tuple[int, ...]]) -> int:
    """`report` of meters, ascending, each with injected and withdrawn Wh of `window`, of the next one, ...; the market
    time (ms) of the last block that has some of them. Raises ForkError."""
    windows = _windows(numbers, energies)
    came_ms = chain.now_ms
    if not numbers:
        return came_ms
    if window + windows > chain.window:
        raise ForkError(f"window {window + windows - 1} is not over; the one that is running is {chain.window}")
    _adopt(chain, numbers)
    size = _meters_of_a_transaction(windows)
    collector = _collector(chain, transactions(len(numbers), windows))
    sent: dict[int, Sequence[int]] = {}
    for first in range(0, len(numbers), size):
        part = slice(first, first + size)
        if chain.signs:
            ticket = chain.submit(collector, ReportReadings(tuple(
                _signed(chain, number, window, own)
                for number, own in zip(numbers[part], energies[part], strict=True))))
        else:
            ticket = chain.submit_fields(collector, ((ReportReadings.KIND, tuple(zip(
                numbers[part], repeat(window), repeat(int(Quality.MEASURED)), repeat(0), energies[part],
                repeat(NO_SIGNATURE), strict=False))),))
        sent[ticket] = numbers[part]
    refused: list[tuple[int, int, str]] = []
    fixed = chain.identity
    clock = MarketClock(fixed.genesis_ms, fixed.market_start_ms, fixed.market_rate)
    with nullcontext() if chain.signs else unsigned_as_good(Domain.METER_READING, chain.chain_id):
        for mined in chain.flush(came_ms):      # in the first blocks there are, whatever other work is due
            for ticket, receipt in mined.receipts.items():
                if ticket in sent:
                    refused += _refused(receipt, sent[ticket], window, windows)
                    came_ms = clock.at(mined.header.timestamp_ms)
    if refused:
        named = ", ".join(f"meter {number} {reason}" + (f" in window {of}" if windows > 1 else "")
                          for number, of, reason in refused[:NAMED_MOST])
        raise ForkError(f"{len(refused)} of {len(numbers) * windows} readings were refused: {named}")
    return came_ms


def _windows(numbers: Sequence[int], energies: Sequence[tuple[int, ...]]) -> int:
    """Of how many windows there are readings."""
    sizes = {len(own) for own in energies}
    if len(energies) != len(numbers) or len(sizes) > 1 or any(
            size % 2 or not 2 <= size <= 2 * MAX_REPORT_WINDOWS for size in sizes):
        raise ForkError(f"{len(energies)} rows of {sorted(sizes)} energies for {len(numbers)} meters; a row for each "
                        f"with injected and withdrawn Wh of 1 to {MAX_REPORT_WINDOWS} windows is allowed, as many for "
                        "all")
    return max(sizes, default=2) // 2


def transactions(meters: int, windows: int) -> int:
    """How many it takes to report so many windows of so many meters."""
    return -(-meters // _meters_of_a_transaction(windows))


def weight(meters: int, windows: int) -> int:
    """What reports of so many windows of so many meters weigh, nearly."""
    return meters * (weights.SIGNATURE + windows * (weights.READING + weights.KEY))


def _meters_of_a_transaction(windows: int) -> int:
    return min(MAX_READINGS // windows, WEIGHT_OF_A_TRANSACTION // weight(1, windows))


def _signed(chain: Chain, number: int, window: int, energies: tuple[int, ...]) -> SignedReport:
    """As the meter would send it to a chain that verifies."""
    return sign_report(meter_key(chain, number), chain.chain_id, number, window, energies)


def _refused(receipt: Receipt | Refusal, numbers: Sequence[int], window: int,
             windows: int) -> list[tuple[int, int, str]]:
    """(meter, window, why) of what a transaction of readings did not bring in."""
    every = [(number, window + at) for number in numbers for at in range(windows)]
    if isinstance(receipt, Refusal):
        return [(*each, receipt.code.name) for each in every]
    outcome, = receipt.outcomes
    if not outcome.ok:                          # none was taken: the code is that of the first
        return [(*every[0], outcome.code.name), *((*each, "as well") for each in every[1:])]
    refused = outcome.data[1:]                  # after how many were taken: index and code of each that was not
    return [(*every[index], Code(code).name) for index, code in zip(refused[::2], refused[1::2], strict=True)]


def meter_key(chain: Chain, number: int) -> PrivateKey:
    """The key that a meter has on this fork once it has reported here."""
    return chain.key(f"meter {number}")


def _adopt(chain: Chain, numbers: Sequence[int]) -> None:
    """Gives meters keys of the fork, those that do not have them yet. Mostly they are those that reported last."""
    asked = tuple(numbers)
    if chain.adopted != asked:
        _give_keys(chain, asked)
        chain.adopted = asked


def _give_keys(chain: Chain, numbers: Sequence[int]) -> None:
    strange: dict[int, Meter] = {}
    known = chain.meter_keys
    for number in numbers:
        meter: Meter | None = chain.record(spaces.meter(number))
        if meter is None:
            raise ForkError(f"no meter {number}")
        if meter.key != known.get(number):
            own = known[number] = meter_key(chain, number).public
            if meter.key != own:
                strange[number] = meter
    if not strange:
        return

    def change(session: Session) -> None:
        for number, meter in strange.items():
            own = meter_key(chain, number).public
            session.put(spaces.meter_key(meter.key), None)
            session.put(spaces.meter_key(own), spaces.number(number))
            session.put(spaces.meter(number), evolve(meter, key=own))

    chain.edit(change)


def prepare(chain: Chain, count: int) -> None:
    """Sets up the fork's collector with the fees of so many transactions, so that reports need no more than those."""
    _collector(chain, count)


def _collector(chain: Chain, count: int) -> bytes:
    address = chain.key("collector").public
    if chain.record(spaces.collector(address)) is None:
        chain.edit(lambda session: session.put(spaces.collector(address), Collector(ALL_ZONES)))
    needed = count * chain.parameters.min_fee_uthb
    if chain.account(address).balance < needed:
        chain.override.balance(address, 1_000 * needed)
    return address
