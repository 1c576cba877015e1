"""Changes of the list of authorities, and evidence against one, in blocks."""

from __future__ import annotations

import pytest
from attrs import evolve
from ledger_support import ISSUER, Chain, genesis, key

from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.ledger import spaces
from gridtokenx.ledger.approvals import approve
from gridtokenx.ledger.authority_records import AuthorityChanges, Standing
from gridtokenx.ledger.epochs import next_list
from gridtokenx.ledger.genesis import Authority
from gridtokenx.ledger.operations import (
    ActivateAuthority,
    Evidence,
    RegisterAuthority,
    RevokeAuthority,
    SuspendAuthority,
)
from gridtokenx.ledger.receipts import Code, InvalidBlock
from gridtokenx.ledger.records import Authorities, Epoch
from gridtokenx.ledger.votes import FINALIZE, NOTARIZE, NULLIFY, vote_content

MEMBERS = tuple(key(f"authority {letter}") for letter in "abcde")
JOINER = key("joiner")


@pytest.fixture
def chain() -> Chain:
    listed = tuple(Authority(f"A{index}", member.public) for index, member in enumerate(MEMBERS))
    return Chain(evolve(genesis(epoch_length=10), authorities=listed))


def epoch_of(chain: Chain) -> Epoch:
    return Epoch.decode(chain.head.get(spaces.EPOCH))


def listed(chain: Chain) -> list[bytes]:
    return [member for _, member in Authorities.decode(chain.head.get(spaces.AUTHORITIES)).members]


def standing(chain: Chain, who: PrivateKey) -> Standing | None:
    raw = chain.head.get(spaces.AUTHORITY_CHANGES)
    entry = None if raw is None else AuthorityChanges.decode(raw).of(who.public)
    return None if entry is None else Standing(entry[2])


def approvals(chain: Chain, kind: int, who: PrivateKey, name: str = "", *, signers=MEMBERS[:4], epoch=None):
    epoch = epoch_of(chain).number if epoch is None else epoch
    return tuple(sorted((signer.public, approve(signer, chain.genesis.chain_id, kind, epoch, who.public, name))
                        for signer in signers))


def do(chain: Chain, *operations) -> list[Code]:
    """One block with these operations; the codes of their outcomes."""
    chain.send(ISSUER, *operations, fee=64_000)
    return [outcome.code for outcome in chain.block().receipts[0].outcomes]


def register(chain: Chain, who: PrivateKey = JOINER, name: str = "JOIN", **options) -> RegisterAuthority:
    return RegisterAuthority(epoch_of(chain).number, name, who.public,
                             approvals(chain, 60, who, name, **options))


def activate(chain: Chain, who: PrivateKey = JOINER, *, behind: int = 0) -> ActivateAuthority:
    height = chain.head.header.height - behind
    return ActivateAuthority.signed(who, chain.genesis.chain_id, epoch_of(chain).number, 1, height, height, 5)


def to_boundary(chain: Chain) -> None:
    boundary = epoch_of(chain).boundary
    while chain.head.header.height < boundary:
        chain.block()


def vote(chain: Chain, who: PrivateKey, kind: int, digest: bytes = b"", *, epoch: int = 0, view: int = 3):
    return kind, digest, who.sign(Domain.CONSENSUS_VOTE, chain.genesis.chain_id,
                                  vote_content(kind, epoch, view, digest))


def test_an_epoch_ends_at_the_multiple_of_its_length(chain):
    seed = epoch_of(chain).seed
    to_boundary(chain)
    header = chain.head.header
    assert header.height == 10 and header.epoch == 0
    assert header.next_authorities_hash == header.authorities_hash
    assert epoch_of(chain) == Epoch(1, epoch_of(chain).seed, 10, 20) and epoch_of(chain).seed != seed
    with pytest.raises(InvalidBlock, match="epoch 0; a block of height 11 is in epoch 1"):
        chain.block(epoch=0)
    chain.block()
    assert chain.head.header.epoch == 1


