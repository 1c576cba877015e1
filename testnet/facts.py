"""What a run must show: facts gathered from the processes, judged one by one. Pure, so that tests can break it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, field, frozen


@frozen
class Verdict:
    """One line of the check: what was looked at, whether it holds, what was measured."""

    name: str
    holds: bool
    measured: str


@frozen(kw_only=True)
class Money:
    """THB of the chain in micro-baht, as one peer sums it over its whole state."""

    peer: str
    height: int
    genesis_uthb: int
    minted_uthb: int
    burned_uthb: int
    held_uthb: int
    """Sum of all balances and escrows."""


@frozen(kw_only=True)
class Settled:
    """What settlement came to, as one peer's chain says it (Wh), beside what the meters showed."""

    peer: str
    windows: int
    minted_wh: int
    consumed_wh: int
    losses_wh: int
    supplied_wh: int
    """By utilities; `taken_wh` less this is the net flow of GT to the grid."""
    taken_wh: int
    inexact: Sequence[int]
    """Windows whose GT does not balance."""
    unsettled_trades: int
    """Trades of settled windows that still hold money."""
    reported_windows: int
    """Windows among these that the testnet's meters reported."""
    incomplete_windows: int
    """Windows of which the chain did not take every reading."""
    shown_injected_wh: int
    shown_withdrawn_wh: int
    """What the households' meters showed in those windows; `minted_wh` and `consumed_wh` of them are the chain's."""
    chain_injected_wh: int
    chain_withdrawn_wh: int
    bills: int
    """Bills of the households that have come, a window of a meter each."""
    bill_example: str
    flags: Mapping[str, int]
    """Flags by zone that no correction has explained, where every reading is there."""
    estimated_flags: int
    """Flags where readings are missing."""
    largest_residual_wh: int


@frozen(kw_only=True)
class Theft:
    """A household whose meter shows too little, and whom the search names."""

    household: int
    meter: int
    zone: str
    hidden_wh: int
    suspect: int
    """The meter that the search puts first; 0: none."""
    explained_ppm: int


@frozen(kw_only=True)
class Fault:
    """A kill, restart or late observer, and what finality did meanwhile."""

    name: str
    text: str
    holds: bool


@frozen(kw_only=True)
class Facts:
    """Everything `judge` looks at."""

    authorities: Sequence[str]
    produced: Mapping[str, int]
    """Final blocks per authority since the start of this run."""
    transactions_finalized: int
    longest_gap_s: float
    """Between two final blocks, seconds."""
    trades: int
    traded_wh: int
    latencies: int
    p50_ms: float
    p99_ms: float
    peers: Sequence[str]
    """All that should be there at the end, the observer included."""
    root_height: int
    roots: Mapping[str, bytes]
    """State root of each peer at `root_height`."""
    money: Sequence[Money]
    certified: Mapping[str, int] | None
    """Claims and certificates as one peer adds them up over its whole state; None if it finds that they do not."""
    deposited_uthb: int
    withdrawn_uthb: int
    """What the issuer's confirmed transactions of this run moved in and out."""
    carried_minted_uthb: int = 0
    carried_burned_uthb: int = 0
    """Minted and burned before this run, where it goes on with an older chain."""
    refused: Mapping[str, int] = field(factory=dict)
    settled: Settled | None = None
    theft: Theft | None = None
    faults: Sequence[Fault] = ()
    troubles: Sequence[str] = ()
    """Processes that ended by themselves, unresolved transactions and the like."""


def thb(uthb: int) -> str:
    sign = "-" if uthb < 0 else ""
    return f"{sign}{abs(uthb) // 1_000_000:,}.{abs(uthb) % 1_000_000:06d} THB"


def _blocks(facts: Facts) -> Verdict:
    counts = {name: facts.produced.get(name, 0) for name in facts.authorities}
    idle = [name for name, count in counts.items() if count == 0]
    text = ", ".join(f"{name} {count}" for name, count in counts.items())
    return Verdict("every authority produced blocks", bool(counts) and not idle,
                   text + (f"; none by {', '.join(idle)}" if idle else ""))


def _roots(facts: Facts) -> Verdict:
    missing = [peer for peer in facts.peers if peer not in facts.roots]
    distinct = sorted({root.hex() for root in facts.roots.values()})
    if missing:
        text = f"no answer about height {facts.root_height} from {', '.join(missing)}"
    elif len(distinct) == 1:
        text = f"{distinct[0][:16]}… at height {facts.root_height} on all {len(facts.peers)} peers"
    else:
        text = f"height {facts.root_height}: " + ", ".join(f"{p} {r.hex()[:16]}" for p, r in facts.roots.items())
    return Verdict("one state root on all peers", not missing and len(distinct) == 1 and facts.root_height > 0, text)


