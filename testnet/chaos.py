"""The testnet's processes under load and faults: `scripts/chaos.sh --faults 100 --seed 1`.

Real nodes, each of whose dials to another goes through a proxy of its own. One node at a time is killed, paused, cut
off, silenced, slowed down, robbed of its disk space or of its whole data directory; then it must be back with the
others before the next. A node without its data signs nothing until the next epoch: epochs are short here, and the next
fault waits until a block of that node is final, since with one more node away there is no quorum. Programs that only
listen note every block that any node ever called final. At the end all that `--check` checks must hold, and every one
of those blocks must be on every node.
"""

from __future__ import annotations

import random
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import trio
from attrs import define, evolve, field, frozen

from gridtokenx.client import ClientError, connect
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.network.identity import with_peer_id
from testnet.facts import Facts, Fault
from testnet.keys import testnet_key
from testnet.launcher import Launcher
from testnet.layout import AUTHORITIES, FOLDER, Peer, Run
from testnet.processes import Child
from testnet.proxy import Proxy, State
from testnet.report import carry_out

PROXY_PORTS = 20            # above the nodes' own
NOWHERE = 19                # a port on which nobody listens: what nodes tell of themselves leads around no proxy
BACK_S = 300.0
"""Ample: on a computer with other work a start alone takes a minute."""
SIGNS_S = 600.0
"""The rest of an epoch, and the turns after it, however slowly blocks come."""
EPOCH_BLOCKS = 100
NEAR_BLOCKS = 20
REST_S = (0.3, 1.5)
BLOCKS_AT_ONCE = 100
ASKED_FOR = 50
FILE_BYTES = 16 << 10
KINDS = {"kill": 25, "pause": 18, "cut": 18, "silence": 14, "slow": 14, "one link": 6, "disk full": 4, "delete": 1}
"""How often of a hundred; in a run of ten or more a data directory is deleted once besides."""


@frozen
class Step:
    """One fault: what, to whom, for how long."""

    kind: str
    victim: str
    seconds: float
    other: str = ""


def plan(faults: int, seed: int, names: Sequence[str], only: Sequence[str] = ()) -> list[Step]:
    """The same for the same seed; of the kinds in `only`, if there are any."""
    rng = random.Random(seed)
    weights = {kind: weight for kind, weight in KINDS.items() if not only or kind in only}
    deleted = faults * 2 // 3 if faults >= 10 and "delete" in weights else -1
    steps = []
    for number in range(faults):
        kind = "delete" if number == deleted else rng.choices(list(weights), list(weights.values()))[0]
        victim, other = rng.sample(list(names), 2)
        steps.append(Step(kind, victim, round(rng.choice((rng.uniform(0.2, 2), rng.uniform(1, 8))), 2), other))
    return steps


@define
class ProxiedRun(Run):
    """A run with short epochs whose authorities reach one another through proxies alone."""

    def new_genesis(self) -> Genesis:
        genesis = super().new_genesis()
        return evolve(genesis, parameters=evolve(genesis.parameters, epoch_length=EPOCH_BLOCKS))

    def proxies(self) -> dict[tuple[str, str], Proxy]:
        """By who dials and who is dialled."""
        authorities = self.authorities
        return {(one.name, other.name): Proxy(self._port(at, to), other.port)
                for at, one in enumerate(authorities) for to, other in enumerate(authorities) if at != to}

    def _port(self, at: int, to: int) -> int:
        return self.port_base + PROXY_PORTS + 5 * at + to

    def node(self, peer: Peer) -> Child:
        child = super().node(peer)
        at = self.peers.index(peer)
        known = [with_peer_id(f"/ip4/127.0.0.1/tcp/{self._port(at, to)}", testnet_key(other.name).public)
                 for to, other in enumerate(self.authorities) if other != peer]
        child.environment = {
            **child.environment, "GRIDTOKENX_NETWORK__BOOTSTRAP": ",".join(known),
            "GRIDTOKENX_NETWORK__ANNOUNCE": f"/ip4/127.0.0.1/tcp/{self.port_base + NOWHERE}",
            "GRIDTOKENX_NETWORK__PEER_EXCHANGE": "false"}
        return child


