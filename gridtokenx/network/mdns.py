"""Finding peers of the same chain on a local network by multicast DNS.

libp2p's own discovery writes to the peer store from another thread, sleeps in it, and registers on trio's thread, so
zeroconf is used directly. A service is `_p2p-<first 5 bytes of the chain id in hex>._udp.local.` (the form of the
libp2p specification for private networks), its TXT record holds `id`, the peer id; what it claims is proven when it
is dialled.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

import ifaddr
import structlog
import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from zeroconf import Error, IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from gridtokenx.network.framing import shielded
from gridtokenx.network.identity import NotEd25519, host_and_port, peer_id_of, public_of

log = structlog.get_logger()

_LOOKUP_MS = 1000
_MAX_SERVICES = 512
_CLOSE_S = 3.0

Learn = Callable[[bytes, list[str]], None]


def service_type(chain_id: bytes) -> str:
    return f"_p2p-{chain_id[:5].hex()}._udp.local."  # a name has at most 15 characters


def _own_hosts(addresses: Iterable[str]) -> tuple[list[str], int]:
    """The IPv4 hosts to announce and the port, of the first address that has any."""
    for text in addresses:
        kind, host, port = host_and_port(Multiaddr(text))
        if kind != "ip4":
            continue
        if host == "0.0.0.0":
            every = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
            return [own for own in every if not own.startswith("127.")] or every, port
        return [host], port
    return [], 0


class _Listener(ServiceListener):
    """Runs in zeroconf's thread; hands finds over to trio."""

    def __init__(self, own: bytes, learn: Learn, token: trio.lowlevel.TrioToken) -> None:
        self._own = own
        self._learn = learn
        self._token = token
        self._names: set[str] = set()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        if len(self._names) >= _MAX_SERVICES:
            return
        self._names.add(name)
        try:
            info = zc.get_service_info(type_, name, _LOOKUP_MS)
            text = (info.decoded_properties.get("id") or "") if info is not None else ""
            public = public_of(ID.from_string(text[:128]))
            if info is None or public == self._own:
                return
            hosts = info.parsed_addresses(IPVersion.V4Only)[:4]
            found = [f"/ip4/{host}/tcp/{info.port}" for host in hosts]
            self._token.run_sync_soon(self._learn, public, found)
        except (NotEd25519, Error, ValueError, OSError, trio.RunFinishedError) as error:
            log.debug("network.mdns_ignored", service=name[:100], reason=str(error))

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:  # noqa: ARG002
        self._names.discard(name)


async def run(chain_id: bytes, public: bytes, addresses: list[str], learn: Learn) -> None:
    """Announces `addresses` (without `/p2p`) and calls `learn(public, addresses)` in trio's thread for each find.

    Where multicast is not possible it says so in the log and ends.
    """
    hosts, port = _own_hosts(addresses)
    kind = service_type(chain_id)
    peer_id = peer_id_of(public).to_base58()
    token = trio.lowlevel.current_trio_token()

    def start() -> Zeroconf:
        zeroconf = Zeroconf()
        try:
            if hosts:
                zeroconf.register_service(ServiceInfo(
                    kind, f"{peer_id}.{kind}", port=port, properties={"id": peer_id},
                    addresses=[socket.inet_aton(host) for host in hosts]))
            ServiceBrowser(zeroconf, kind, _Listener(public, learn, token))
        except BaseException:
            zeroconf.close()
            raise
        return zeroconf

    try:
        zeroconf = await trio.to_thread.run_sync(start)
    except (Error, OSError) as error:
        log.warning("network.mdns_unavailable", reason=f"{type(error).__name__}: {error}")
        return
    log.info("network.mdns_started", service=kind, hosts=hosts)
    try:
        await trio.sleep_forever()
    finally:
        with shielded(_CLOSE_S):
            await trio.to_thread.run_sync(zeroconf.close, abandon_on_cancel=True)  # type: ignore[call-arg]
