"""Finding others: whom to dial and when, and asking peers whom they know.

Authorities and bootstrap peers are always dialled. Others are, up to a number, anchors of the last run first, and no
more than two at a time in one part of the internet, so that nobody who owns one can surround a node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
import trio
from attrs import define, field

from gridtokenx import codec
from gridtokenx.errors import GridTokenXError
from gridtokenx.network.addresses import AddressBook, Known, group_of
from gridtokenx.network.identity import host_and_port, parse_address, peer_id_of
from gridtokenx.network.limits import Offence
from gridtokenx.network.settings import NetworkConfig, NetworkError, PeerGone, RequestTimeout

log = structlog.get_logger()

MAX_EXCHANGED = 64
MAX_PER_GROUP = 2
HIGHER_KEY_WAITS_S = 0.5


@define(eq=False)
class Finder:
    """`Network` tells it who is connected; it dials (`reach(known, address)` connects and greets) and asks."""

    config: NetworkConfig
    own: bytes
    book: AddressBook
    connected: Callable[[], Iterable[bytes]]
    chosen: Callable[[], Iterable[bytes]]
    """Those of the connected peers that were dialled: whoever came by himself does not count as found."""
    authorities: Callable[[], frozenset[bytes]]
    is_authority: Callable[[], bool]
    important: Callable[[bytes], bool]
    banned_s: Callable[[bytes], float]
    reach: Callable[[bytes, str], Awaitable[None]]
    request: Callable[[bytes, str, bytes], Awaitable[bytes]]
    report: Callable[[bytes, Offence, str], None]
    wake: trio.Event = field(factory=trio.Event)
    asking: trio.Event = field(factory=trio.Event)

    def first_dial(self, public: bytes) -> float:
        """When to dial a peer that was lost or learned of: of two authorities the lower key dials first."""
        waits = self.is_authority() and public in self.authorities() and self.own > public
        return trio.current_time() + (HIGHER_KEY_WAITS_S if waits else 0.0)

    def lost(self, public: bytes) -> None:
        known = self.book.get(public)
        if known is not None:
            self.book.postpone(known, self.first_dial(public))
        self.wake.set()
        self.asking.set()

    def wanted(self) -> list[Known]:
        """Known peers that are to be dialled when due: important ones, then others up to a number."""
        wanted: list[Known] = []
        others: list[Known] = []
        connected = set(self.connected())
        chosen = {public for public in self.chosen() if not self.important(public)}
        room = self.config.target_peers - len(chosen)
        groups: Counter[str] = Counter()
        for known in self.book.all():
            important = self.important(known.public)
            if known.dialling or known.public in chosen:
                room -= known.dialling and not important
                groups[_group(known)] += not important
            elif known.public not in connected and known.addresses and not self.banned_s(known.public):
                (wanted if important else others).append(known)
        others.sort(key=lambda known: (known.due, not known.proven))
        for known in others:
            group = _group(known)
            if room > 0 and groups[group] < MAX_PER_GROUP:
                wanted.append(known)
                room -= 1
                groups[group] += bool(group)
        return wanted

    async def dial_loop(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                now = trio.current_time()
                next_due = now + 60.0
                self.wake = trio.Event()
                for known in self.wanted():
                    if known.due <= now:
                        known.dialling = True
                        nursery.start_soon(self._dial, known)
                    else:
                        next_due = min(next_due, known.due)
                with trio.move_on_after(next_due - now):
                    await self.wake.wait()

    async def _dial(self, known: Known) -> None:
        text = known.next_address()
        try:
            await self.reach(known.public, text)
            self.book.proved(known, str(parse_address(text)[0]), trio.current_time())
        except (NetworkError, codec.CodecError) as error:
            if known.failures == 0:
                log.info("network.dial_failed", peer=known.public.hex()[:16], address=text, reason=str(error))
            important = self.important(known.public)
            backoff = self.config.authority_backoff_s if important else self.config.peer_backoff_s
            self.book.failed(known, str(error), trio.current_time(), backoff)
        finally:
            known.dialling = False
            self.wake.set()

    def learn(self, public: bytes, texts: list[str], teller: bytes) -> None:
        """Hearsay about another peer. Raises AddressError."""
        if self.book.learn(public, texts, teller=teller):
            known = self.book.get(public)
            assert known is not None
            self.book.postpone(known, self.first_dial(public))
            self.wake.set()

    def learn_nearby(self, public: bytes, texts: list[str]) -> None:
        """What mDNS found."""
        try:
            self.learn(public, texts, b"")
        except NetworkError as error:
            log.debug("network.mdns_ignored", reason=str(error))

    async def answer(self, public: bytes, payload: bytes) -> bytes:  # noqa: ARG002
        """Addresses of peers that are connected now: proven, not hearsay."""
        entries: list[list[Any]] = []
        authorities = self.authorities()
        for other in sorted(self.connected(), key=lambda other: other not in authorities):
            known = self.book.get(other)
            if known is not None and known.addresses and other != public and len(entries) < MAX_EXCHANGED:
                entries.append([other, list(known.addresses[:4])])
        return codec.encode(entries)

    async def _ask(self, public: bytes) -> None:
        try:
            entries = codec.decode(await self.request(public, "peers", b""))
            if not isinstance(entries, list) or len(entries) > MAX_EXCHANGED:
                raise codec.CodecError(f"at most {MAX_EXCHANGED} peers are exchanged")
            for entry in entries:
                match entry:
                    case [bytes() as other, [*texts]] if all(isinstance(text, str) for text in texts):
                        peer_id_of(other)
                        self.learn(other, texts, public)
                    case _:
                        raise codec.CodecError("an exchanged peer is [public key, [address, ...]]")
        except (RequestTimeout, PeerGone):
            return
        except (GridTokenXError, ValueError) as error:
            self.report(public, Offence.INVALID, f"peer exchange: {error}")

    async def exchange_loop(self) -> None:
        """Asks peers in turn for others: often while some authority is missing, seldom otherwise."""
        first, longest = self.config.exchange_interval_s
        interval = first
        asked: dict[bytes, float] = {}
        while True:
            connected = set(self.connected())
            missing = bool(self.authorities() - connected)
            candidates = sorted(connected, key=lambda public: (asked.get(public, 0.0), public))
            if candidates:
                chosen = candidates[0]
                fresh = chosen not in asked
                asked = {public: at for public, at in asked.items() if public in connected}
                asked[chosen] = trio.current_time()
                await self._ask(chosen)
                if fresh:
                    interval = first
                    continue  # newcomers are asked at once, one after the other
            self.asking = trio.Event()
            with trio.move_on_after(interval if missing and candidates else longest):
                await self.asking.wait()
                interval = first
                await trio.sleep(0.05)
                continue
            interval = min(longest, interval * 2)


def _group(known: Known) -> str:
    """The part of the internet that the peer is in; nothing for names and local addresses, which are not bounded."""
    addresses = known.addresses
    if not addresses:
        return ""
    host = host_and_port(parse_address(addresses[0])[0])[1]
    group = group_of(host)
    return "" if group == host else group
