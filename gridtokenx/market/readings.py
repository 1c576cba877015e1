"""Readings on their way into state: who may report them, what is refused, and how a later one replaces them.

A meter signs a report of one window or of several that follow each other; each reading of it is taken or refused by
itself.

A reading counts from the end of its window. Until the reading deadline it is what the window is settled by; from
then until the end of corrections it is a correction (MARKET 7.6). A higher revision replaces a lower one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from attrs import frozen

from gridtokenx._native.readings import Readings
from gridtokenx._native.records import encode as encode_fields
from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import NO_SIGNATURE, SIGNATURE_BYTES, is_unsigned_good, signed_bytes, verify_known
from gridtokenx.ledger import spaces
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.metering_records import BoundaryMeter, Collector, Correction, Quality, Reading, Settling
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Meter
from gridtokenx.ledger.spaces import MAX_WINDOW, Space
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.deadlines import closes_ms, deadline_ms
from gridtokenx.market.settlement import correct, measure_again

MAX_REVISION = 65_535
MAX_REPORT_WINDOWS = 96         # a day under one signature
MAX_INT64 = (1 << 63) - 1


@frozen
class Reported:
    """One reading of a report."""

    meter: int
    window: int
    injected_wh: int
    withdrawn_wh: int
    quality: int
    revision: int


@frozen
class SignedReport:
    """Readings of one meter for windows that follow each other, as they are reported: an hour's quarters, say.

    `window` is the first one's; `energies` are injected and withdrawn Wh of each in turn. The meter signs all of it
    once: `payload` under its key, which says which meter it is.
    """

    meter: int
    window: int
    quality: int
    revision: int
    energies: tuple[int, ...]
    signature: bytes

    @property
    def size(self) -> int:
        """How many readings."""
        return len(self.energies) // 2

    def readings(self) -> Iterator[Reported]:
        for at in range(self.size):
            injected, withdrawn = self.energies[2 * at:2 * at + 2]
            yield Reported(self.meter, self.window + at, injected, withdrawn, self.quality, self.revision)


def payload(window: int, quality: int, revision: int, energies: Sequence[int]) -> bytes:
    """Canonical bytes that a meter signs."""
    return encode_fields((window, quality, revision, tuple(energies)))


KERNEL = Readings({record.__name__: record for record in (Meter, Reading, SignedReport)}, Space.__members__,
                  ((1 << 32) - 1, MAX_WINDOW, int(max(Quality)), MAX_REVISION), most_wh=MAX_INT64,
                  report_windows=MAX_REPORT_WINDOWS, window_ms=WINDOW_MS, signature_bytes=SIGNATURE_BYTES)
"""Does with a report of plain readings what `_check` and `_take` do."""


def report(context: Context, sender: bytes,
           reports: Sequence[SignedReport]) -> tuple[list[tuple[int, Failed]], int]:
    """Takes every reading that may be taken.

    Returns those refused, by their number among all readings, each with its own code, and how many had the window
    settled again.
    """
    session, chain_id = context.session, context.identity.chain_id
    settling: Settling = session.get(spaces.SETTLING)
    collector: Collector | None = session.get(spaces.collector(sender))
    zones = 0 if collector is None else collector.zones
    now, parameters = context.now_ms, context.parameters

    def opened(window: int) -> bool:
        return (window + 1) * WINDOW_MS <= now < closes_ms(parameters, settling, window)

    def in_time(window: int) -> bool:
        return now < deadline_ms(settling, window)

    refused: dict[int, Failed] = {}
    meters: list[Meter | bytes | None] = KERNEL.check(session, reports, sender, zones, opened)
    firsts = _firsts(reports) if None in meters else []
    others: dict[int, Meter] = {}           # of reports that are not plain
    for index, plain in enumerate(meters):
        if plain is None:
            for number, reading in enumerate(reports[index].readings(), firsts[index]):
                try:
                    others[index] = _check(context, settling, sender, zones, reading)
                except Failed as failure:
                    refused[number] = failure
    of_each = [others.get(index, meter) for index, meter in enumerate(meters)] if others else meters
    good = _verified(chain_id, of_each, reports)
    corrected = index = 0
    while (index := KERNEL.take(session, reports, meters, good, index, in_time)) < len(reports):
        meter: Meter | None = session.record(spaces.meter(reports[index].meter), of_each[index])
        firsts = firsts or _firsts(reports)
        for number, reading in enumerate(reports[index].readings(), firsts[index]):
            if meter is None or number in refused:
                continue
            try:
                if not good[index]:
                    raise Failed(Code.BAD_READING_SIGNATURE, f"the signature is not that of meter {reading.meter}'s "
                                                             "key on this chain")
                corrected += _take(context, settling, meter, reading)
            except Failed as failure:
                refused[number] = failure
        index += 1
    return sorted(refused.items()), corrected


def _firsts(reports: Sequence[SignedReport]) -> list[int]:
    """The number of each report's first reading among all."""
    return list(accumulate((each.size for each in reports), initial=0))


