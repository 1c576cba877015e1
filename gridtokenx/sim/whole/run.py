"""One run of whole nodes from one seed: faults, with everything checked at every step; healing; liveness; idleness."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import trio
from attrs import define, field

from gridtokenx.node import replica
from gridtokenx.node.service import Checkpoints
from gridtokenx.sim.network import Network
from gridtokenx.sim.outcome import Outcome
from gridtokenx.sim.registry import Registry
from gridtokenx.sim.whole.adversaries import ADVERSARIES, TWINS
from gridtokenx.sim.whole.chain import FUNDS_UTHB, Lists, authority_key, first_version, genesis_of
from gridtokenx.sim.whole.checker import WholeChecker
from gridtokenx.sim.whole.clients import Client, clients_of
from gridtokenx.sim.whole.faults import (
    Injector,
    Plan,
    draw_lost_logs,
    draw_plan,
    draw_rare_checkpoints,
    draw_torn_writes,
)
from gridtokenx.sim.whole.host import Host, Setting
from gridtokenx.sim.whole.world import SECOND_US, TrioWorld, deterministic_trio
from gridtokenx.sim.world import Violation

SETTLES_WITHIN_S = 12
IDLE_S = 21
LOOK_S = 0.1
GC_ALLOCATIONS = 50_000


@define(eq=False)
class Simulation:
    """All parts of one run; only within `deterministic_trio`."""

    world: TrioWorld
    plan: Plan
    setting: Setting
    injector: Injector
    clients: list[Client]
    views: dict[int, int] = field(factory=dict)

    @classmethod
    def build(cls, seed: int | str, plan: Plan | None, log: Callable[[str], None] | None) -> Simulation:
        world = TrioWorld(seed)
        world.log = log
        if plan is None:
            plan = draw_plan(world.stream("plan"), sorted(ADVERSARIES))
            draw_lost_logs(world.stream("lost logs"), plan)
            draw_torn_writes(world.stream("torn writes"), plan)
            draw_rare_checkpoints(world.stream("rare checkpoints"), plan)
        genesis = genesis_of(plan.authorities, plan.epoch_length)
        lists = Lists(plan.epoch_length, {authority_key(number).public: number for number in range(plan.nodes)})
        network = Network(world, plan.conditions)
        registry = Registry()
        honest = frozenset(range(plan.nodes)) - plan.adversaries.keys()
        durable: dict[int, Any] = {}
        checker = WholeChecker(lists, honest, registry, genesis.header(), durable,
                               expected_uthb=FUNDS_UTHB * len(genesis.accounts))
        setting = Setting(
            world, network, registry, checker, lists, genesis, first_version(plan.authorities, plan.epoch_length),
            plan.segment_bytes, Checkpoints(plan.checkpoint_blocks, plan.checkpoint_ms, plan.history_blocks))
        numbers = [*range(plan.nodes), *(number for number, kind in plan.adversaries.items() if kind == TWINS)]
        for index, number in enumerate(numbers):
            kind = ADVERSARIES[plan.adversaries[number]] if number in plan.adversaries else Host
            host = kind(setting, index, number, authority_key(number), plan.clocks[index], plan.paces[index])
            setting.hosts.append(host)
            network.attach(index, host)
            durable.setdefault(number, host)
        return cls(world, plan, setting, Injector(setting, plan), clients_of(setting, plan.client_gap_s, plan.changes))

    @property
    def honest(self) -> list[Host]:
        return [host for host in self.setting.hosts if host.honest]

    # ------------------------------------------------------------ phases

    async def run(self) -> Outcome:
        """Faults, then settling, then idleness. Raises Violation with what broke."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.world.pump)
            for host in self.setting.hosts:
                nursery.start_soon(host.lives_on)
            stagger = self.world.stream("start")
            for host in self.setting.hosts:
                self.world.at(stagger.randrange(200_000), host.start)
            for client in self.clients:
                nursery.start_soon(client.work)
            self.injector.start()
            await self._phase(self.plan.faults_until_us / SECOND_US - trio.current_time(), lambda: False)
            for client in self.clients:
                client.enough = True
            healed_us = self.world.now_us
            if not await self._phase(SETTLES_WITHIN_S, self._settled):
                raise Violation(self._why_unsettled())
            settled_us = self.world.now_us - healed_us
            if self.plan.idle:
                await self._idle()
            outcome = self._outcome(settled_us)
            nursery.cancel_scope.cancel()
        return outcome

    async def _phase(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Until it is `done`, or the time is over; True iff done."""
        end_s = trio.current_time() + seconds
        while trio.current_time() < end_s:
            with trio.move_on_after(min(LOOK_S, end_s - trio.current_time())):
                await self.world.failed.wait()
            if self.world.failure is not None:
                raise self.world.failure
            self._count_views()
            if done():
                return True
        return done()

    def _count_views(self) -> None:
        for host in self.honest:
            if host.core_view > self.views.get(host.epoch, 0):
                self.views[host.epoch] = host.core_view

    def _settled(self) -> bool:
        head = len(self.setting.checker.chain)
        return (not any(client.busy for client in self.clients)
                and all(host.service is not None and host.height >= head - 2 for host in self.honest))

    def _why_unsettled(self) -> str:
        at = {host.index: (host.running, host.height, host.epoch, host.core_view) for host in self.honest}
        return (f"not settled {SETTLES_WITHIN_S} s after the faults ended: head {len(self.setting.checker.chain)}, "
                f"(running, height, epoch, view) {at}, clients that wait: "
                f"{[client.name for client in self.clients if client.busy]}")

    async def _idle(self) -> None:
        """Nothing to do: heartbeats only, and a bounded number of messages."""
        machines = len(self.setting.hosts)
        await self._phase(2, lambda: False)
        height, messages = len(self.setting.checker.chain), sum(self.setting.network.sent.values())
        await self._phase(IDLE_S, lambda: False)
        blocks = len(self.setting.checker.chain) - height
        sent = sum(self.setting.network.sent.values()) - messages
        if not 1 <= blocks <= 3:
            raise Violation(f"{blocks} blocks in {IDLE_S} idle seconds; heartbeats are 1 to 3")
        bound = 4 * machines ** 2 * IDLE_S + (blocks + 6 * len(self.plan.adversaries)) * 40 * machines ** 2
        if sent > bound:
            raise Violation(f"{sent} messages in {IDLE_S} idle seconds; at most {bound} are expected")
        if any(host.height < len(self.setting.checker.chain) - 2 for host in self.honest):
            raise Violation("a node fell behind while idle")

    def _outcome(self, settled_us: int) -> Outcome:
        checker, setting = self.setting.checker, self.setting
        return Outcome(
            self.world.seed, self.plan.nodes, tuple(sorted(self.plan.adversaries.values())), self.world.trace_hash(),
            self.injector.injected + setting.network.injected, Counter(setting.notes),
            sum(setting.network.sent.values()), self.world.events, sum(self.views.values()),
            checker.schedule.epoch_at(max(1, len(checker.chain))), len(checker.chain),
            len(checker.final_transactions), self.world.now_ms, settled_us // 1000,
            sum(host.lives for host in setting.hosts))


def run_seed(seed: int | str, plan: Plan | None = None, log: Callable[[str], None] | None = None) -> Outcome:
    """One run. Raises Violation, or whatever stopped an honest node."""
    outcomes: list[Outcome] = []

    async def main() -> None:
        simulation = Simulation.build(seed, plan, log)
        before, replica.INLINE_TRANSACTIONS = replica.INLINE_TRANSACTIONS, simulation.plan.inline_transactions
        collect = gc.get_threshold()
        gc.set_threshold(GC_ALLOCATIONS, 10, 20)
        try:
            with _logs_traced(simulation.world):
                outcomes.append(await simulation.run())
        finally:
            gc.set_threshold(*collect)
            replica.INLINE_TRANSACTIONS = before
    try:
        deterministic_trio(seed, main)
    except BaseExceptionGroup as group:
        raise _first(group) from group
    return outcomes[0]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def _logs_traced(world: TrioWorld) -> Iterator[None]:
    """What nodes log goes into the trace, with the number of the machine."""
    def trace(_: Any, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        machine = event.pop("machine", "-")
        details = " ".join(f"{name}={value}" for name, value in event.items() if name not in ("event", "exc_info"))
        world.trace(f"{machine} {method} {event['event']} {details}")
        if event.get("exc_info") and world.log is not None:
            world.log(structlog.processors.format_exc_info(_, method, event).get("exception", ""))
        raise structlog.DropEvent
    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, trace],
                        wrapper_class=structlog.make_filtering_bound_logger(10), cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)
