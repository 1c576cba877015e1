"""Deliberate bugs in storage, recovery and the node around consensus, for the simulator of whole nodes alone.

Each is switched on by putting something else in the place of one function of production code, which carries no
switches itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import evolve

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger import funds
from gridtokenx.ledger import run as ledger_run
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.operations import Transfer
from gridtokenx.ledger.state import StateView
from gridtokenx.ledger.transaction import decode_transaction
from gridtokenx.node import assembly, chain, service
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.intake import Intake
from gridtokenx.node.lost_log import OpenedLog, open_log
from gridtokenx.node.records import LogKind
from gridtokenx.node.recover import replay
from gridtokenx.node.replica import Replica, Turn
from gridtokenx.node.service import Service
from gridtokenx.sim.bugs import Bug
from gridtokenx.sim.whole import host
from gridtokenx.sim.whole.lmdb_model import ModelledFile, Version
from gridtokenx.sim.whole.run import run_seed
from gridtokenx.store import database, segment
from gridtokenx.store.checkpoint import FinalizedBlock, write_blocks
from gridtokenx.store.database import Database
from gridtokenx.store.errors import LogFailed
from gridtokenx.store.log import Log
from gridtokenx.store.simulated_disk import SimulatedDisk, _SimulatedFile

Records = Iterable[tuple[int, bytes]]

_carry_out, _epoch_began, _take_turn = Service._carry_out, Service._epoch_began, Replica.take_turn
_commit, _sync, _check = ModelledFile.commit, Log.sync, Intake.check
_made, _credit = Chain.__init__, funds.credit


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _always(*_: Any) -> bool:
    return True


# ---------------------------------------------------------------- what leaves, and when


async def _send_then_sync(node: Service, turn: Turn) -> None:
    sends, turn.sends = turn.sends, []
    for outgoing in sends:
        await node._dispatch(outgoing)
    await _carry_out(node, turn)


async def _tell_then_sync(node: Service, turn: Turn) -> None:
    await node._finals(turn)
    turn.finals = []
    await _carry_out(node, turn)


def _bodies_later(replica: Replica) -> Turn:
    """As if bodies had a log of their own that is synced a turn later."""
    turn = _take_turn(replica)
    late = [record for record in turn.log if record[0] == LogKind.BLOCK]
    turn.log = [*getattr(replica, "late", []), *(record for record in turn.log if record[0] != LogKind.BLOCK)]
    replica.late = late  # type: ignore[attr-defined]
    return turn


def _leaver_waits(node: Service) -> None:
    wanted = node._want_sync.is_set()
    _epoch_began(node)
    if not wanted:
        node._want_sync = type(node._want_sync)()


# ---------------------------------------------------------------- the log and the disk


def _failure_ignored(log: Log) -> int:
    try:
        return _sync(log)
    except LogFailed:
        log._failure = None
        return log._durable


def _same_checksum(*_: Any) -> bytes:
    return bytes(16)


def _prune_everything(node: Service) -> None:
    node._log_file.prune(node._log_file.end_position)


def _loss_not_noticed(*arguments: Any, **options: Any) -> OpenedLog:
    return OpenedLog(open_log(*arguments, **options).log, False, -1)


# ---------------------------------------------------------------- checkpoint and replay


def _commit_unsynced(file: ModelledFile, version: Version) -> None:
    file.synced = False
    _commit(file, version)


def _without_last_state(transaction: Any, tables: Any, blocks: Sequence[FinalizedBlock]) -> None:
    write_blocks(transaction, tables, blocks if blocks[-1].height == 0 else [
        *blocks[:-1], evolve(blocks[-1], changes={})])


def _kept_after_checkpoint(of: Chain, blocks: int) -> None:
    """The blocks that the store holds stay where the next checkpoint takes its from."""


def _one_block_back(self: Chain, *arguments: Any) -> None:
    """The state of the checkpoint is taken for that of the block before it: the log's next block is applied twice."""
    _made(self, *arguments)
    height = self.base.header.height
    raw = self.database.header(height - 1)
    if raw is not None and height > 1:
        header = decode_header(raw)
        self.base = self.head = ChainBlock(header.hash, header, (), logged=True,
                                           state=StateView(self._snapshot, header))
        self._blocks = {header.hash: self.base}
        self._final_digests = {header.hash}