def test_join_needs_agreement_and_a_status(chain):
    assert do(chain, activate(chain)) == [Code.UNKNOWN_AUTHORITY]
    assert do(chain, register(chain)) == [Code.OK]
    to_boundary(chain)
    assert JOINER.public not in listed(chain), "not activated"
    assert do(chain, activate(chain), activate(chain)) == [Code.OK, Code.UNKNOWN_AUTHORITY]
    before = chain.head.header.next_authorities_hash
    to_boundary(chain)
    header = chain.head.header
    assert listed(chain) == [*(member.public for member in MEMBERS), JOINER.public]
    assert header.authorities_hash == before != header.next_authorities_hash
    assert standing(chain, JOINER) is Standing.MEMBER
    assert do(chain, register(chain)) == [Code.AUTHORITY_EXISTS]
    assert chain.head.header.authorities_hash == header.next_authorities_hash


@pytest.mark.parametrize(("signers", "code"), [
    (MEMBERS[:4], Code.OK), (MEMBERS[:3], Code.TOO_FEW_APPROVALS), ((*MEMBERS[:3], JOINER), Code.BAD_APPROVAL)])
def test_a_quorum_of_the_present_must_agree(chain, signers, code):
    assert do(chain, register(chain, signers=signers)) == [code]


def test_approvals_hold_for_one_change_in_one_epoch(chain):
    good = register(chain)
    renamed = RegisterAuthority(0, "OTHER", JOINER.public, good.approvals)
    revoked = RevokeAuthority(0, JOINER.public, good.approvals)
    assert do(chain, renamed, revoked) == [Code.BAD_APPROVAL, Code.BAD_APPROVAL]
    to_boundary(chain)
    assert do(chain, good) == [Code.WRONG_EPOCH]
    assert do(chain, register(chain, epoch=0)) == [Code.BAD_APPROVAL]
    assert do(chain, register(chain, key("x"), "A0")) == [Code.AUTHORITY_EXISTS]
    assert do(chain, register(chain, MEMBERS[1], "new")) == [Code.AUTHORITY_EXISTS]
    assert do(chain, [60, 1, "n", JOINER.public, [[b"k", b"s"]]], [61, 1, JOINER.public, []]) == [Code.BAD_FIELDS] * 2


def test_a_joiner_may_be_100_heights_behind_and_signs_its_status(chain):
    do(chain, register(chain))
    while chain.head.header.height < 110:
        chain.block()
    forged = activate(chain)
    assert do(chain, activate(chain, behind=100), ActivateAuthority(
        *[*forged.fields()[1:4], 111, 111, *forged.fields()[6:]])) == [Code.STATUS_BEHIND, Code.BAD_STATUS]
    assert do(chain, activate(chain, behind=-2)) == [Code.STATUS_BEHIND]
    assert do(chain, activate(chain, behind=99)) == [Code.OK]


def test_revoked_leaves_for_good_and_one_at_a_time(chain):
    first, second = MEMBERS[1], MEMBERS[3]
    for who in (first, second):
        assert do(chain, RevokeAuthority(0, who.public, approvals(chain, 61, who))) == [Code.OK]
    assert do(chain, RevokeAuthority(0, first.public, approvals(chain, 61, first))) == [Code.ALREADY_LEAVING]
    assert do(chain, RevokeAuthority(0, JOINER.public, approvals(chain, 61, JOINER))) == [Code.UNKNOWN_AUTHORITY]
    to_boundary(chain)
    assert listed(chain) == [MEMBERS[index].public for index in (0, 2, 3, 4)]
    to_boundary(chain)
    assert listed(chain) == [MEMBERS[index].public for index in (0, 2, 4)] and standing(chain, second) is None


def test_one_that_waits_can_be_revoked(chain):
    assert do(chain, register(chain), RevokeAuthority(0, JOINER.public, approvals(chain, 61, JOINER))) == [Code.OK] * 2
    assert standing(chain, JOINER) is None


@pytest.mark.parametrize(("first", "second", "code"), [
    ((NOTARIZE, b"1" * 32), (NOTARIZE, b"2" * 32), Code.OK), ((FINALIZE, b"1" * 32), (FINALIZE, b"2" * 32), Code.OK),
    ((FINALIZE, b"1" * 32), (NULLIFY, b""), Code.OK), ((NULLIFY, b""), (FINALIZE, b"1" * 32), Code.OK),
    ((NOTARIZE, b"1" * 32), (NULLIFY, b""), Code.NO_EVIDENCE),
    ((NOTARIZE, b"1" * 32), (FINALIZE, b"2" * 32), Code.NO_EVIDENCE),
    ((NOTARIZE, b"1" * 32), (NOTARIZE, b"1" * 32), Code.NO_EVIDENCE)])
