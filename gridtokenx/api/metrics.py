"""Prometheus metrics, read from the backend when they are scraped; names without `_api_` are the network's.

Names that the project always had: `gridtokenx_blockchain_height`, `gridtokenx_energy_trades_total`,
`gridtokenx_network_peers`, `gridtokenx_consensus_rounds`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gridtokenx.api.backend import Backend, Map
from gridtokenx.ledger import grid_queries
from gridtokenx.ledger.settlement_queries import settling
from gridtokenx.node.confirmations import BOUNDS_S

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
INTERVALS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)


class Metrics:
    """Of one process; not shared between two interfaces."""

    def __init__(self, backend: Backend) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        self.trades = counter("gridtokenx_energy_trades", "Trades in final blocks since this process started")
        self.energy = counter("gridtokenx_energy_traded_wh", "Wh delivered by these trades")
        self.value = counter("gridtokenx_energy_value_uthb", "uTHB paid to sellers by these trades")
        self.blocks = counter("gridtokenx_blocks_final", "Final blocks since this process started", ("proposer",))
        self.transactions = counter("gridtokenx_transactions_final", "Transactions in these blocks", ("result",))
        self.interval = Histogram("gridtokenx_block_interval_seconds", "Between the timestamps of two final blocks",
                                  buckets=INTERVALS, registry=self.registry)
        self.requests = counter("gridtokenx_api_requests", "Answered requests", ("route", "method", "status"))
        self.seconds = Histogram("gridtokenx_api_request_seconds", "Time to answer", ("route",), buckets=SECONDS,
                                 registry=self.registry)
        self.messages = counter("gridtokenx_api_feed_messages", "Messages queued for WebSocket clients", ("channel",))
        self.dropped = counter("gridtokenx_api_feed_clients_dropped", "WebSocket clients dropped", ("reason",))
        self.clients = Gauge("gridtokenx_api_feed_clients", "WebSocket clients now", registry=self.registry)
        self.connections = Gauge("gridtokenx_api_connections", "Open HTTP and WebSocket connections",
                                 registry=self.registry)
        self.refused = Gauge("gridtokenx_api_connections_refused", "Connections refused since the start",
                             registry=self.registry)
        self.registry.register(_Network(backend))
        self._last_ms = 0

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One answered request; `route` is the pattern, never the path a client made up."""
        self.requests.labels(route or "none", method if route else "any", str(status)).inc()
        self.seconds.labels(route or "none").observe(seconds)

    def block(self, block: Map | None) -> None:
        """One more final block."""
        if block is None:
            return
        self.blocks.labels(block["proposer"]).inc()
        self.trades.inc(block["trades"])
        self.energy.inc(block["traded_wh"])
        self.value.inc(block["value_uthb"])
        failed = sum(1 for code in block["codes"] if code)
        self.transactions.labels("ok").inc(len(block["codes"]) - failed)
        self.transactions.labels("failed").inc(failed)
        if self._last_ms:
            self.interval.observe((block["timestamp_ms"] - self._last_ms) / 1000)
        self._last_ms = block["timestamp_ms"]

    def watch(self, connections: Callable[[], int], refused: Callable[[], int]) -> None:
        """Where to look for the numbers of the listener."""
        self.connections.set_function(connections)
        self.refused.set_function(refused)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Network(Collector):
    """What the backend says when it is asked."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterable[Metric]:
        backend, status = self._backend, self._backend.status()
        state, database = backend.reads.view.state, backend.reads.view.database
        counts, usage, settled = grid_queries.counters(state), database.usage(), settling(state)
        for name, text, value in (
            ("gridtokenx_blockchain_height", "Height of the newest final block", status["height"]),
            ("gridtokenx_consensus_rounds", "Present view of consensus", status["view"]),
            ("gridtokenx_consensus_epoch", "Present epoch", status["epoch"]),
            ("gridtokenx_consensus_delta_seconds", "Present bound on message delay", status["delta_ms"] / 1000),
            ("gridtokenx_network_peers", "Connected peers", status["peers"]),
            ("gridtokenx_pool_transactions", "Pending transactions", status["pending_transactions"]),
            ("gridtokenx_head_age_seconds", "Since the newest final block's timestamp",
             max(0.0, time.time() - status["timestamp_ms"] / 1000)),
            ("gridtokenx_checkpoint_height", "Height of the last checkpoint", status["checkpoint_height"]),
            ("gridtokenx_store_used_ratio", "Part of the database's map that is used", usage.fraction),
            ("gridtokenx_store_file_bytes", "Size of the database's file", usage.file_bytes),
            ("gridtokenx_store_readers", "Open readers of the database", usage.readers),
            ("gridtokenx_market_open_orders", "Open orders", counts["open_orders"]),
            ("gridtokenx_market_participants", "Registered participants", counts["participants"]),
            ("gridtokenx_market_meters", "Registered meters", counts["meters"]),
            ("gridtokenx_market_window", "The window that delivers now", status["window"]),
            ("gridtokenx_settlement_window", "The first window that is not settled", settled.window),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        silent = GaugeMetricFamily("gridtokenx_authority_silent", "1 while an authority is not heard",
                                   labels=["authority"])
        late = GaugeMetricFamily("gridtokenx_authority_late_views", "Views that passed without an authority's block",
                                 labels=["authority"])
        for row in backend.authorities():
            if "silent" in row:
                silent.add_metric([row["name"]], float(row["silent"]))
                late.add_metric([row["name"]], row["late_views"])
        yield silent
        yield late
        confirmed = backend.confirmations
        if confirmed is not None:
            family = HistogramMetricFamily("gridtokenx_confirmation_seconds",
                                           "From submission at this node to finality")
            upto = list(accumulate(confirmed.counts))
            family.add_metric([], [*((str(bound), count) for bound, count in zip(BOUNDS_S, upto, strict=False)),
                                   ("+Inf", upto[-1])], confirmed.sum_s)
            yield family
