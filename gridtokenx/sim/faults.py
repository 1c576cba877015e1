"""What goes wrong in a run: drawn from the seed, injected at virtual times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from attrs import Factory, define, evolve, field

from gridtokenx.consensus.authorities import faulty_at_most, quorum_of
from gridtokenx.sim.adversary import ADVERSARIES
from gridtokenx.sim.network import Conditions, Network
from gridtokenx.sim.node import SimulatedNode
from gridtokenx.sim.setting import Clock, Speed
from gridtokenx.sim.toy import Schedule
from gridtokenx.sim.world import World

SECOND_US = 1_000_000


@define
class Plan:
    """The shape of one run. Faults end at `faults_until_us`; everything is healed then but the adversaries."""

    n: int                                # nodes; those that are no authorities at first come last
    conditions: Conditions
    adversaries: dict[int, str]
    clocks: list[Clock]
    speeds: list[Speed]
    sync_us: list[int]
    faults_until_us: int
    mean_gap_us: int                      # between faults
    submissions_per_second: int
    schedule: Schedule = field(default=Factory(lambda self: Schedule((tuple(range(self.n)),)), takes_self=True))
    weights: dict[str, int] = field(factory=dict)
    healed_delay_us: int = 20_000         # of links at most, once the faults are over
    lone_transactions: int = 0            # after that, one at a time, under cut links


def draw_plan(random: Random) -> Plan:
    """A plan by chance: mostly four or five authorities, mostly bad links, sometimes an adversary."""
    n = random.choices((1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 30, 45, 8, 11))[0]
    f = (n - 1) // 3
    adversaries: dict[int, str] = {}
    if f and random.random() < 0.5:
        for index in random.sample(range(n), random.randint(1, f)):
            adversaries[index] = random.choice(sorted(ADVERSARIES))
    schedule = draw_schedule(random, n, frozenset(adversaries))
    n = max(max(members) for members in schedule.lists) + 1
    spread_ms = random.choice((0, 50, 500, 2000))
    return Plan(
        n=n, schedule=schedule,
        conditions=Conditions(
            delay_us=random.randint(500, 30_000), jitter_us=random.choice((0, 2_000, 20_000, 80_000)),
            loss=random.choice((0, 0, 10, 50, 200)), duplication=random.choice((0, 0, 20, 100))),
        adversaries=adversaries,
        clocks=[Clock(random.randint(-spread_ms, spread_ms), random.randint(-100, 100)) for _ in range(n)],
        speeds=[Speed(random.randint(100, 3_000), random.randint(10, 300)) for _ in range(n)],
        sync_us=[random.choice((300, 1_000, 5_000, 20_000)) for _ in range(n)],
        faults_until_us=random.randint(5, 12) * SECOND_US,
        mean_gap_us=random.choice((300_000, 800_000, 2_000_000)),
        submissions_per_second=random.choice((1, 3, 10)), lone_transactions=4,
        weights={"crash": random.randint(0, 5), "power loss": random.randint(0, 2), "partition": random.randint(0, 4),
                 "one-way cut": random.randint(0, 3), "slow spell": random.randint(0, 3),
                 "clock jump": random.randint(0, 1), "isolate": random.randint(0, 3),
                 "log lost": random.randint(0, 2), "log restored": random.randint(0, 1)})


def draw_slow_links(random: Random, plan: Plan) -> None:
    """In one run of twelve messages take longer than delta for good."""
    if random.random() < 1 / 12:
        plan.healed_delay_us = plan.conditions.delay_us = random.randint(110_000, 250_000)


def draw_schedule(random: Random, n: int, adversaries: frozenset[int]) -> Schedule:
    """Epochs of a few blocks in two runs of three; at most max(1, f) authorities change from one to the next.

    Adversaries stay, and never become more than f.
    """
    members = tuple(range(n))
    if random.random() < 1 / 3:
        return Schedule((members,))
    lists, spare = [members], n
    for _ in range(random.randint(1, 12)):
        changed = list(members)
        for _ in range(random.randint(0, max(1, faulty_at_most(len(members))))):
            if random.random() < 0.5:
                changed.append(spare)
                spare += 1
            else:
                leaver = random.choice(changed)
                if leaver not in adversaries and leaver in members and len(changed) > 1:
                    changed.remove(leaver)
        if len(adversaries) <= faulty_at_most(len(changed)) and len(changed) <= n + 2:
            members = tuple(changed)
        lists.append(members)
    return Schedule(tuple(lists), random.choice((2, 3, 5, 10, 25)))


class Injector:
    """Injects faults until the plan's end, then heals everything."""

    def __init__(self, world: World, network: Network, nodes: Sequence[SimulatedNode], plan: Plan) -> None:
        self.injected: Counter[str] = Counter()
        self._world = world
        self._network = network
        self._nodes = nodes
        self._plan = plan
        self._spoilt: set[int] = set()
        self._random = world.stream("faults")
        self._kinds = [kind for kind, weight in plan.weights.items() if weight]
        self._weights = [plan.weights[kind] for kind in self._kinds]

    def start(self) -> None:
        self._world.at(self._plan.faults_until_us, self._heal)
        self._next()

    def _next(self) -> None:
        if self._kinds:
            self._world.after(self._random.randint(1, 2 * self._plan.mean_gap_us), self._inject)

    def _inject(self) -> None:
        if self._world.now_us >= self._plan.faults_until_us:
            return
        kind = self._random.choices(self._kinds, self._weights)[0]
        self.injected[kind] += 1
        self._world.trace(f"fault: {kind}")
        n, random = self._plan.n, self._random
        lasting_us = random.randint(100_000, 4_000_000)
        if kind == "crash":
            self._crash(random.randrange(n), lasting_us)
        elif kind == "power loss":
            for index in range(n):
                self._crash(index, lasting_us)
        elif kind in ("log lost", "log restored"):
            self._spoil_log(kind, random.randrange(n), lasting_us)
        elif kind in ("partition", "isolate", "one-way cut"):
            order = random.sample(range(n), n)
            size = 1 if kind != "partition" else random.randint(1, max(1, n // 2))
            left, right = order[:size], order[size:]
            links = {(a, b) for a in left for b in right}
            if kind != "one-way cut":
                links |= {(b, a) for a in left for b in right}
            self._network.cut(links)
            self._world.after(lasting_us, self._network.heal, links)
        elif kind == "slow spell":
            self._network.conditions = evolve(self._network.conditions, extra_delay_us=random.randint(50_000, 500_000))
            self._world.after(lasting_us, self._fast)
        else:
            self._nodes[random.randrange(n)].clock.offset_ms += random.randint(-2_000, 2_000)
        self._next()

    def _fast(self) -> None:
        self._network.conditions = evolve(self._network.conditions, extra_delay_us=0)

    def _crash(self, index: int, down_us: int) -> None:
        node = self._nodes[index]
        if node.running and node.honest:
            node.crash()
            self._world.after(down_us, self._restart, node)

    def _spoil_log(self, kind: str, index: int, down_us: int) -> None:
        """A crash, after which the log is gone or an older copy of it. As long as it signs nothing the node counts as
        absent, and one whose log is old counts as faulty: no more of them than the protocol allows."""
        node, schedule = self._nodes[index], self._plan.schedule
        least = min(schedule.lists, key=lambda members: (len(members) - quorum_of(len(members)), len(members)))
        spoilt = len(self._spoilt | {index}) + len(self._plan.adversaries)
        if not node.running or not node.honest or spoilt > min(
                len(least) - quorum_of(len(least)), max(faulty_at_most(len(members)) for members in [least])):
            self.injected[kind] -= 1
            return
        self._spoilt.add(index)
        self._crash(index, down_us)
        if kind == "log lost":
            node.disk.lose()
            node.setting.checker.log_lost(index)
        else:
            node.disk.restore(self._random.randint(0, len(node.disk.durable)))
            node.setting.checker.log_restored(index)

    @staticmethod
    def _restart(node: SimulatedNode) -> None:
        if not node.running:
            node.start()

    def _heal(self) -> None:
        self._world.trace("faults end")
        self._network.heal()
        self._network.conditions = Conditions(delay_us=min(self._plan.conditions.delay_us, self._plan.healed_delay_us))
        for node in self._nodes:
            if not node.running and node.honest:
                node.start()