def test_evidence_suspends_at_the_boundary(chain, first, second, code):
    thief = MEMBERS[2]
    evidence = Evidence(thief.public, 0, 3, vote(chain, thief, *first), vote(chain, thief, *second))
    assert do(chain, evidence) == [code]
    assert thief.public in listed(chain)
    to_boundary(chain)
    assert (thief.public in listed(chain)) == (code is not Code.OK)
    if code is Code.OK:
        assert do(chain, evidence) == [Code.UNKNOWN_AUTHORITY] and standing(chain, thief) is Standing.SUSPENDED


def test_votes_of_different_views_epochs_or_signers_prove_nothing(chain):
    thief, one = MEMBERS[2], (NOTARIZE, b"1" * 32)
    other = (NOTARIZE, b"2" * 32)
    good = vote(chain, thief, *one)
    for bad in (vote(chain, thief, *other, view=4), vote(chain, thief, *other, epoch=1),
                vote(chain, MEMBERS[1], *other)):
        assert do(chain, Evidence(thief.public, 0, 3, good, bad)) == [Code.NO_EVIDENCE]
    assert do(chain, Evidence(JOINER.public, 0, 3, vote(chain, JOINER, *one), vote(chain, JOINER, *other))) == [
        Code.UNKNOWN_AUTHORITY]


def test_the_suspended_can_be_agreed_upon_anew_and_is_not_tried_twice(chain):
    thief = MEMBERS[2]
    old = Evidence(thief.public, 0, 3, vote(chain, thief, NOTARIZE, b"1" * 32),
                   vote(chain, thief, NOTARIZE, b"2" * 32))
    assert do(chain, old, old) == [Code.OK, Code.ALREADY_LEAVING]
    assert do(chain, register(chain, thief, "A2")) == [Code.AUTHORITY_EXISTS], "it has not left yet"
    to_boundary(chain)
    again = register(chain, thief, "A2", signers=(*MEMBERS[:2], *MEMBERS[3:]))
    assert do(chain, again, activate(chain, thief)) == [Code.OK] * 2
    to_boundary(chain)
    assert listed(chain)[-1] == thief.public
    assert do(chain, old) == [Code.EVIDENCE_TOO_OLD]
    new = Evidence(thief.public, 2, 3, vote(chain, thief, NOTARIZE, b"1" * 32, epoch=2),
                   vote(chain, thief, NOTARIZE, b"2" * 32, epoch=2))
    assert do(chain, new) == [Code.OK]


def test_suspension_by_agreement(chain):
    who = MEMBERS[4]
    assert do(chain, SuspendAuthority(0, who.public, approvals(chain, 62, who))) == [Code.OK]
    to_boundary(chain)
    assert who.public not in listed(chain) and standing(chain, who) is Standing.SUSPENDED


def member(number: int) -> tuple[str, bytes]:
    return f"m{number}", bytes([number]) * 32


@pytest.mark.parametrize(("n", "room"), [(1, 1), (3, 1), (4, 1), (6, 1), (7, 2), (10, 3)])
def test_at_most_f_change_and_the_suspended_go_first(n, room):
    members = tuple(member(number) for number in range(n))
    changes = AuthorityChanges()
    for number in range(20, 24):
        changes = changes.with_(*member(number), Standing.JOINING, 0)
    for number in range(max(0, n - 2)):
        changes = changes.with_(*member(number), Standing.LEAVING, 0)
    if n > 1:
        changes = changes.with_(*member(n - 1), Standing.SUSPENDING, 0)
    after, rest = next_list(members, changes)
    assert len(set(members) ^ set(after)) == room
    assert member(n - 1) in after if n == 1 else member(n - 1) not in after
    for _ in range(40):
        after, rest = next_list(after, rest)
    assert {name for name, _ in after} >= {"m20", "m21", "m22", "m23"}


def test_the_last_authority_stays(chain):
    after, rest = next_list((member(1),), AuthorityChanges().with_(*member(1), Standing.SUSPENDING, 0))
    assert after == (member(1),) and rest.of(member(1)[1])[2] == Standing.SUSPENDING