def _money(facts: Facts) -> list[Verdict]:
    wrong = [
        f"{m.peer} at height {m.height} holds {thb(m.held_uthb)}, expected "
        f"{thb(m.genesis_uthb)} + {thb(m.minted_uthb)} - {thb(m.burned_uthb)}"
        for m in facts.money if m.held_uthb != m.genesis_uthb + m.minted_uthb - m.burned_uthb
    ]
    absent = [peer for peer in facts.peers if peer not in {m.peer for m in facts.money}]
    wrong += [f"no totals from {peer}" for peer in absent]
    first = facts.money[0] if facts.money else None
    text = "; ".join(wrong) if wrong or first is None else (
        f"{thb(first.held_uthb)} = {thb(first.genesis_uthb)} + {thb(first.minted_uthb)} - {thb(first.burned_uthb)}")
    whole = Verdict("THB held = genesis + deposits - withdrawals", not wrong and first is not None, text)
    moved = [
        f"{m.peer}: {thb(m.minted_uthb - facts.carried_minted_uthb)} in, "
        f"{thb(m.burned_uthb - facts.carried_burned_uthb)} out"
        for m in facts.money
        if m.minted_uthb - facts.carried_minted_uthb != facts.deposited_uthb
        or m.burned_uthb - facts.carried_burned_uthb != facts.withdrawn_uthb
    ]
    text = f"{thb(facts.deposited_uthb)} in, {thb(facts.withdrawn_uthb)} out, as the issuer's receipts say"
    return [whole, Verdict("deposits and withdrawals are those the issuer made", not moved and first is not None,
                           text + (f"; but {'; '.join(moved)}" if moved else ""))]


def wh(energy: int) -> str:
    return f"{energy:,} Wh"


def _certified(facts: Facts) -> Verdict:
    name, c = "certificates <= metered", facts.certified
    if c is None:
        return Verdict(name, False, "no peer could add claims and certificates up")
    return Verdict(name, c["certified_wh"] <= c["claimed_wh"] <= c["metered_wh"],
                   f"certified {wh(c['certified_wh'])} ({c['certificates']:,} of 1 MWh, {c['retired']:,} retired) <= "
                   f"claimed {wh(c['claimed_wh'])} <= metered {wh(c['metered_wh'])}, of renewable sources in "
                   "final windows")


def _settlement(facts: Facts) -> list[Verdict]:
    found = facts.settled
    if found is None:
        return [Verdict("windows settle", False, "no peer told of settlement")]
    net = found.taken_wh - found.supplied_wh
    balance = found.minted_wh - found.consumed_wh - found.losses_wh - net
    shown = (found.shown_injected_wh, found.shown_withdrawn_wh)
    agree = shown == (found.chain_injected_wh, found.chain_withdrawn_wh)
    agree = agree and (not found.incomplete_windows or bool(facts.faults))      # an unhurt chain takes all readings
    return [
        Verdict("windows settle and bills arrive", found.windows > 0 and found.bills > 0,
                f"{found.windows} windows, {found.bills:,} bills; {found.bill_example}"),
        Verdict("minted = consumed + losses + net to grid", found.windows > 0 and balance == 0 and not found.inexact,
                f"{wh(found.minted_wh)} = {wh(found.consumed_wh)} + {wh(found.losses_wh)} + {wh(net)}, "
                + ("exact, in every window" if not found.inexact else f"but not in {list(found.inexact)[:5]}")),
        Verdict("the chain says what the meters showed", agree and found.reported_windows > 0,
                f"injected {wh(shown[0])}, withdrawn {wh(shown[1])} in {found.reported_windows} windows"
                + ("" if agree else f"; the chain has {wh(found.chain_injected_wh)}, {wh(found.chain_withdrawn_wh)}")),
        Verdict("all pools are zero", found.unsettled_trades == 0 and balance == 0,
                f"GT left over {wh(balance)}; {found.unsettled_trades} trades of settled windows hold money"),
        _flags(facts, found),
        *_found(facts),
    ]


def _flags(facts: Facts, found: Settled) -> Verdict:
    text = ", ".join(f"{zone} {count}" for zone, count in sorted(found.flags.items())) or "no flag"
    text += f"; largest residual {wh(found.largest_residual_wh)}"
    if found.estimated_flags:
        text += f"; {found.estimated_flags} where readings came too late, and estimates need not add up"
    if facts.theft is None:
        return Verdict("electricity adds up in every zone", not found.flags, text)
    return Verdict("a flag is up in the thief's zone and in no other", set(found.flags) == {facts.theft.zone}, text)


def _found(facts: Facts) -> list[Verdict]:
    theft = facts.theft
    if theft is None:
        return []
    return [Verdict("the search finds the thief", theft.suspect == theft.meter,
                    f"household {theft.household} in {theft.zone} hid {wh(theft.hidden_wh)} from meter {theft.meter}; "
                    f"the search names meter {theft.suspect}, which explains {theft.explained_ppm / 10_000:.1f} %")]


def judge(facts: Facts) -> list[Verdict]:
    """Every condition of a good run, in the order they are printed."""
    return [
        _blocks(facts),
        Verdict("transactions are finalized", facts.transactions_finalized > 0,
                f"{facts.transactions_finalized:,}; longest gap between two blocks {facts.longest_gap_s:.2f} s"),
        Verdict("households trade", facts.trades > 0 and facts.traded_wh > 0,
                f"{facts.trades:,} trades, {facts.traded_wh / 1000:,.1f} kWh"),
        Verdict("the client measured confirmations", facts.latencies > 0,
                f"p50 {facts.p50_ms:.0f} ms, p99 {facts.p99_ms:.0f} ms over {facts.latencies:,} transactions"),
        _roots(facts),
        *_money(facts),
        *_settlement(facts),
        _certified(facts),
        *[Verdict(fault.name, fault.holds, fault.text) for fault in facts.faults],
        Verdict("nothing went wrong on the way", not facts.troubles, "; ".join(facts.troubles) or "no trouble"),
    ]


def as_json(facts: Facts, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Facts and verdicts in JSON's kinds; roots in hex."""
    table = asdict(facts)
    table["roots"] = {peer: root.hex() for peer, root in facts.roots.items()}
    return {"ok": all(verdict.holds for verdict in verdicts), "facts": table,
            "verdicts": [asdict(verdict) for verdict in verdicts]}