def _replayed(keep: Any) -> Any:
    """`replay` of those records that `keep` lets through."""
    def run(of: Chain, records: Records, store: Database) -> Any:
        return replay(of, [record for record in records if keep(record)], store)
    return run


def _without_votes(of: Chain, records: Records, store: Database) -> Any:
    start, recovered, final = replay(of, records, store)
    return start, evolve(recovered, votes=()), final


# ---------------------------------------------------------------- execution and what comes from others


def _believed(of: Chain, block: ChainBlock) -> None:
    """Another's block is not executed: its state is taken to be its parent's."""
    parent = of.block(block.header.parent)
    if parent is not None and parent.state is not None and not block.executed:
        block.state, block.result = StateView(parent.state, block.header), parent.result


def _known_by_payload(intake: Intake, raws: Iterable[bytes], *rest: Any, **options: Any) -> list[Any]:
    """The cache of good signatures goes by what is signed, not by the full bytes."""
    wanted = list(raws)
    checked = _check(intake, wanted, *rest, **options)
    for index, (raw, found) in enumerate(zip(wanted, checked, strict=True)):
        try:
            transaction = decode_transaction(raw)
        except Exception:  # noqa: BLE001 - the bug is about well-formed ones
            continue
        name = b"payload" + digest(Domain.TRANSACTION, transaction.payload)
        if not isinstance(found, Exception):
            intake._verified[name] = None
        elif name in intake._verified:
            checked[index] = transaction
    return checked


def _credit_twice(transfer: Transfer, block: Any, sender: bytes) -> tuple[Any, ...]:
    session = block.context.session
    funds.debit(session, sender, transfer.amount_uthb, "the transfer")
    _credit(session, transfer.to, 2 * transfer.amount_uthb)
    return ()


def _bug(name: str, owner: Any, attribute: str, replacement: Any, *more: tuple[Any, str, Any]) -> Bug:
    return Bug(name, (owner, attribute), replacement, run_seed, True, more)


BUGS: tuple[Bug, ...] = (
    _bug("node: sends do not wait for the sync", Service, "_carry_out", _send_then_sync),
    _bug("node: finality told before it is durable", Service, "_carry_out", _tell_then_sync),
    _bug("two logs: bodies synced later than votes", Replica, "take_turn", _bodies_later),
    _bug("fsync left out", _SimulatedFile, "sync", _nothing),
    _bug("directory entries not synced", SimulatedDisk, "sync_directory", _nothing),
    _bug("a refused write is taken for a good one", Log, "sync", _failure_ignored),
    _bug("torn records accepted", segment, "_checksum", _same_checksum),
    _bug("log pruned up to its end", Service, "_prune_log", _prune_everything),
    _bug("a lost log is not noticed", host, "open_log", _loss_not_noticed),
    _bug("the bar on signing is forgotten at restart", host, "leave_mark", _nothing),
    _bug("database commits not synced", ModelledFile, "commit", _commit_unsynced),
    _bug("a checkpoint lacks its last block's state", database, "write_blocks", _without_last_state),
    _bug("checkpointed blocks are checkpointed again", Chain, "checkpoint_done", _kept_after_checkpoint),
    _bug("state applied twice", Chain, "__init__", _one_block_back),
    _bug("the log is not replayed", assembly, "replay", _replayed(lambda _: False)),
    _bug("bodies are not replayed", assembly, "replay", _replayed(lambda record: record[0] != LogKind.BLOCK)),
    _bug("own votes are not replayed", assembly, "replay", _without_votes),
    _bug("blocks of others are not executed", Chain, "execute", _believed),
    _bug("roots are not compared", chain, "_difference", lambda *_: ""),
    _bug("bodies are not compared with their headers", Chain, "matches_root", _always),
    _bug("certificates of sync are not verified", service, "certificate_holds", _always),
    _bug("good signatures remembered by what is signed", Intake, "check", _known_by_payload),
    _bug("a transfer credits twice, conservation unchecked", Transfer, "apply", _credit_twice,
         (ledger_run, "check_changes", _nothing)),
    _bug("sync does not stop at the end of an epoch", service, "within_epoch", lambda answer, _: answer),
    _bug("who left the list does not ask for blocks", Service, "_epoch_began", _leaver_waits),
)
