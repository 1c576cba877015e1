"""Which peers are known, where, and when each is to be dialled next; pure, with the time passed in (seconds).

Whoever tells of others cannot fill the book or push others out of it: what one teller or one part of the internet
contributes is bounded, room is made at the cost of whoever contributed most, and a peer that was reached once is not
forgotten for hearsay. An address at which a peer has proven its key stays, whatever others say of that peer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from random import Random

from attrs import define, field

from gridtokenx.network.identity import host_and_port, parse_address
from gridtokenx.network.settings import AddressError

MAX_PEERS = 1024
MAX_PER_TELLER = 64
"""Peers known from one teller alone."""
MAX_PER_GROUP = 64
"""Peers known by hearsay alone in one part of the internet."""
MAX_ADDRESSES = 4
"""Of one peer, beside those that are configured and the one that was proven."""
MAX_ADDRESSES_PER_TELLER = 2
FORGET_AFTER = 12
"""Failed dials in a row after which learned addresses are dropped."""
ANCHORS = 8


def group_of(host: str) -> str:
    """The part of the internet that a host is in, which one owner may hold: /16 of IPv4, /32 of IPv6.

    Names, and addresses of this machine or a local network, are each a part of their own.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_private or address.is_loopback:
        return host
    return str(ip_network((address, 16 if address.version == 4 else 32), strict=False))


@define(eq=False)
class Known:
    """One peer. `configured` addresses are never forgotten, nor is the `proven` one, at which it was reached last;
    `learned` ones are told by it or about it."""

    public: bytes
    configured: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    proven: str = ""
    failures: int = 0
    due: float = 0.0
    dialling: bool = False
    error: str = ""
    teller: bytes = b""
    """Who told of it first; itself, or nobody for those configured."""
    group: str = ""
    turn: int = field(default=0)
    reached: float = float("-inf")
    """When it was reached by dialling."""
    _told: Counter[bytes] = field(factory=Counter)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.configured, *((self.proven,) if self.proven else ()), *self.learned)))

    @property
    def hearsay(self) -> bool:
        """It was never reached, and did not come by itself."""
        return not self.configured and not self.proven and self.teller != self.public

    def next_address(self) -> str:
        """The addresses in turn, one per attempt."""
        addresses = self.addresses
        self.turn += 1
        return addresses[(self.turn - 1) % len(addresses)]


class AddressBook:
    """Bounded; see above for who gives way."""

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

    def remember(self, public: bytes, text: str) -> None:
        """An anchor of a former run. Raises AddressError."""
        address, _ = parse_address(text, with_peer=False)
        if public != self._own and len(self._known) < MAX_PEERS:
            self._known.setdefault(public, Known(public)).proven = str(address)

    def anchors(self) -> list[tuple[bytes, str]]:
        """The peers reached last, to begin with in the next run."""
        reached = sorted((known for known in self._known.values() if known.proven), key=lambda known: -known.reached)
        return [(known.public, known.proven) for known in reached[:ANCHORS]]

    def learn(self, public: bytes, texts: Iterable[str], *, teller: bytes, seen_host: str = "") -> bool:
        """Addresses of `public`, told by `teller`; what a peer tells of itself replaces what is known of it.

        `seen_host` takes the place of 0.0.0.0. True iff something usable is new. Raises AddressError for text that
        is no address.
        """
        if public == self._own:
            return False
        usable: list[str] = []
        groups: list[str] = []
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
                groups.append(group_of(host))
        known = self._known.get(public)
        if not usable or (known is not None and set(usable) <= set(known.addresses)):
            return False
        itself = teller == public
        if known is None:
            if not itself and not self._makes_room(teller, groups[0]):
                return False
            if len(self._known) >= MAX_PEERS and not self._evict():
                return False
            known = self._known[public] = Known(public, teller=teller, group=groups[0])
        if itself:
            known.learned = tuple(usable)
            known._told.clear()
            return True
        new = [text for text in usable if text not in known.addresses]
        room = min(MAX_ADDRESSES - len(known.learned), MAX_ADDRESSES_PER_TELLER - known._told[teller])
        new = new[:max(0, room)]
        known.learned += tuple(new)
        if new:
            known._told[teller] += len(new)
        return bool(new)

    def _makes_room(self, teller: bytes, group: str) -> bool:
        """At its bound, what a teller says now takes the place of what it said first; a crowded part takes no more."""
        heard = [known for known in self._known.values() if known.hearsay]
        if sum(known.group == group for known in heard) >= MAX_PER_GROUP:
            return False
        said = [known for known in heard if known.teller == teller]
        if len(said) < MAX_PER_TELLER:
            return True
        return self._forget_first(said)

    def _forget_first(self, candidates: Iterable[Known]) -> bool:
        for known in candidates:
            if not known.dialling:
                del self._known[known.public]
                return True
        return False

    def _evict(self) -> bool:
        """Makes room at the cost of the teller that filled most of it."""
        heard = [known for known in self._known.values() if known.hearsay]
        tellers = Counter(known.teller for known in heard)
        most = max(tellers.values(), default=0)
        if self._forget_first(known for known in heard if tellers[known.teller] == most):
            return True
        return self._forget_first([known for known in self._known.values()
                                   if not known.configured and not known.proven])

    def failed(self, known: Known, reason: str, now: float, backoff: tuple[float, float]) -> None:
        """A dial failed: wait twice as long as before the last one, give or take a fifth."""
        first, longest = backoff
        wait = min(longest, first * 2 ** min(known.failures, 16))
        known.due = now + wait * self._random.uniform(0.8, 1.2)
        known.failures += 1
        known.error = reason
        if known.failures >= FORGET_AFTER and known.learned:
            known.learned = ()
            known._told.clear()
            if not known.addresses:
                self._known.pop(known.public, None)

    def succeeded(self, known: Known) -> None:
        known.failures = 0
        known.error = ""

    def proved(self, known: Known, address: str, now: float) -> None:
        """It was dialled at `address` and proved its key there."""
        known.proven, known.reached = address, now

    def postpone(self, known: Known, until: float) -> None:
        known.due = max(known.due, until)
