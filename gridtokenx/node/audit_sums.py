"""What an auditor adds up without the ledger's help: money, energy and certificates that came and went, and are there.

Money and certificates are counted block by block from transactions and receipts as the audit derives them, GT from the
balances of zones and windows, whose records leave state; then all is compared with the totals in state and with the
sums over all accounts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from gridtokenx.errors import InvariantError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.certificate_conservation import audit_certificates
from gridtokenx.ledger.certificate_records import MeterClaims
from gridtokenx.ledger.execute import BlockResult
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.metering_records import Balance, Energy
from gridtokenx.ledger.operations import Deposit, IssueCertificates, RetireCertificate, Withdraw
from gridtokenx.ledger.records import Account, Totals
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.ledger.transaction import Transaction

Find = Callable[[int | None, str, str], None]

GT = {"minted": "minted", "supplied": "supplied", "bought": "received", "consumed": "burned", "sold": "delivered",
      "taken": "taken"}
"""A zone's energies of a window, and what accounts call the same."""
_BALANCE = int(Space.BALANCE)


@frozen
class Sums:
    """uTHB, GT in Wh and certificates over the whole chain and state.

    minted + supplied = consumed + lost + taken, and metered >= claimed >= certified.
    """

    genesis_uthb: int
    minted_uthb: int
    burned_uthb: int
    held_uthb: int
    accounts: int
    minted_wh: int
    supplied_wh: int
    consumed_wh: int
    lost_wh: int
    taken_wh: int
    certificates: int
    retired: int
    metered_wh: int
    claimed_wh: int
    certified_wh: int


class Tally:
    """Counts over the blocks; `finish` compares with a state."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis_uthb = sum(balance for _, balance in genesis.accounts)
        self.minted_uthb = 0
        self.burned_uthb = 0
        self.certificates = 0
        self.retired = 0
        self.gt = dict.fromkeys(GT, 0)

    def block(self, parent: StateReader, transactions: Sequence[Transaction], result: BlockResult) -> None:
        """What a block on `parent` added: deposits, withdrawals, settled energy, certificates issued and retired."""
        for key, raw in result.state.changes.items():
            if key[0] == _BALANCE and raw is not None:      # they leave state when their time is over
                before = parent.get(key)
                old, new = Balance() if before is None else Balance.decode(before), Balance.decode(raw)
                for name in GT:
                    self.gt[name] += getattr(new, name) - getattr(old, name)
        for transaction, receipt in zip(transactions, result.receipts, strict=True):
            for operation, outcome in zip(transaction.operations, receipt.outcomes, strict=True):
                if not outcome.ok:
                    continue
                if operation[0] == Deposit.KIND:
                    self.minted_uthb += operation[2]
                elif operation[0] == Withdraw.KIND:
                    self.burned_uthb += operation[1]
                elif operation[0] == IssueCertificates.KIND:
                    self.certificates += operation[2]
                elif operation[0] == RetireCertificate.KIND:
                    self.retired += 1

    def finish(self, state: StateReader, find: Find) -> Sums:
        """The sums, with `find` told of each that does not balance."""
        held = accounts = 0
        for _, raw in state.scan(bytes((Space.ACCOUNT,))):
            held += Account.decode(raw).total
            accounts += 1
        totals = Totals.decode(state.get(spaces.TOTALS) or b"")
        for name in ("genesis_uthb", "minted_uthb", "burned_uthb"):
            counted, stored = getattr(self, name), getattr(totals, name)
            if counted != stored:
                find(None, "chain totals", f"{name} is {stored}; the blocks add up to {counted}")
        expected = self.genesis_uthb + self.minted_uthb - self.burned_uthb
        if held != expected:
            find(None, "THB", f"all accounts hold {held} uTHB; genesis, deposits and withdrawals make {expected}")
        self._energy(state, find)
        gt, claims = self.gt, self._claims(state, find)
        return Sums(self.genesis_uthb, self.minted_uthb, self.burned_uthb, held, accounts, gt["minted"], gt["supplied"],
                    gt["consumed"], gt["sold"] - gt["bought"], gt["taken"], self.certificates, self.retired,
                    claims.metered_wh, claims.claimed_wh, claims.certified_wh)

    def _energy(self, state: StateReader, find: Find) -> None:
        """GT of the windows ends at zero, and is what the accounts say."""
        gt = self.gt
        rest = gt["minted"] + gt["supplied"] + gt["bought"] - gt["consumed"] - gt["sold"] - gt["taken"]
        if rest:
            find(None, "GT", f"{rest} Wh are left over: minted + supplied + bought less consumed, sold and taken")
        held = dict.fromkeys(GT, 0)
        for _, raw in state.scan(bytes((Space.ENERGY,))):
            account = Energy.decode(raw)
            for name, of_account in GT.items():
                held[name] += getattr(account, of_account)
        for name, of_account in GT.items():
            if held[name] != gt[name]:
                find(None, "GT", f"accounts have {of_account} {held[name]} Wh; the windows add up to {gt[name]}")

    def _claims(self, state: StateReader, find: Find) -> MeterClaims:
        """All meters' claims and certificates together."""
        try:
            audit = audit_certificates(state)
        except InvariantError as error:
            find(None, "certificates", str(error))
            return MeterClaims()
        if (audit.certificates, audit.retired) != (self.certificates, self.retired):
            find(None, "certificates", f"{audit.certificates} are in state, {audit.retired} of them retired; the "
                                       f"blocks add up to {self.certificates} and {self.retired}")
        return MeterClaims(audit.metered_wh, audit.claimed_wh, audit.certified_wh)
