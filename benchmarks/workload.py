"""The load of the throughput benchmarks: a hundred traders with a meter each, orders and transfers.

Three in four transactions place an order (in 16 windows and all zones, both sides, some of them match), the others
transfer money.
"""

from __future__ import annotations

import random

from gridtokenx.client import Account
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.operations import Operation, PlaceOrder, RegisterMeter, RegisterParticipant, Transfer
from gridtokenx.market.orders import Force, Side
from testnet.keys import testnet_key

TRADERS = 100
FOREVER = 1 << 40
FEE_UTHB = 100_000
FIRST_WINDOW_AHEAD = 8
WINDOWS = 16
MONEY_UTHB = 10**13
CREDIT_UTHB = 10**12
POWER_W = 100_000_000


def traders() -> list[PrivateKey]:
    return [testnet_key(f"bench {number}") for number in range(TRADERS)]


def licences(zones: int, expires_ms: int) -> list[Operation]:
    """One per trader; `expires_ms` is market time."""
    return [RegisterParticipant(key.public, f"bench {number}", Role.PROSUMER, number % zones, expires_ms, CREDIT_UTHB)
            for number, key in enumerate(traders())]


def meters(participants: list[int], zones: int) -> list[Operation]:
    """One per participant, by their ids."""
    return [RegisterMeter(participant, testnet_key(f"bench meter {number}").public, number % zones, Network.PEA,
                          Source.SOLAR, 0, POWER_W, POWER_W) for number, participant in enumerate(participants)]


ORDERS = 0.75


def signed_load(genesis: Genesis, meters: list[int], window: int, count: int, orders: float = ORDERS) -> list[bytes]:
    """`count` transactions of all traders in turn, in nonce order; that share of them places orders."""
    draw = random.Random(7)
    accounts = [Account(key, genesis.chain_id, 0) for key in traders()]
    load = []
    for number in range(count):
        at = number % TRADERS
        if draw.random() < orders:
            operation: Operation = PlaceOrder(
                meters[at], window + FIRST_WINDOW_AHEAD + draw.randrange(WINDOWS), Side(draw.randrange(2)),
                10 * draw.randrange(380, 520), 100 * draw.randrange(1, 50), Force.GOOD_TILL_GATE, 0)
        else:
            operation = Transfer(accounts[draw.randrange(TRADERS)].address, draw.randrange(1, 1000))
        load.append(accounts[at].sign([operation], valid_until_height=FOREVER, fee_uthb=FEE_UTHB).raw)
    return load
