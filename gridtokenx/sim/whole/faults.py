"""What goes wrong with whole nodes: drawn from the seed, injected at virtual times, healed at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from random import Random

from attrs import define, evolve, field

from gridtokenx.consensus.authorities import faulty_at_most, quorum_of
from gridtokenx.sim.network import Conditions
from gridtokenx.sim.setting import Clock
from gridtokenx.sim.whole.host import DATA, Host, Setting
from gridtokenx.sim.whole.machine import Pace
from gridtokenx.sim.whole.world import SECOND_US


@define
class Plan:
    """The shape of one run. `adversaries` by number; twins run a second machine with the same key."""

    authorities: int
    spares: int                           # nodes that are no authorities at first
    adversaries: dict[int, str]
    conditions: Conditions
    clocks: list[Clock]
    paces: list[Pace]
    faults_until_us: int
    mean_gap_us: int
    client_gap_s: float
    epoch_length: int
    segment_bytes: int
    checkpoint_blocks: int
    checkpoint_ms: int
    history_blocks: int
    idle: bool                            # whether idleness is looked at after all has settled
    inline_transactions: int              # blocks of more are executed on a thread
    weights: dict[str, int] = field(factory=dict)
    changes: list[tuple[str, int]] = field(factory=list)

    @property
    def nodes(self) -> int:
        """Keys; machines are as many, and one more for twins."""
        return self.authorities + self.spares


def draw_plan(random: Random, kinds: list[str]) -> Plan:
    """A plan by chance: mostly four or five authorities, in half of the runs one of `kinds` among them."""
    authorities = random.choices((1, 2, 3, 4, 5, 6, 7), (1, 1, 2, 50, 40, 3, 3))[0]
    spares = random.choice((0, 0, 1))
    f = faulty_at_most(authorities)
    adversaries = {}
    if f and random.random() < 0.6:
        for number in random.sample(range(authorities), random.randint(1, f)):
            adversaries[number] = random.choice(kinds)
    machines = authorities + spares + 2
    spread_ms = random.choice((0, 50, 500, 2_000))
    short = random.random() < 0.6
    changes: list[tuple[str, int]] = []
    if short and f and not adversaries and spares and random.random() < 0.7:
        changes.append(("join", authorities))
    if short and f and not adversaries and random.random() < 0.4:
        changes.append(("leave", random.randrange(authorities)))
    return Plan(
        authorities=authorities, spares=spares, adversaries=adversaries,
        conditions=Conditions(
            delay_us=random.randint(500, 30_000), jitter_us=random.choice((0, 2_000, 20_000, 80_000)),
            loss=random.choice((0, 0, 10, 50, 150)), duplication=random.choice((0, 0, 20, 100))),
        clocks=[Clock(random.randint(-spread_ms, spread_ms), random.randint(-100, 100)) for _ in range(machines)],
        paces=[Pace(random.choice((300, 1_000, 5_000, 20_000)), random.choice((500, 2_000, 10_000)))
               for _ in range(machines)],
        faults_until_us=random.randint(3, 7) * SECOND_US, mean_gap_us=random.choice((400_000, 800_000, 1_600_000)),
        client_gap_s=random.choice((0.2, 0.5, 1.0)), epoch_length=10 if short else 1_000,
        segment_bytes=random.choice((1 << 15, 1 << 16, 1 << 18)), checkpoint_blocks=random.choice((1, 4, 16)),
        checkpoint_ms=random.choice((300, 1_500, 5_000)), history_blocks=random.choice((0, 5)),
        idle=random.random() < 0.2, inline_transactions=random.choice((0, 2, 128)),
        weights={"crash": random.randint(0, 4), "crash at a write": random.randint(3, 9),
                 "crash between sends": random.randint(0, 3), "power loss": random.randint(0, 2),
                 "pause": random.randint(0, 2), "clock jump": random.randint(0, 1),
                 "partition": random.randint(0, 3), "one-way cut": random.randint(0, 3),
                 "isolate": random.randint(0, 2), "slow spell": random.randint(0, 2),
                 "slow disk": random.randint(0, 2), "disk full": random.randint(0, 1),
                 "log lost": random.randint(0, 1), "log restored": random.randint(0, 1),
                 "stop": random.randint(0, 1)},
        changes=changes)


def draw_lost_logs(random: Random, plan: Plan) -> None:
    """In one run of eight that has no adversary, authorities lose their logs, or get old ones, more often."""
    if random.random() < 1 / 8 and not plan.adversaries:
        plan.changes.clear()
        plan.weights |= {"log lost": 8, "log restored": 3}


def draw_torn_writes(random: Random, plan: Plan) -> None:
    """In one run of eight that has no adversary, the power of a machine fails more often while its log is written."""
    if random.random() < 1 / 8 and not plan.adversaries:
        plan.weights["torn write"] = 12


def draw_rare_checkpoints(random: Random, plan: Plan) -> None:
    """In one run of four checkpoints are as rare as a node's default has them: most blocks are only in the log."""
    if random.random() < 1 / 4:
        plan.checkpoint_blocks = 64