def _verified(chain_id: bytes, meters: list[Meter | bytes | None], reports: Sequence[SignedReport]) -> list[bool]:
    """Whether each is signed with its meter's key; without a meter, False."""
    prefix = signed_bytes(Domain.METER_READING, chain_id, b"")
    if is_unsigned_good(prefix):
        good = [meter is not None and each.signature == NO_SIGNATURE
                for meter, each in zip(meters, reports, strict=True)]
        if all(good):
            return good
    else:
        good = [False] * len(reports)
    asked = [index for index, meter in enumerate(meters) if meter is not None and not good[index]]
    if asked:
        answers = verify_known([KERNEL.signed_by(meters[index], reports[index], prefix) for index in asked])
        for index, answer in zip(asked, answers, strict=True):
            good[index] = answer
    return good


def _check(context: Context, settling: Settling, sender: bytes, zones: int, reading: Reported) -> Meter:
    """What can be said before the signature is verified. Raises Failed."""
    number, window, now = reading.meter, reading.window, context.now_ms
    meter: Meter | None = context.session.get(spaces.meter(number))
    if meter is None:
        raise Failed(Code.UNKNOWN_METER, f"no meter {number}")
    if meter.owner != sender and not zones >> meter.zone & 1:
        raise Failed(Code.NOT_COLLECTOR, f"meter {number} is another account's, and the sender is no collector of "
                                         f"zone {meter.zone}")
    if window * WINDOW_MS < meter.since_ms:
        raise Failed(Code.METER_NOT_THEN, f"meter {number} was registered at market time {meter.since_ms}, after "
                                          f"window {window} began")
    if now < (window + 1) * WINDOW_MS:
        raise Failed(Code.WINDOW_NOT_DELIVERED, f"window {window} ends at market time {(window + 1) * WINDOW_MS}; it "
                                                f"is {now}")
    closes = closes_ms(context.parameters, settling, window)
    if now >= closes:
        raise Failed(Code.READING_TOO_LATE, f"corrections of window {window} ended at market time {closes}; it is "
                                            f"{now}")
    if meter.boundary:
        edge: BoundaryMeter = context.session.get(spaces.boundary(meter.zone, number))
        most_in, most_out = edge.import_w // 4, edge.export_w // 4
    else:
        most_in, most_out = meter.injection_w // 4, meter.withdrawal_w // 4
    if reading.injected_wh > most_in or reading.withdrawn_wh > most_out:
        raise Failed(Code.ABOVE_CAPACITY, f"injected {reading.injected_wh} and withdrawn {reading.withdrawn_wh} Wh; "
                                          f"meter {number} can do {most_in} and {most_out} in a window")
    if (reading.quality == Quality.CORRECTED) != (reading.revision > 0):
        raise Failed(Code.BAD_QUALITY, f"quality {reading.quality} with revision {reading.revision}; revision 0 is "
                                       "measured (0) or estimated (1), later ones are corrected (2)")
    return meter


def _take(context: Context, settling: Settling, meter: Meter, reading: Reported) -> bool:
    """Puts the reading into state in place of one of a lower revision, or raises Failed. True: settled again."""
    session, window, number = context.session, reading.window, reading.meter
    late = context.now_ms >= deadline_ms(settling, window)
    settled = late and session.get(spaces.settlement(window, number)) is not None
    waits = late and not settled and not meter.boundary
    key = spaces.late_reading(window, number) if waits else spaces.reading(window, number)
    before: Reading | None = session.get(spaces.reading(window, number))
    if waits:
        before = session.get(key) or before
    if before is not None:
        _compare(before, reading)
    now = Reading(reading.injected_wh, reading.withdrawn_wh, reading.quality, reading.revision, context.height)
    if settled:
        if session.get(spaces.claim(window, number)) is not None:       # only if the parameter was raised meanwhile
            raise Failed(Code.READING_TOO_LATE, f"certificates have claims on meter {number}'s window {window} already")
        correct(context, window, number, meter, now)
        return True
    if before is not None:
        session.put(spaces.correction(window, number, now.revision), Correction(
            context.height, before.injected_wh, before.withdrawn_wh, before.quality, now.injected_wh, now.withdrawn_wh,
            0))
    session.put(key, now)
    if meter.boundary and settling.window > window:
        old = before or Reading(0, 0, 0, 0, 0)
        measure_again(context, window, meter.zone, now.injected_wh - old.injected_wh,
                      now.withdrawn_wh - old.withdrawn_wh)
        return True
    return False


def _compare(before: Reading, reading: Reported) -> None:
    """Raises Failed unless `reading` may replace `before`."""
    what = f"meter {reading.meter} and window {reading.window}"
    if reading.revision < before.revision:
        raise Failed(Code.READING_SUPERSEDED, f"of {what} revision {before.revision} is known; this is "
                                              f"{reading.revision}")
    if reading.revision > before.revision:
        return
    if (reading.injected_wh, reading.withdrawn_wh, reading.quality) == (
            before.injected_wh, before.withdrawn_wh, before.quality):
        raise Failed(Code.READING_KNOWN, f"the reading of {what} is known already")
    raise Failed(Code.READING_CONFLICT, f"of {what} revision {before.revision} says injected {before.injected_wh}, "
                                        f"withdrawn {before.withdrawn_wh} Wh; another value needs a higher revision")
