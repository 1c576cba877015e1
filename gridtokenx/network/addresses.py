"""Which peers are known, where, and when each is to be dialled next; pure, with the time passed in (seconds)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import ip_address
from random import Random

from attrs import define, field

from gridtokenx.network.identity import host_and_port, parse_address
from gridtokenx.network.settings import AddressError

MAX_PEERS = 1024
MAX_ADDRESSES = 4
"""Of one peer, beside those that are configured."""
FORGET_AFTER = 12
"""Failed dials in a row after which learned addresses are dropped."""


@define(eq=False)
class Known:
    """One peer. `configured` addresses are never forgotten; `learned` ones are told by it or about it."""

    public: bytes
    configured: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    failures: int = 0
    due: float = 0.0
    dialling: bool = False
    error: str = ""
    turn: int = field(default=0)

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.configured + tuple(text for text in self.learned if text not in self.configured)

    def next_address(self) -> str:
        """The addresses in turn, one per attempt."""
        addresses = self.addresses
        self.turn += 1
        return addresses[(self.turn - 1) % len(addresses)]


class AddressBook:
    """Bounded; when full, the peer that was learned of first and is not configured gives way."""

    def __init__(self, own: bytes, seed: int) -> None:
        self._own = own
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        # Only spreads dials in time; consensus never sees it.
        self._random = Random(seed)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, public: bytes) -> Known | None:
        return self._known.get(public)

    def all(self) -> Iterable[Known]:
        return self._known.values()

    def configure(self, text: str) -> bytes:
        """Adds a bootstrap address with its `/p2p` part; returns the peer. Raises AddressError."""
        address, public = parse_address(text, with_peer=True)
        assert public is not None
        if public != self._own:
            known = self._known.setdefault(public, Known(public))
            if str(address) not in known.configured:
                known.configured += (str(address),)
        return public

    def learn(self, public: bytes, texts: Iterable[str], *, itself: bool, seen_host: str = "") -> bool:
        """Addresses of `public`, told by the peer `itself` (they replace older ones) or by another.

        `seen_host` takes the place of 0.0.0.0. True iff something usable is new. Raises AddressError for text that
        is no address.
        """
        if public == self._own:
            return False
        usable: list[str] = []
        for text in list(texts)[:MAX_ADDRESSES]:
            address, named = parse_address(text)
            if named not in (None, public):
                raise AddressError(f"{text} names another peer")
            kind, host, port = host_and_port(address)
            if kind in ("ip4", "ip6") and ip_address(host).is_unspecified:
                if not seen_host:
                    continue
                kind, host = ("ip6" if ":" in seen_host else "ip4"), seen_host
            if port:
                usable.append(f"/{kind}/{host}/tcp/{port}")
        known = self._known.get(public)
        if not usable or (known is not None and set(usable) <= set(known.addresses)):
            return False
        if known is None:
            if len(self._known) >= MAX_PEERS and not self._evict():
                return False
            known = self._known[public] = Known(public)
        if itself:
            known.learned = tuple(usable)
        else:
            room = MAX_ADDRESSES - len(known.learned)
            known.learned += tuple(text for text in usable if text not in known.addresses)[:max(0, room)]
        return True

    def _evict(self) -> bool:
        for public, known in self._known.items():
            if not known.configured and not known.dialling:
                del self._known[public]
                return True
        return False

    def failed(self, known: Known, reason: str, now: float, backoff: tuple[float, float]) -> None:
        """A dial failed: wait twice as long as before the last one, give or take a fifth."""
        first, longest = backoff
        wait = min(longest, first * 2 ** min(known.failures, 16))
        known.due = now + wait * self._random.uniform(0.8, 1.2)
        known.failures += 1
        known.error = reason
        if known.failures >= FORGET_AFTER and known.learned:
            known.learned = ()
            if not known.configured:
                self._known.pop(known.public, None)

    def succeeded(self, known: Known) -> None:
        known.failures = 0
        known.error = ""

    def postpone(self, known: Known, until: float) -> None:
        known.due = max(known.due, until)