class Injector:
    """Injects until the plan's end, then heals everything but the adversaries."""

    def __init__(self, setting: Setting, plan: Plan) -> None:
        self.injected: Counter[str] = Counter()
        self._setting = setting
        self._world = setting.world
        self._plan = plan
        self._random = setting.world.stream("faults")
        self._kinds = [kind for kind, weight in plan.weights.items() if weight]
        self._weights = [plan.weights[kind] for kind in self._kinds]
        self._spoilt: set[int] = set()
        self._over = False

    def start(self) -> None:
        self._world.at(self._plan.faults_until_us, self._heal)
        self._next()

    def _next(self) -> None:
        if self._kinds:
            self._world.after(self._random.randint(1, 2 * self._plan.mean_gap_us), self._inject)

    def _inject(self) -> None:
        if self._over:
            return
        kind = self._random.choices(self._kinds, self._weights)[0]
        host = self._random.choice([host for host in self._setting.hosts if host.honest])
        lasting_us = self._random.choice((1, 1, 4)) * self._random.randint(50_000, 600_000)
        self._world.trace(f"fault: {kind} ({host.index}, {lasting_us // 1000} ms)")
        if self._carry_out(kind, host, lasting_us):
            self.injected[kind] += 1
        self._next()

    def _carry_out(self, kind: str, host: Host, lasting_us: int) -> bool:
        random, world = self._random, self._world
        power = random.random() < 0.7
        match kind:
            case "crash":
                return self._crash(host, lasting_us, power)
            case "power loss":
                for each in self._setting.hosts:
                    if each.honest:
                        self._crash(each, lasting_us, True)
            case "crash at a write":
                host.after_crash = self._restart_after(host, lasting_us)
                host.crash_at(power=power, writes=random.randint(1, 6))
            case "torn write":
                if not host.running:
                    return False
                host.after_crash = self._restart_after(host, lasting_us)
                host.crash_at(power=True)
                host.disk.tear_next = True
            case "crash between sends":
                host.after_crash = self._restart_after(host, lasting_us)
                host.crash_at(power=power, sends=random.randint(1, 20))
            case "stop":
                host.stop()
            case "pause":
                if host.machine.paused or not host.running:
                    return False
                machine = host.machine
                machine.pause()
                world.after(lasting_us, machine.resume)
            case "clock jump":
                host.clock.offset_ms += random.randint(-2_000, 2_000)
            case "partition" | "isolate" | "one-way cut":
                self._cut(kind, lasting_us)
            case "slow spell":
                network = self._setting.network
                network.conditions = evolve(network.conditions, extra_delay_us=random.randint(50_000, 400_000))
                world.after(lasting_us, self._fast)
            case "slow disk":
                host.pace.slow = random.choice((10, 50))
                world.after(lasting_us, setattr, host.pace, "slow", 1)
            case "disk full":
                self._full(host, True)
                world.after(lasting_us, self._full, host, False)
            case _:
                return self._spoil(kind, host, lasting_us)
        return True

    def _crash(self, host: Host, down_us: int, power: bool) -> bool:
        if not host.running:
            return False
        host.after_crash = self._restart_after(host, down_us)
        host.crash(power=power)
        return True

    def _restart_after(self, host: Host, down_us: int) -> Callable[[], None]:
        return lambda: self._world.after(1 if self._over else down_us, host.start)

    def _cut(self, kind: str, lasting_us: int) -> None:
        machines = len(self._setting.hosts)
        order = self._random.sample(range(machines), machines)
        size = 1 if kind != "partition" else self._random.randint(1, max(1, machines // 2))
        left, right = order[:size], order[size:]
        links = {(a, b) for a in left for b in right}
        if kind != "one-way cut":
            links |= {(b, a) for a in left for b in right}
        self._setting.network.cut(links)
        self._world.after(lasting_us, self._setting.network.heal, links)

    def _fast(self) -> None:
        self._setting.network.conditions = evolve(self._setting.network.conditions, extra_delay_us=0)

    def _full(self, host: Host, full: bool) -> None:
        host.was_full = host.was_full or full
        host.disk.full = host.file.full = full

    def _spoil(self, kind: str, host: Host, down_us: int) -> bool:
        """A crash, after which the log is gone, or log and database are an older copy. Such a node counts as absent or
        faulty for a while: no more of them than the protocol allows."""
        lists, plan, random = self._setting.lists, self._plan, self._random
        if not lists.known:
            return False
        least = min(lists.known.values(), key=lambda members: (len(members) - quorum_of(len(members)), len(members)))
        n = len(least)
        spoilt = len(self._spoilt | {host.number}) + len(plan.adversaries)
        if not host.running or plan.changes or spoilt > min(n - quorum_of(n), faulty_at_most(n)):
            return False
        self._spoilt.add(host.number)
        checker = self._setting.checker
        if kind == "log lost":
            def spoil() -> None:
                for path in host.log_files():
                    host.disk.remove(path)
                host.disk.sync_directory(DATA)
                host.keys.clear()
                if host.file.durable is self._setting.first_version:
                    checker.log_restored(host.number)   # no block yet: it cannot know that it ever had a log
                else:
                    checker.log_lost(host.number)
                self._restart_after(host, down_us)()
        else:
            copy = deepcopy(host.disk._names), host.file.durable, set(host.keys)

            def spoil() -> None:
                host.disk._names, host.file.durable, host.keys = copy
                host.disk._past.clear()
                host.file.committed = host.file.durable
                checker.log_restored(host.number)
                self._restart_after(host, down_us)()
        checked = self._world.now_us if kind == "log lost" else self._world.now_us + down_us
        self._world.at(checked, self._crash_then, host, spoil)
        if random.random() < 0.5:
            self._world.at(checked + down_us + random.randint(300_000, 1_500_000), self._crash_again, host)
        return True

    def _crash_again(self, host: Host) -> None:
        """When it knows up to which epoch it signs nothing."""
        if not self._over:
            self._crash(host, 1, True)

    def _crash_then(self, host: Host, then: Callable[[], None]) -> None:
        host.after_crash = then
        if host.running:
            host.crash(power=True)
        else:
            then()

    def _heal(self) -> None:
        self._over = True
        self._world.trace("faults end")
        self._setting.network.heal()
        self._setting.network.conditions = Conditions(delay_us=min(self._plan.conditions.delay_us, 20_000))
        for host in self._setting.hosts:
            host.disk.power_after = host.sends_left = None
            host.disk.tear_next = False
            host.pace.slow = 1
            self._full(host, False) if host.was_full else None
            host.machine.resume()
            if host.honest and not host.running:
                host.start()