@define
class Witness:
    """What nodes called final, as programs heard it that were connected to them."""

    hashes: dict[int, bytes] = field(factory=dict)
    proposed: dict[str, int] = field(factory=dict)
    """The last final block of each authority, by its name in the genesis."""
    transactions: dict[bytes, int] = field(factory=dict)
    contradictions: list[str] = field(factory=list)
    longest_gap_s: float = 0.0
    gap_s: float = 0.0
    """The longest since somebody set this to 0."""
    _top: int = 0
    _told_s: float | None = None

    def told(self, name: str, height: int, block_hash: bytes, proposer: str, ids: Sequence[bytes],
             now_s: float) -> None:
        self.proposed[proposer] = max(height, self.proposed.get(proposer, 0))
        known = self.hashes.setdefault(height, block_hash)
        if known != block_hash:
            self.contradictions.append(f"height {height}: {name} calls {block_hash.hex()[:16]} final, another "
                                       f"{known.hex()[:16]}")
        for identity in ids:
            if self.transactions.setdefault(identity, height) != height:
                self.contradictions.append(f"transaction {identity.hex()[:16]} is final in two blocks")
        if height > self._top:
            if self._told_s is not None:
                self.gap_s = max(self.gap_s, now_s - self._told_s)
                self.longest_gap_s = max(self.longest_gap_s, self.gap_s)
            self._top, self._told_s = height, now_s


