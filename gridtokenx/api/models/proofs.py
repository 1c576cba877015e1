"""Light proofs (docs/proofs.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gridtokenx.api.models.parts import Answer

Hex = Annotated[str, Field(pattern="^([0-9a-f]{2})*$")]


class BoundaryOf(Answer):
    header: Hex
    certificate: Hex
    authorities: Hex


class FinalityOf(Answer):
    """From genesis to the final block: who was to sign, and who did."""

    genesis: Hex
    authorities: Hex
    boundaries: list[BoundaryOf]
    header: Hex
    certificate: Hex


class AncestorOf(Answer):
    header: Hex
    path: Hex


class RecordClaim(Answer):
    key: Hex
    value: Hex | None = Field(description="null: there is no such record")
    path: Hex


class TransactionClaim(Answer):
    index: int
    count: int
    transaction: Hex
    path: list[Hex]
    receipt: Hex
    receipt_path: list[Hex]


class LightProof(Answer):
    """As docs/proofs.md describes it. Checked with the chain's genesis alone."""

    format: str = Field(pattern="^gridtokenx-proof$")
    version: int
    finality: FinalityOf
    ancestor: AncestorOf | None
    claims: list[RecordClaim | TransactionClaim]
