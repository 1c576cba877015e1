"""A bilateral trade: `[23, seller's meter, buyer's meter, window, price_mthb_kwh, delivered_wh, [corridor, ...],
until_height, salt, [[key, signature], ...]]` (MARKET 1).
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.market.agreements import Agreement, agree
from gridtokenx.market.deferred import Deferred

MOST_CORRIDORS = 6
MOST_SIGNATURES = 16
SALT_MOST = 16
_NAMES = ("sell_meter", "buy_meter", "window", "price_mthb_kwh", "delivered_wh", "path", "until_height", "salt",
          "signatures")
_U32 = (1 << 32) - 1


@frozen
class BilateralTrade:
    """Sent by one owner, with the other's signatures under the terms (`market.agreements`).

    The receipt's data: trade id, delivered Wh, injected Wh.
    """

    terms: Agreement
    signatures: tuple[tuple[bytes, bytes], ...] = ()

    KIND: ClassVar[int] = 23
    NAME: ClassVar[str] = "bilateral trade"
    WEIGHT: ClassVar[int] = 170
    IS_ORDER: ClassVar[bool] = True

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> BilateralTrade:
        check_count(fields, *_NAMES)
        path, salt, signatures = fields[5], fields[7], fields[8]
        if type(path) is not tuple or len(path) > MOST_CORRIDORS:
            raise Failed(Code.BAD_FIELDS, f"path must be a list of at most {MOST_CORRIDORS} corridors")
        if type(salt) is not bytes or len(salt) > SALT_MOST:
            raise Failed(Code.BAD_FIELDS, f"salt must be at most {SALT_MOST} bytes")
        if type(signatures) is not tuple or len(signatures) > MOST_SIGNATURES or not all(map(_signature, signatures)):
            raise Failed(Code.BAD_FIELDS, f"signatures must be at most {MOST_SIGNATURES} pairs of key and signature")
        terms = Agreement(
            integer("sell_meter", fields[0], 0, _U32), integer("buy_meter", fields[1], 0, _U32),
            integer("window", fields[2], 0, MAX_WINDOW), integer("price_mthb_kwh", fields[3]),
            integer("delivered_wh", fields[4]), tuple(integer("corridor", number, 0, 255) for number in path),
            integer("until_height", fields[6]), salt)
        return cls(terms, signatures)

    def fields(self) -> list[Any]:
        t = self.terms
        return [self.KIND, t.sell_meter, t.buy_meter, t.window, t.price_mthb_kwh, t.delivered_wh, list(t.path),
                t.until_height, t.salt, [list(pair) for pair in self.signatures]]

    def apply(self, block: Block, sender: bytes) -> Deferred:
        return agree(block.desk, sender, self.terms, self.signatures)


def _signature(pair: Any) -> bool:
    return (type(pair) is tuple and len(pair) == 2 and type(pair[0]) is bytes and len(pair[0]) == PUBLIC_KEY_BYTES
            and type(pair[1]) is bytes and len(pair[1]) == SIGNATURE_BYTES)