@define(eq=False)
class Chaos(Launcher):
    """A launcher whose plan is a list of faults: `steps` are carried out one after another, then the run ends."""

    steps: list[Step] = field(factory=list)
    done: Counter[str] = field(factory=Counter)
    witness: Witness = field(factory=Witness)
    late: list[str] = field(factory=list)
    _proxies: dict[tuple[str, str], Proxy] = field(factory=dict)

    async def run(self) -> Facts:
        assert isinstance(self.layout, ProxiedRun)
        self._proxies = self.layout.proxies()
        async with trio.open_nursery() as nursery:
            for proxy in self._proxies.values():
                await nursery.start(proxy.run)
            facts = await super().run()
            nursery.cancel_scope.cancel()
        return facts

    async def _start_trading(self, nursery: trio.Nursery) -> None:
        for peer in self.layout.authorities:
            nursery.start_soon(self._listen, peer)
        await super()._start_trading(nursery)
        nursery.start_soon(self._all_faults)

    async def _listen(self, peer: Peer) -> None:
        while True:
            try:
                async with connect([peer.address], timeout_s=3) as client:
                    async for block in client.blocks():
                        self.witness.told(peer.name, block.height, block.hash, block.proposer, block.ids,
                                          trio.current_time())
            except ClientError:
                await trio.sleep(0.3)

    # ------------------------------------------------------------ faults

    async def _all_faults(self) -> None:
        rng = random.Random(len(self.steps))
        for number, step in enumerate(self.steps, 1):
            since, self.witness.gap_s = trio.current_time(), 0.0
            await self._fault(step)
            self.done[step.kind] += 1
            back = await self._back(step)
            told = f"back after {trio.current_time() - since:5.1f} s" if back else "NOT BACK"
            self._say(f"{number:4} {step.kind:9} {step.victim:5} {step.seconds:5.2f} s, {told}; longest gap in "
                      f"finality {self.witness.gap_s:.2f} s")
            await trio.sleep(rng.uniform(*REST_S))
        self._stop.set()

    async def _fault(self, step: Step) -> None:
        child = self.children[step.victim]
        match step.kind:
            case "kill" | "delete":
                child.kill()
                if step.kind == "delete":
                    shutil.rmtree(self.layout.folder / "data" / step.victim)
                await trio.sleep(step.seconds)
                child.start()
            case "pause":
                child.signal(signal.SIGSTOP)
                await trio.sleep(step.seconds)
                child.signal(signal.SIGCONT)
            case "cut" | "silence" | "slow":
                await self._links(step, [pair for pair in self._proxies if step.victim in pair])
            case "one link":
                await self._links(step, [(step.victim, step.other), (step.other, step.victim)])
            case "disk full":
                await self._fill_disk(child, step)
            case _:
                raise ValueError(step.kind)

    async def _links(self, step: Step, pairs: Sequence[tuple[str, str]]) -> None:
        state = {"cut": State.CUT, "silence": State.SILENT, "slow": State.SLOW}.get(step.kind, State.SILENT)
        for pair in pairs:
            self._proxies[pair].become(state, 0.05 * step.seconds)
        await trio.sleep(step.seconds)
        for pair in pairs:
            self._proxies[pair].become(State.OPEN)

    async def _fill_disk(self, child: Child, step: Step) -> None:
        """No file of the node may grow any more: writes fail as on a full disk, and the node must stop."""
        assert child.pid is not None
        child.expected_down = True
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        if not await child.wait(BACK_S):
            self.troubles.append(f"{step.victim} went on for {BACK_S:.0f} s without being able to write")
            child.kill()
        elif child.exit_code != 2:
            self.troubles.append(f"{step.victim} ended with {child.exit_code} when it could not write, not with 2")
        await trio.sleep(step.seconds)
        child.start()

    async def _back(self, step: Step) -> bool:
        """Waits until the victim runs and is with the others again, and signs if it could not for a while."""
        with_others = await self._with_others(step)
        if step.kind != "delete" or not with_others:
            return with_others
        name, before = AUTHORITIES[step.victim], max(self.witness.hashes, default=0)
        with trio.move_on_after(SIGNS_S):
            while self.witness.proposed.get(name, 0) <= before:
                await trio.sleep(0.05)
            return True
        self.late.append(f"no block of {step.victim} became final in {SIGNS_S:.0f} s after it had lost its log")
        return False

    async def _with_others(self, step: Step) -> bool:
        view = self.nodes[step.victim]
        view.status = None                      # what it said before the fault does not count
        with trio.move_on_after(BACK_S):
            while True:
                top = max((other.height for name, other in self.nodes.items() if name != step.victim), default=0)
                if view.status is not None and view.height >= top - NEAR_BLOCKS and view.status["peers"] >= len(
                        self.layout.authorities) - 1:
                    return True
                await trio.sleep(0.05)
        self.late.append(f"{step.victim} was not back {BACK_S:.0f} s after {step.kind}")
        return False

    # ------------------------------------------------------------ the end

    async def _take_stock(self) -> Facts:
        facts = await super()._take_stock()
        missing: list[str] = []
        hashes = dict(self.witness.hashes)          # blocks go on being made while the nodes are asked
        for peer in self.layout.authorities:
            try:
                missing += await self._missing(peer, hashes)
            except ClientError as error:
                missing.append(f"{peer.name} gave no account of itself: {error}")
        seen = len(self.witness.transactions)
        problems = [*self.witness.contradictions, *missing]
        kept = Fault(name="all that was called final is on every node", holds=not problems and seen > 0,
                     text="; ".join(problems[:5]) or f"{len(self.witness.hashes):,} blocks with {seen:,} transactions")
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.done.items()))
        back = Fault(name="every node was back after every fault", holds=not self.late and bool(self.done),
                     text="; ".join(self.late[:5]) or f"{self.done.total()} faults ({kinds}); longest gap in finality "
                                                      f"{self.witness.longest_gap_s:.2f} s")
        return evolve(facts, faults=[*facts.faults, kept, back])

    async def _missing(self, peer: Peer, hashes: dict[int, bytes]) -> list[str]:
        """Which of the blocks and transactions that anybody heard of this node does not have."""
        found: dict[int, bytes] = {}
        lost: list[str] = []
        top = max(hashes, default=0)
        async with connect([peer.address]) as client:
            with trio.move_on_after(BACK_S):
                while (await client.status())["height"] < top:
                    await trio.sleep(0.1)
            for first in range(min(hashes, default=0), top + 1, BLOCKS_AT_ONCE):
                for block in await client.past_blocks(first, BLOCKS_AT_ONCE):
                    found[block.height] = block.hash
            ids = sorted(identity for identity, height in self.witness.transactions.items() if height <= top)
            for identity in ids[::max(1, len(ids) // ASKED_FOR)]:
                [state] = await client.wait([identity], 0)
                if state["state"] != "final" or state["height"] != self.witness.transactions[identity]:
                    lost.append(f"{peer.name}: transaction {identity.hex()[:16]} is {state['state']}")
        return lost + [f"{peer.name}: height {height}" for height, block_hash in hashes.items()
                       if found.get(height) != block_hash]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--faults", type=click.IntRange(1), default=100, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the faults and the load.")
@click.option("--only", "only", type=click.Choice(list(KINDS)), multiple=True, help="Only faults of these kinds.")
@click.option("--households", type=click.IntRange(2, 200), default=40, show_default=True)
@click.option("--port-base", type=click.IntRange(1024, 65_000), default=9501, show_default=True,
              help="Nodes and proxies listen on this port of 127.0.0.1 and the 50 after it.")
@click.option("--run-dir", type=click.Path(file_okay=False, path_type=Path), default=FOLDER / "chaos",
              help="Keys, logs and data.  [default: testnet/chaos]")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object at the end and nothing else.")
def main(faults: int, seed: int, only: tuple[str, ...], households: int, port_base: int, run_dir: Path,
         json_output: bool) -> None:
    """Run the testnet under load and faults, and check that nothing was lost."""

    def launcher() -> Launcher:
        layout = ProxiedRun(run_dir.resolve(), port_base)
        layout.prepare(fresh=True)
        steps = plan(faults, seed, [peer.name for peer in layout.authorities], only)
        return Chaos(layout, households, seed, None, [], quiet=json_output, steps=steps)
    carry_out("chaos", launcher, check=True, json_output=json_output)


if __name__ == "__main__":
    main()
