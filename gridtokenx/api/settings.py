"""Where and within which limits the interface is served: the `[http]` section of a node, options of a gateway."""

from __future__ import annotations

import ipaddress

from attrs import frozen

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@frozen(kw_only=True)
class HttpSettings:
    """Limits are per process unless the name says otherwise; a client is an IPv4 address or an IPv6 /64."""

    host: str
    port: int
    max_connections: int = 512
    max_connections_per_client: int = 64
    max_requests_per_s: int = 100           # of one client, twice as many at once
    max_body_bytes: int = 262_144
    request_timeout_s: float = 15.0
    send_timeout_s: float = 10.0
    max_subscriptions: int = 32             # of one WebSocket
    max_queued_messages: int = 2_048
    """Of one WebSocket: a client that lets more wait is dropped."""
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    """Whose X-Forwarded-For is believed."""

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def split_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT` with an IP address, `[…]` around IPv6, or localhost. Raises ValueError saying what is wanted."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("HOST:PORT such as 127.0.0.1:9480 is wanted")
    host = host.removeprefix("[").removesuffix("]")
    if host == "localhost":
        host = "127.0.0.1"
    ipaddress.ip_address(host)
    return host, int(port)


def client_key(host: str, forwarded: str, trusted: tuple[Network, ...]) -> str:
    """Who is counted for a connection from `host`: behind trusted proxies the last address that none of them added."""
    chosen = host
    for text in (host, *(part.strip() for part in reversed(forwarded.split(",")))):
        try:
            address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
        except ValueError:
            break
        chosen = (str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address))
        if not any(address in network for network in trusted if network.version == address.version):
            break
    return chosen
