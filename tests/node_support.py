"""Whole replicas over real stores, with messages carried by hand and virtual time: no sockets, no tasks."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import define, evolve, field

from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.certificates import certificate_verifies
from gridtokenx.consensus.config import KeySigner, KeyVerifier
from gridtokenx.consensus.epochs import Consensus
from gridtokenx.consensus.interface import Build, Note
from gridtokenx.consensus.messages import Propose, Vote, decode_message
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.ledger.genesis import Authority, Genesis
from gridtokenx.ledger.parameters import BY_NAME, Parameters
from gridtokenx.ledger.records import Roles, Zone
from gridtokenx.ledger.tariff_records import tariff
from gridtokenx.ledger.transaction import Transaction, decode_transaction, encode_payload, sign_transaction
from gridtokenx.node.chain import BlockRules, Chain, ChainBlock
from gridtokenx.node.epochs import certificate_holds
from gridtokenx.node.evidence import evidence_in
from gridtokenx.node.pool import Pool
from gridtokenx.node.recover import replay
from gridtokenx.node.replica import Channel, Replica
from gridtokenx.node.serve import answer_for
from gridtokenx.node.sync import MAX_ANSWER_BLOCKS, check_answer, decode_answer, within_epoch
from gridtokenx.store.database import Database
from gridtokenx.store.log import Log

START_MS = 1_745_204_400_000
BAHT = 1_000_000


def key(number: int) -> PrivateKey:
    return PrivateKey(number.to_bytes(32, "big"))


AUTHORITY_KEYS = tuple(key(100 + index) for index in range(8))
PUBLICS = [authority.public for authority in AUTHORITY_KEYS]
ISSUER, REGISTRAR, OPERATOR, TAX, UTILITY, TRADER, OTHER = (key(200 + index) for index in range(7))


def small_genesis(authorities: int = 5, zones: int = 2, **parameters: int) -> Genesis:
    """Two zones, a few funded accounts, default parameters."""
    defaults = Parameters(**{name: entry.default for name, entry in BY_NAME.items()})
    accounts = sorted((k.public, 1_000_000 * BAHT) for k in (ISSUER, REGISTRAR, TRADER, OTHER, AUTHORITY_KEYS[0]))
    return Genesis(
        name="test", salt="", genesis_ms=START_MS, market_start_ms=START_MS, market_rate=1,
        authorities=tuple(Authority(f"A{index}", AUTHORITY_KEYS[index].public) for index in range(authorities)),
        zones=tuple(Zone(f"Z{index}", 10_000, 100_000, OPERATOR.public, UTILITY.public) for index in range(zones)),
        corridors=(), tariffs=(tariff("residential", 5_798_200, 2_636_900),), holidays=(),
        roles=Roles((ISSUER.public,), (REGISTRAR.public,), OPERATOR.public, TAX.public),
        accounts=tuple(accounts), parameters=evolve(defaults, **parameters),
    )


def signed(genesis: Genesis, sender: PrivateKey, nonce: int, operations: list[list[object]], *, fee: int = 10_000,
           until: int = 1_000_000) -> bytes:
    payload = encode_payload(sender.public, nonce, until, fee, operations)
    return sign_transaction(genesis.chain_id, [sender], payload)


def transfer(genesis: Genesis, sender: PrivateKey, nonce: int, to: bytes, amount: int) -> bytes:
    return signed(genesis, sender, nonce, [[1, to, amount, b""]])


@define(eq=False)
class Member:
    """One authority's process: store, log, replica; `crash` drops everything unsynced."""

    genesis: Genesis
    index: int
    path: Path
    database: Database = field(init=False)
    log: Log = field(init=False)
    replica: Replica = field(init=False)
    chain: Chain = field(init=False)
    lost: bool = False
    barred: int = -1

    def start(self, now_ms: int) -> None:
        genesis = self.genesis
        if not (self.path / "state.lmdb").exists():
            header = genesis.header()
            Database.create(self.path, genesis.chain_id, genesis.canonical(), state=genesis.initial_state(),
                            pages=genesis.view().pages, header=header.encode(), header_hash=header.hash,
                            map_bytes=64 << 20).close()
        self.database = Database.open(self.path, genesis.chain_id, map_bytes=64 << 20)
        self.log = Log.open(self.path / "log", genesis.chain_id)
        parameters = genesis.parameters
        me = AUTHORITY_KEYS[self.index]
        rules = BlockRules(me.public, parameters.max_block_bytes, parameters.max_block_weight, 4096, 100)
        self.chain = Chain(genesis, self.database, genesis.books(), rules)
        start, recovered, _ = replay(self.chain, self.log.recovered, self.database)
        consensus = Consensus(
            me.public, KeySigner(me, genesis.chain_id),
            lambda config: KeyVerifier(config.authorities, genesis.chain_id), start, recovered,
            now_ms, START_MS + now_ms, lost=self.lost, barred=self.barred)
        self.replica = Replica(self.chain, Pool(), consensus, me, evidence_in(self.log.recovered))

    def crash(self) -> None:
        self.log._pending.clear()          # what was never synced is gone
        self.log._pending_bytes = 0
        self.chain.close()
        self.log.close()
        self.database.close()


