"""A light but real load: transfers, deposits, orders; participants and meters registered; authorities that come and go.

Each client has one account and one transaction under way. It asks any node that is up, waits, and offers the same
transaction again until it is final: then the receipt's place is known, and the next one follows.
"""

from __future__ import annotations

from random import Random

import trio
from attrs import define, field

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.errors import GridTokenXError
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger.approvals import approve
from gridtokenx.ledger.operations import (
    ActivateAuthority,
    Deposit,
    Operation,
    PlaceOrder,
    RegisterAuthority,
    RegisterMeter,
    RegisterParticipant,
    RevokeAuthority,
    Transfer,
    Withdraw,
)
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.transaction import encode_payload, sign_transaction
from gridtokenx.market.clock import window_at
from gridtokenx.market.orders import Side
from gridtokenx.sim.toy import GENESIS_MS
from gridtokenx.sim.whole.chain import ISSUER, REGISTRAR, THB, TRADERS, authority_key, key_of
from gridtokenx.sim.whole.host import Host, Setting

FAR = 1 << 40
FEE_UTHB = 64_000
ASK_S = 1.0
AGAIN_S = 1.5
LOOK_S = 0.05
REFUSALS = 3
HOPELESS = 6
PASSING = {0, Code.NOT_READY, Code.POOL_FULL, Code.DUPLICATE_TRANSACTION, Code.WRONG_NONCE}


@define(eq=False)
class Client:
    """`next_operations` makes the next transaction's; the run ends its work by `enough`."""

    setting: Setting
    key: PrivateKey
    name: str
    mean_gap_s: float
    random: Random = field(init=False)
    nonce: int = 0
    busy: bool = False
    enough: bool = False
    submitted: int = 0
    refused: int = 0
    accepted: bool = False

    def __attrs_post_init__(self) -> None:
        self.random = self.setting.world.stream(f"client {self.name}")

    async def work(self) -> None:
        while not self.enough:
            await trio.sleep(self.random.expovariate(1 / self.mean_gap_s))
            if self.enough:
                return
            operations = self.next_operations()
            if not operations:
                continue
            self.busy = True
            await self._until_final([operation.fields() for operation in operations])
            self.busy = False

    def next_operations(self) -> list[Operation]:
        raise NotImplementedError

    async def _until_final(self, operations: list[list[object]]) -> None:
        checker = self.setting.checker
        payload = encode_payload(self.key.public, self.nonce, FAR, FEE_UTHB, operations)
        raw = sign_transaction(self.setting.genesis.chain_id, [self.key], payload)
        name = digest(Domain.TRANSACTION, raw)
        self.nonce += 1
        self.submitted += 1
        self.accepted, refusals = False, 0
        while name not in checker.final_transactions:
            if not self.accepted and refusals >= REFUSALS:
                self.nonce -= 1             # nobody has it
                return
            if refusals >= HOPELESS:        # accepted once, lost with a crash, and now it does not fit any more
                self.enough = True
                return
            up = [host for host in self.setting.hosts
                  if host.honest and host.service is not None and not host.machine.dead and not host.machine.paused]
            if up:
                refusals += await self._ask(self.random.choice(up), raw)
            with trio.move_on_after(AGAIN_S):
                while name not in checker.final_transactions:
                    await trio.sleep(LOOK_S)

    async def _ask(self, host: Host, raw: bytes) -> bool:
        """True iff the node refused for a reason that will not pass by itself."""
        service = host.service
        assert service is not None
        code, message = int(Code.NOT_READY), "no answer"
        with trio.move_on_after(ASK_S) as waited:
            try:
                ((_, code, message),) = await service.submit([raw])
            except GridTokenXError as error:
                message = str(error)
        self.accepted |= not code or waited.cancelled_caught
        if code:
            self.refused += 1
            self.setting.world.trace(f"client {self.name}: {host.index} says {code}, {message}")
        return code not in PASSING


class Trader(Client):
    """Sends money to the others, and places orders once its meter is registered."""

    meter = 0
    ready = False

    def next_operations(self) -> list[Operation]:
        if self.ready and self.random.random() < 0.5:
            side = Side.SELL if self.meter % 2 else Side.BUY
            window = window_at(GENESIS_MS) + 4 + self.random.randrange(2)
            price = self.random.randrange(220, 340) * 10
            return [PlaceOrder(self.meter, window, side, price, self.random.randrange(1, 50) * 100)]
        other = self.random.choice([key for key in TRADERS if key is not self.key])
        return [Transfer(other.public, self.random.randrange(1, 1_000) * THB // 10, b"")]


class Issuer(Client):
    """Makes money, and now and then takes some of its own out again."""

    def next_operations(self) -> list[Operation]:
        if self.random.random() < 0.3:
            return [Withdraw(self.random.randrange(1, 100) * THB, b"")]
        return [Deposit(self.random.choice(TRADERS).public, self.random.randrange(1, 100) * THB)]


class Registrar(Client):
    """Registers traders and their meters first; then sees to it that the list of authorities changes."""

    traders: list[Trader]
    changes: list[tuple[str, int]]            # ("join" or "leave", number of the authority)
    step = 0

    def next_operations(self) -> list[Operation]:
        self.step += 1
        if self.step == 1:
            return [RegisterParticipant(key.public, f"L-{number}", Role.PROSUMER, number % 2, 2 * GENESIS_MS, 10**12)
                    for number, key in enumerate(TRADERS)]
        if self.step == 2:
            return [RegisterMeter(number + 1, key_of(f"meter {number}").public, number % 2, Network.PEA, Source.SOLAR,
                                  0, 40_000, 40_000) for number in range(len(TRADERS))]
        for number, trader in enumerate(self.traders):
            trader.meter, trader.ready = number + 1, True
        return self._change()

    def _change(self) -> list[Operation]:
        if not self.changes:
            return []
        kind, number = self.changes.pop(0)
        epoch = max(self.setting.lists.known)
        key, height = authority_key(number), len(self.setting.checker.chain)
        chain_id = self.setting.genesis.chain_id
        agreeing = [authority_key(member) for member in self.setting.lists.members(epoch)]

        def approvals(operation: int, name: str = "") -> tuple[tuple[bytes, bytes], ...]:
            return tuple(sorted((signer.public, approve(signer, chain_id, operation, epoch, key.public, name))
                                for signer in agreeing))
        if kind == "leave":
            return [RevokeAuthority(epoch, key.public, approvals(RevokeAuthority.KIND))]
        name = f"A{number}"
        return [RegisterAuthority(epoch, name, key.public, approvals(RegisterAuthority.KIND, name)),
                ActivateAuthority.signed(key, chain_id, epoch, 1, height, height, 0)]


def clients_of(setting: Setting, mean_gap_s: float, changes: list[tuple[str, int]]) -> list[Client]:
    traders = [Trader(setting, key, f"trader {number}", mean_gap_s) for number, key in enumerate(TRADERS)]
    registrar = Registrar(setting, REGISTRAR, "registrar", 0.5)
    registrar.traders, registrar.changes = traders, changes
    return [*traders, Issuer(setting, ISSUER, "issuer", 2 * mean_gap_s), registrar]
