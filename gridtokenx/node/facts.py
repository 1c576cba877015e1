"""What a running node tells of itself: status, peers, authorities; and how it takes and follows transactions."""

from __future__ import annotations

from typing import Any

import trio

from gridtokenx.ledger import queries
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.node.confirmations import Confirmations
from gridtokenx.node.depths import Depths
from gridtokenx.node.epochs import members_of
from gridtokenx.node.prove import Prover
from gridtokenx.node.reads import Reads
from gridtokenx.node.service import Service

Map = dict[str, Any]


class NodeFacts:
    """One node, for its rpc and HTTP interfaces. `state` is read: hold the view's lock."""

    takes_transactions = True

    def __init__(self, service: Service, genesis: Genesis, reads: Reads, depths: Depths, name: str,
                 version: str) -> None:
        self._service = service
        self._chain = service.replica.chain
        self._genesis = genesis
        self.reads = reads
        self.depths = depths
        self._name = name
        self._version = version
        self.prover = Prover(genesis, self._chain.database, self._chain)
        """Makes light proofs: hold the view's lock."""

    def status(self) -> Map:
        service, chain, names = self._service, self._chain, self.reads.names
        header = chain.head.header
        core = service.replica.core
        statistics = None if core is None else core.statistics()
        clock = queries.market_clock(chain.state)
        confirmed = service.confirmations.recent()
        return {
            "name": self._name, "version": self._version, "chain_id": chain.chain_id,
            "chain_name": self._genesis.name, "authority": names.get(service.me, ""), "public": service.me,
            "height": header.height, "hash": chain.head.digest, "state_root": header.state_root,
            "timestamp_ms": header.timestamp_ms, "epoch": header.epoch,
            "view": header.view if statistics is None else statistics.view,
            "leader": "" if core is None or statistics is None else names[core.authorities.keys[statistics.leader]],
            "delta_ms": 0 if statistics is None else statistics.delta_ms,
            "market_time_s": clock.now_ms // 1000, "market_rate": clock.rate, "window": clock.now_ms // 900_000,
            "peers": sum(peer.connected for peer in service.network.peers()),
            "pending_transactions": len(service.replica.pool), "produced": dict(service.feed.produced),
            "confirmations": service.confirmations.count, "confirmation_p50_ms": confirmed.p50_ms,
            "confirmation_p99_ms": confirmed.p99_ms,
            "checkpoint_height": chain.base.header.height, "certificates_verified": service.certificates_verified,
            "uptime_ms": int((trio.current_time() - service.started_s) * 1000),
        }

    @property
    def confirmations(self) -> Confirmations | None:
        return self._service.confirmations

    def peers(self) -> list[Map]:
        return [{
            "public": peer.public, "name": peer.name or self.reads.names.get(peer.public, ""),
            "address": peer.address, "connected": peer.connected, "connected_s": int(peer.connected_s),
            "outbound": peer.outbound, "authority": peer.authority, "linked": peer.linked,
            "sent_bytes": peer.sent_bytes, "received_bytes": peer.received_bytes, "dropped": peer.dropped,
            "error": peer.error,
        } for peer in self._service.network.peers()]

    def authorities(self) -> list[Map]:
        """In the order of turns; on a validator also how each was last heard."""
        core = self._service.replica.core
        known = {} if core is None else {entry.index: entry for entry in core.statistics().authorities}
        rows = []
        for index, (name, public) in enumerate(members_of(self._chain.state)):
            row: Map = {"name": name, "public": public, "produced": self._service.feed.produced.get(name, 0)}
            entry = known.get(index)
            if entry is not None:
                row |= {"silent": entry.silent, "heard_ms_ago": entry.heard_ms_ago, "late_views": entry.late_views,
                        "clock_offset_ms": entry.clock_offset_ms, "finalized_height": entry.finalized_height}
            rows.append(row)
        return rows

    async def submit(self, raws: list[bytes]) -> list[tuple[bytes, int, str]]:
        """(id, code, message) of each; code 0: in the pool. Raises Refused when the node is too busy."""
        return await self._service.submit(raws)

    async def wait(self, ids: list[bytes], timeout_s: float) -> list[Map]:
        """The fate of each, once all are final or refused, or after the timeout. Raises FeedFull."""
        with trio.move_on_after(timeout_s):
            for transaction_id in ids:
                if self.reads.fate(transaction_id)["state"] in ("pending", "unknown"):
                    await self._service.feed.wait(transaction_id)
        return [self.reads.fate(transaction_id) for transaction_id in ids]
