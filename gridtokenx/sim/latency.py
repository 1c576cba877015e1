"""Confirmation time on the model of CONSENSUS 8: no faults, 5 ms links, from submission to finality there."""

from __future__ import annotations

from attrs import frozen

from gridtokenx.consensus.config import HeldBlock
from gridtokenx.sim.faults import SECOND_US, Plan
from gridtokenx.sim.network import Conditions
from gridtokenx.sim.setting import Clock, Speed
from gridtokenx.sim.simulation import Simulation


@frozen
class Latency:
    """Milliseconds from submission at a node to finality at that node."""

    p50_ms: float
    p99_ms: float
    transactions: int
    blocks: int


def measure(n: int = 5, dead: int = 0, delay_us: int = 5_000, per_second: int = 4, seconds: int = 60,
            sync_us: int = 500) -> Latency:
    """`dead` authorities never start. Transactions come one by one, at random times and live nodes."""
    plan = Plan(n=n, conditions=Conditions(delay_us=delay_us), adversaries=dict.fromkeys(range(n - dead, n), "silent"),
                clocks=[Clock() for _ in range(n)], speeds=[Speed() for _ in range(n)], sync_us=[sync_us] * n,
                faults_until_us=(seconds + 6) * SECOND_US, mean_gap_us=SECOND_US, submissions_per_second=per_second)
    simulation = Simulation.build(f"latency {n} {dead}", plan)
    times_us: list[int] = []
    asked: dict[bytes, tuple[int, int]] = {}

    def submit(index: int, name: bytes) -> None:
        asked[name] = (index, simulation.world.now_us)
        simulation.nodes[index].submit(name)

    def final(index: int, block: HeldBlock) -> None:
        for name in block.transaction_ids:
            if asked[name][0] == index:
                times_us.append(simulation.world.now_us - asked[name][1])

    simulation.setting.on_final = final
    for node in simulation.nodes:
        node.start()
    client = simulation.world.stream("client")
    at_us, number = 5 * SECOND_US, 0                       # the dead are known to be silent by then
    while at_us < (seconds + 5) * SECOND_US:
        name = number.to_bytes(32, "big")
        simulation.world.at(at_us, submit, client.randrange(n - dead), name)
        number += 1
        at_us += int(client.expovariate(per_second) * SECOND_US) + 1
    simulation.world.run_until((seconds + 7) * SECOND_US)
    times_us.sort()
    return Latency(times_us[len(times_us) // 2] / 1000, times_us[len(times_us) * 99 // 100] / 1000, len(times_us),
                   len(simulation.checker.chain))
