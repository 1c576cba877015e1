"""The interface inside a node: the same reads as its rpc, and its pool."""

from __future__ import annotations

import ipaddress

import trio

from gridtokenx.api.server import serving
from gridtokenx.api.settings import HttpSettings, split_listen
from gridtokenx.node.config import HttpSection
from gridtokenx.node.facts import NodeFacts


def settings_of(section: HttpSection) -> HttpSettings:
    host, port = split_listen(section.listen)
    return HttpSettings(
        host=host, port=port, max_connections=section.max_connections,
        max_connections_per_client=section.max_connections_per_client, max_requests_per_s=section.max_requests_per_s,
        max_body_bytes=section.max_body_bytes, request_timeout_s=section.request_timeout_ms / 1000,
        max_subscriptions=section.max_subscriptions, max_queued_messages=section.max_queued_messages,
        cors_origins=section.cors_origins,
        trusted_proxies=tuple(ipaddress.ip_network(network) for network in section.trusted_proxies))


async def serve_http(facts: NodeFacts, section: HttpSection) -> None:
    """Serves until cancelled. Raises CannotListen."""
    async with serving(facts, settings_of(section)):
        await trio.sleep_forever()
