"""One run from one seed: faults with safety checked at every step, then healing, liveness, and idleness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from attrs import define, field

from gridtokenx.consensus.config import HeldBlock
from gridtokenx.consensus.core import Core
from gridtokenx.sim import toy
from gridtokenx.sim.adversary import ADVERSARIES
from gridtokenx.sim.checker import Checker, smallest_safe_quorum
from gridtokenx.sim.disk import Disk
from gridtokenx.sim.faults import SECOND_US, Injector, Plan, draw_plan, draw_slow_links
from gridtokenx.sim.network import Network
from gridtokenx.sim.node import SimulatedNode
from gridtokenx.sim.outcome import Outcome
from gridtokenx.sim.registry import Registry
from gridtokenx.sim.setting import Setting
from gridtokenx.sim.world import Violation, World

SETTLES_WITHIN_US = 9 * SECOND_US            # less than a heartbeat: what only that rescues is a failure
OLDEST_MS = 500 + 3 * 2_000 + 1_000          # tolerance, 3 delta at its greatest, some for the way
SLOW_US = 100_000
SLOW_SETTLES_WITHIN_US = 60 * SECOND_US
IDLE_US = 21 * SECOND_US
LONE_FINAL_WITHIN_US = 8 * SECOND_US         # with the longest cut still before the heartbeat
BLOCK_TIME_MS = 10_000


@define(eq=False)
class Simulation:
    """All parts of one run; `build` makes it, `run` goes through its phases and raises Violation."""

    world: World
    network: Network
    plan: Plan
    nodes: list[SimulatedNode]
    checker: Checker
    setting: Setting
    injector: Injector
    submitted: dict[bytes, int] = field(factory=dict)       # id -> when first submitted, us

    @classmethod
    def build(cls, seed: int | str, plan: Plan | None = None, factory: Callable[..., Core] = Core,
              log: Callable[[str], None] | None = None) -> Simulation:
        world = World(seed)
        world.log = log
        if plan is None:
            plan = draw_plan(world.stream("plan"))
            draw_slow_links(world.stream("slow links"), plan)
        network = Network(world, plan.conditions)
        registry = Registry()
        disks = {index: Disk(world, plan.sync_us[index], f"disk {index}") for index in range(plan.n)}
        honest = frozenset(index for index in range(plan.n) if index not in plan.adversaries)
        genesis = toy.genesis()
        checker = Checker(plan.schedule, honest, registry, genesis, disks)
        checker.oldest_stamp_ms = lambda: (
            toy.GENESIS_MS + world.now_us // 1000 - OLDEST_MS
            - 2 * max(abs(clock.offset_ms) + abs(clock.drift_ppm) for clock in plan.clocks))
        setting = Setting(world, network, registry, checker, plan.n, plan.schedule, genesis, BLOCK_TIME_MS, factory)
        nodes: list[SimulatedNode] = []
        for index in range(plan.n):
            kind = ADVERSARIES[plan.adversaries[index]] if index in plan.adversaries else SimulatedNode
            nodes.append(kind(setting, index, disks[index], plan.clocks[index], plan.speeds[index]))
            network.attach(index, nodes[index])
        return cls(world, network, plan, nodes, checker, setting, Injector(world, network, nodes, plan))

    @property
    def honest(self) -> list[SimulatedNode]:
        return [node for node in self.nodes if node.honest]

    # ------------------------------------------------------------ phases

    def run(self) -> Outcome:
        """Faults, then settling, then idleness. Raises Violation with the invariant that broke."""
        stagger = self.world.stream("start")
        for node in self.nodes:
            self.world.at(stagger.randrange(200_000), node.start)
        self.injector.start()
        self._submit_until(self.plan.faults_until_us)
        self.world.run_until(self.plan.faults_until_us)

        healed_us = self.world.now_us
        resubmit = self.world.stream("resubmit")
        for number in sorted(self._unfinal(), key=lambda name: self.submitted[name]):
            self.world.after(resubmit.randrange(200_000), self._submit, number)
        if not self.world.run_until(healed_us + self._patience_us, self._settled):
            raise Violation(self._why_unsettled(self._patience_us, "the faults ended"))
        settled_us = self.world.now_us - healed_us
        if self.plan.conditions.delay_us <= SLOW_US:
            self._idle()
            self._lone_transactions()
        return Outcome(
            self.world.seed, self.plan.n, tuple(sorted(self.plan.adversaries.values())), self.world.trace_hash(),
            self.injector.injected + self.network.injected, Counter(self.setting.notes),
            sum(self.network.sent.values()), self.world.events, self._views(),
            self.plan.schedule.epoch_at(len(self.checker.chain) + 1),
            len(self.checker.chain), len(self.checker.final_transactions), self.world.now_ms, settled_us // 1000)

    def _views(self) -> int:
        """Of the furthest node, those of past epochs by their last final block."""
        ends = [final.header.view for final, after in pairwise(self.checker.chain)
                if after.header.epoch != final.header.epoch]
        return sum(ends) + max(node.core.view for node in self.honest if node.core is not None)

    def _submit_until(self, end_us: int) -> None:
        client = self.world.stream("client")
        at_us, number = 300_000, 0
        while at_us < end_us:
            self.world.at(at_us, self._submit, toy.transaction(number))
            number += 1
            at_us += int(client.expovariate(self.plan.submissions_per_second) * SECOND_US) + 1

    def _submit(self, name: bytes) -> None:
        """To a node that is up, by chance; to be submitted again if there is none or if it loses it."""
        self.submitted.setdefault(name, self.world.now_us)
        up = [node for node in self.honest if node.running]
        if up and name not in self.checker.final_transactions:
            up[int.from_bytes(name[:4], "big") % len(up)].submit(name)

    def _unfinal(self) -> list[bytes]:
        return [name for name in self.submitted if name not in self.checker.final_transactions]

    def _settled(self) -> bool:
        head = len(self.checker.chain)
        return (len(self.submitted) == len(self.checker.final_transactions)
                and all(node.running and node.height >= head - 2 for node in self.honest))

    @property
    def _patience_us(self) -> int:
        """Slow links need delta to grow to them first, n views a step."""
        slow = self.plan.conditions.delay_us > SLOW_US
        return SLOW_SETTLES_WITHIN_US if slow else SETTLES_WITHIN_US

    def _why_unsettled(self, within_us: int, since: str) -> str:
        heights = {node.index: node.height for node in self.honest}
        views = {node.index: (node.consensus.epoch, None if node.core is None else node.core.view)
                 for node in self.honest}
        return (f"not settled {within_us // SECOND_US} s after {since}: "
                f"head {len(self.checker.chain)}, heights {heights}, views {views}, "
                f"{len(self._unfinal())} transactions not final")

    def _idle(self) -> None:
        """Nothing to do: heartbeat blocks only, and a bounded number of messages."""
        n = self.plan.n
        self.world.run_until(self.world.now_us + 2 * SECOND_US)
        height, messages = len(self.checker.chain), sum(self.network.sent.values())
        self.world.run_until(self.world.now_us + IDLE_US)
        blocks = len(self.checker.chain) - height
        sent = sum(self.network.sent.values()) - messages
        most_blocks = IDLE_US // (BLOCK_TIME_MS * 1000) + 1
        if not 1 <= blocks <= most_blocks:
            raise Violation(f"{blocks} blocks in {IDLE_US // SECOND_US} idle seconds; "
                            f"heartbeats are 1 to {most_blocks}")
        # STATUS; per block or passed-over view a few messages of each to each; retries of what an adversary left.
        bound = 3 * n * (n - 1) * IDLE_US // SECOND_US + (blocks + len(self.plan.adversaries) * 6) * 30 * n * n
        # Who is no authority asks two of them every half second.
        bound += 8 * n * IDLE_US // SECOND_US
        if sent > bound:
            raise Violation(f"{sent} messages in {IDLE_US // SECOND_US} idle seconds; at most {bound} are expected")
        if any(node.height < len(self.checker.chain) - 2 for node in self.honest):
            raise Violation("a node fell behind while idle")

    def _lone_transactions(self) -> None:
        """One at a time on an idle chain, with links cut while it is on its way: nothing but the block that holds it,
        which part of the authorities may have given up, brings it to be final."""
        chance = self.world.stream("lone transactions")
        nodes = range(self.plan.n)
        for _ in range(self.plan.lone_transactions):
            self.world.run_until(self.world.now_us + chance.randrange(200_000, SECOND_US))
            self._submit(toy.transaction(len(self.submitted)))
            self.world.run_until(self.world.now_us + chance.randrange(60_000))
            self.network.cut({(a, b) for a in nodes for b in nodes if a != b and chance.random() < 0.5})
            self.world.run_until(self.world.now_us + chance.randrange(100_000, 1_500_000))
            self.network.heal()
            for name in self._unfinal():
                self._submit(name)
            if not self.world.run_until(self.world.now_us + LONE_FINAL_WITHIN_US, self._settled):
                raise Violation(self._why_unsettled(LONE_FINAL_WITHIN_US, "links were whole again"))


def run_seed(seed: int | str, plan: Plan | None = None, factory: Callable[..., Core] = Core,
             log: Callable[[str], None] | None = None) -> Outcome:
    """One run. Raises Violation."""
    return Simulation.build(seed, plan, factory, log).run()


__all__ = ["HeldBlock", "Outcome", "Simulation", "run_seed", "smallest_safe_quorum"]