@define(eq=False)
class Cluster:
    """Members joined by a network with a fixed delay; `down` ones hear and say nothing."""

    genesis: Genesis
    path: Path
    delay_ms: int = 5
    extra: int = 0
    """Nodes that are no authorities at first."""
    members: list[Member] = field(init=False)
    now_ms: int = 1000
    down: set[int] = field(factory=set)
    finals: dict[int, list[bytes]] = field(factory=dict)
    _queue: list[tuple[int, int, int, int, Channel, bytes]] = field(factory=list)
    _sequence: int = 0
    dropped: set[tuple[int, int]] = field(factory=set)
    notes: list[tuple[int, Note]] = field(factory=list)
    votes: dict[int, list[Vote | Propose]] = field(factory=dict)
    """What each member signed and sent, over all its restarts."""
    tamper: Callable[[int, int, Channel, bytes], bytes] | None = None
    """(sender, receiver, channel, frame) -> what arrives instead."""

    def __attrs_post_init__(self) -> None:
        self.members = [Member(self.genesis, index, self.path / str(index))
                        for index in range(len(self.genesis.authorities) + self.extra)]
        for member in self.members:
            member.start(self.now_ms)

    def submit(self, index: int, raws: list[bytes]) -> list[tuple[bytes, int, str]]:
        replica = self.members[index].replica
        replica.at(self.now_ms, START_MS + self.now_ms)
        answers = replica.submit(raws)
        self._carry_out(index)
        return answers

    def run(self, duration_ms: int) -> None:
        end = self.now_ms + duration_ms
        while True:
            deadlines = [(1 << 60 if member.replica.deadline_ms is None else member.replica.deadline_ms, member.index)
                         for member in self.members if member.index not in self.down]
            at = min([deadline for deadline, _ in deadlines] + ([self._queue[0][0]] if self._queue else []))
            if at > end:
                self.now_ms = end
                return
            self.now_ms = max(self.now_ms, at)
            while self._queue and self._queue[0][0] <= self.now_ms:
                _, _, sender, to, channel, frame = heapq.heappop(self._queue)
                if to not in self.down and sender not in self.down:
                    replica = self.members[to].replica
                    replica.at(self.now_ms, START_MS + self.now_ms)
                    replica.receive(AUTHORITY_KEYS[sender].public, channel, frame)
                    self._carry_out(to)
            for deadline, index in deadlines:
                if deadline <= self.now_ms:
                    replica = self.members[index].replica
                    replica.at(self.now_ms, START_MS + self.now_ms)
                    replica.tick()
                    self._carry_out(index)

    def _carry_out(self, index: int) -> None:
        member = self.members[index]
        while True:
            while member.replica.backlog:
                member.replica.verify_some(64)
            turn = member.replica.take_turn()
            for kind, payload in turn.log:
                member.log.append(int(kind), payload)
            if turn.must_sync:
                member.log.sync()
            for outgoing in turn.sends:
                targets = [PUBLICS.index(outgoing.to)] if outgoing.to is not None else [
                    other.index for other in self.members if other.index != index]
                for to in targets:
                    if (index, to) in self.dropped:
                        continue
                    self._sequence += 1
                    frame = outgoing.frame
                    if self.tamper is not None:
                        frame = self.tamper(index, to, outgoing.channel, frame)
                    heapq.heappush(self._queue, (self.now_ms + self.delay_ms, self._sequence, index, to,
                                                 outgoing.channel, frame))
                if outgoing.channel is Channel.VOTES:
                    message = decode_message(outgoing.frame)
                    if isinstance(message, Vote | Propose):
                        self.votes.setdefault(index, []).append(message)
            self.notes += [(index, note) for note in turn.notes]
            self.finals.setdefault(index, []).extend(block.digest for block in turn.finals)
            if turn.catch_up is not None:
                self._sync(index, tuple(map(PUBLICS.index, turn.catch_up)))
            if turn.barred is not None:
                member.lost, member.barred = False, turn.barred.epoch
            if not turn.jobs:
                return
            for job in turn.jobs:
                job.run()
                member.replica.job_done(job)

    def follow(self, index: int) -> None:
        """What a node that is no authority does every few seconds."""
        replica = self.members[index].replica
        replica.at(self.now_ms, START_MS + self.now_ms)
        self._sync(index, (0, 1))
        self._carry_out(index)

    def _sync(self, index: int, holders: tuple[int, ...]) -> None:
        """Catch-up by height from the first holder that is up, as the service does it."""
        chain = self.members[index].chain
        source = next(self.members[holder] for holder in holders if holder not in self.down)
        head = chain.head
        raw = answer_for(source.database, source.chain, head.header.height + 1, MAX_ANSWER_BLOCKS)
        consensus = self.members[index].replica.consensus
        answer = within_epoch(decode_answer(raw), consensus.epoch)
        check_answer(answer, head.header.height + 1, head.digest,
                     lambda certificate: certificate_holds(certificate, consensus.start.config))
        if answer.blocks:
            replica = self.members[index].replica
            done = replica.execute_final(answer.blocks)
            certificate = answer.blocks[-1].certificate or answer.certificate
            assert certificate is not None
            replica.synced(done, certificate)

    def checkpoint(self, index: int) -> None:
        member = self.members[index]
        blocks = member.chain.checkpoint_blocks()
        if blocks:
            member.database.checkpoint(blocks)
            member.chain.checkpoint_done(len(blocks))

    def crash(self, index: int) -> None:
        self.members[index].crash()
        self.down.add(index)

    def restart(self, index: int) -> None:
        self.members[index].start(self.now_ms)
        self.down.discard(index)

    def close(self) -> None:
        for member in self.members:
            if member.index not in self.down:
                member.crash()

    def heads(self) -> list[tuple[int, bytes]]:
        return [(member.chain.head.header.height, member.chain.head.header.state_root) for member in self.members
                if member.index not in self.down]

    def verify(self, certificate: object) -> bool:
        keys = tuple(authority.public for authority in self.genesis.authorities)
        return certificate_verifies(certificate, Authorities.of_epoch(keys, self.genesis.header().hash), 0,  # type: ignore[arg-type]
                                    KeyVerifier(keys, self.genesis.chain_id))


def leader_of(cluster: Cluster) -> int:
    core = cluster.members[0].replica.core
    assert core is not None
    return core.authorities.leader(core.view)


def let_lead(cluster: Cluster, bad: bytes) -> Member:
    """The leader of the present view puts `bad`, and nothing else, into its next block."""
    member = cluster.members[leader_of(cluster)]
    chain = member.chain
    honest = chain.build

    def build(effect: Build, candidates: Sequence[Transaction]) -> ChainBlock:
        chain.build = honest  # type: ignore[method-assign]
        empty = honest(effect, ())
        assert empty is not None
        transaction = decode_transaction(bad)
        header = empty.header.with_(transactions_root=merkle_root([transaction.id]))
        forged = chain.add(header.hash, header, (transaction,))
        forged.state, forged.result = empty.state, empty.result
        return forged

    chain.build = build  # type: ignore[method-assign]
    return member
