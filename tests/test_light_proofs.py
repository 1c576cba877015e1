"""Light proofs: what a whole node proves is checked with the genesis alone, and nothing else passes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from attrs import evolve
from click.testing import CliRunner
from node_support import AUTHORITY_KEYS, OTHER, TRADER, Cluster, key, small_genesis, transfer
from test_layers import MODULES, imports_of, transitive
from test_node_epochs import LENGTH, Chain, let_join

from gridtokenx import codec
from gridtokenx.cli import cli
from gridtokenx.crypto import mountain_range
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger import spaces, trie
from gridtokenx.ledger.genesis import dump_genesis
from gridtokenx.ledger.records import Account
from gridtokenx.light.format import MalformedProof, Proof, ProofError, decode_proof, from_json, to_json
from gridtokenx.light.verify import FalseClaim, ForeignProof, NotFinal, NotProven, Trust, read_proof, verify
from gridtokenx.node.prove import CannotProve, Prover

ACCOUNT, NOBODY = spaces.account(OTHER.public), spaces.account(key(4242).public)
ROOT = Path(__file__).parent.parent


def trust_of(cluster: Cluster) -> Trust:
    genesis = cluster.genesis
    return Trust.of_genesis(genesis.chain_id, tuple((entry.name, entry.public) for entry in genesis.authorities))


def prover_of(cluster: Cluster, index: int = 0) -> Prover:
    member = cluster.members[index]
    return Prover(cluster.genesis, member.database, member.chain)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Five authorities, a sixth that joins at the first boundary, and two epochs after that."""
    cluster = Cluster(small_genesis(5, epoch_length=LENGTH), tmp_path_factory.mktemp("light"), extra=1)
    cluster.run(1_500)
    chain = Chain(cluster)
    let_join(cluster, chain)
    cluster.checkpoint(1)
    chain.grow_to(3 * LENGTH + 8, follow=(5,))
    chain.level()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def proof(cluster: Cluster) -> Proof:
    return prover_of(cluster).records([ACCOUNT, NOBODY])


def test_a_record_and_an_absence_are_proven_across_a_change_of_authorities(cluster: Cluster, proof: Proof) -> None:
    proven = verify(decode_proof(proof.encode()), trust_of(cluster))
    head = cluster.members[0].chain.head
    assert (proven.header, proven.certified) == (head.header, head.header)
    assert proven.header.epoch == 3 and len(proven.members) == 6 and len(proof.finality.boundaries) == 1
    value = proven.value(ACCOUNT)
    assert value is not None and Account.decode(value).balance > 1_000_000_000_000
    assert proven.value(NOBODY) is None
    with pytest.raises(NotProven, match="says nothing of key"):
        proven.value(spaces.CLOCK)


def test_checkpointed_or_not_each_node_proves_the_same(cluster: Cluster) -> None:
    wanted = [verify(prover_of(cluster, index).records([ACCOUNT]), trust_of(cluster)) for index in (0, 1, 5)]
    assert wanted[0] == wanted[1] == wanted[2]
    cluster.checkpoint(2)
    again = prover_of(cluster, 2)
    assert verify(again.records([ACCOUNT]), trust_of(cluster)).records == wanted[0].records
    assert again.records([ACCOUNT]) == again.records([ACCOUNT])


def test_the_hash_of_block_0_is_enough(cluster: Cluster, proof: Proof) -> None:
    genesis = cluster.genesis.header().hash
    assert verify(proof, Trust.of_hash(genesis)) == verify(proof, trust_of(cluster))
    with pytest.raises(ForeignProof, match="begins with block 0"):
        verify(proof, Trust.of_hash(bytes(32)))
    with pytest.raises(ProofError, match="32 bytes"):
        Trust.of_hash(b"short")


def test_every_flipped_byte_is_refused(cluster: Cluster, proof: Proof) -> None:
    raw, random = proof.encode(), Random(5)
    start = raw.index(proof.finality.genesis)
    beyond = start + len(proof.finality.genesis)
    named: set[type] = set()
    for at in range(len(raw)):
        # Whoever trusts keys alone believes nothing of block 0 but these; its hash covers all of it.
        trust = Trust.of_hash(cluster.genesis.header().hash) if start <= at < beyond else trust_of(cluster)
        spoiled = bytearray(raw)
        spoiled[at] ^= 1 << random.randrange(8)
        with pytest.raises(ProofError) as refused:
            proven = verify(decode_proof(bytes(spoiled)), trust)
            proven.value(ACCOUNT)           # the bytes of a key that is absent can become those of another one
            proven.value(NOBODY)
        named.add(refused.type)
    assert {MalformedProof, ForeignProof, NotFinal, FalseClaim} <= named


def test_every_cut_is_refused(proof: Proof) -> None:
    raw = proof.encode()
    for at in (0, 1, 5, len(raw) // 2, len(raw) - 1):
        with pytest.raises(MalformedProof):
            decode_proof(raw[:at])
    with pytest.raises(MalformedProof):
        decode_proof(raw + b"\0")
    with pytest.raises(MalformedProof, match="at most"):
        decode_proof(bytes(5 << 20))
    fields = codec.decode(raw)
    for changed, said in (([2, *fields[1:]], "version"), ([*fields[:3], []], "1 to 64 claims"),
                          ([*fields[:3], fields[3] * 40], "1 to 64 claims"), ([1, [], None, fields[3]], "finality"),
                          ([*fields[:3], [[3, b"a", None, b""]]], "claim 0"),
                          ([*fields[:2], [b""], fields[3]], "ancestor")):
        with pytest.raises(MalformedProof, match=said):
            decode_proof(codec.encode(changed))


def test_forgeries_are_named(cluster: Cluster, proof: Proof) -> None:
    trust, finality = trust_of(cluster), proof.finality
    other = trust.of_genesis(bytes(32), trust.members)
    with pytest.raises(ForeignProof, match="trusted is chain 0000"):
        verify(proof, other)
    with pytest.raises(ForeignProof, match="one of the two differs"):
        verify(proof, Trust.of_genesis(trust.chain_id, trust.members[:4]))
    with pytest.raises(NotFinal, match="another list of authorities"):
        verify(evolve(proof, finality=evolve(finality, boundaries=())), trust)
    with pytest.raises(NotFinal, match="does not lie above"):
        verify(evolve(proof, finality=evolve(finality, boundaries=finality.boundaries * 2)), trust)
    with pytest.raises(NotFinal, match="not one of this header"):
        before = cluster.members[0].chain.finals()[-2].header.encode()
        verify(evolve(proof, finality=evolve(finality, header=before)), trust)
    certificate = codec.decode(finality.certificate)
    fewer = [*certificate[:4], certificate[4] & (certificate[4] - 1), certificate[5][1:]]
    with pytest.raises(NotFinal, match="signatures of a quorum of the 6"):
        verify(evolve(proof, finality=evolve(finality, certificate=codec.encode(fewer))), trust)
    richer = evolve(proof.claims[0], value=Account(balance=1 << 60).encode())
    with pytest.raises(FalseClaim, match="claim 0: the state after block"):
        verify(evolve(proof, claims=(richer,)), trust)
    gone = evolve(proof.claims[0], value=None)
    with pytest.raises(FalseClaim, match="is absent"):
        verify(evolve(proof, claims=(gone,)), trust)
    with pytest.raises(MalformedProof, match="claim 1 is about the key of an earlier one"):
        verify(evolve(proof, claims=(proof.claims[0],) * 2), trust)
    # A list of the attacker's own, in place of the one that the boundary commits to.
    mine = codec.encode([[["ME", AUTHORITY_KEYS[7].public]]])
    forged = evolve(finality.boundaries[0], authorities=mine)
    with pytest.raises(NotFinal, match="not the one that the header commits to"):
        verify(evolve(proof, finality=evolve(finality, boundaries=(forged,))), trust)
    with pytest.raises(ForeignProof, match="differs"):
        verify(evolve(proof, finality=evolve(finality, authorities=mine)), trust)
    twice = codec.encode([[["A", PUBLIC], ["B", PUBLIC]]])
    with pytest.raises(MalformedProof, match="names a key twice"):
        verify(evolve(proof, finality=evolve(finality, authorities=twice)), trust)


PUBLIC = AUTHORITY_KEYS[0].public


def test_transactions_are_proven_also_without_a_certificate_of_their_block(cluster: Cluster) -> None:
    trust, member = trust_of(cluster), cluster.members[0]
    blocks = [block for block in member.chain.finals() if block.header.epoch == 3]
    for block in blocks[:-1]:
        block.certificate = None            # as if a descendant's had finalized them all
    prover = prover_of(cluster)
    raw = transfer(cluster.genesis, TRADER, 0, OTHER.public, 1)
    with pytest.raises(CannotProve, match="in no final block"):
        prover.transaction(digest(Domain.TRANSACTION, raw))
    for block in blocks:
        for transaction, receipt in zip(block.transactions, block.result.receipts_raw, strict=True):
            made = prover.transaction(transaction.id)
            proven = verify(decode_proof(made.encode()), trust)
            assert proven.header == block.header
            assert (proven.certified == block.header) == (block is blocks[-1])
            assert (proven.transactions[0].raw, proven.transactions[0].receipt) == (transaction.raw, receipt)
    made = prover.transaction(blocks[0].ids[0])
    assert made.ancestor is not None
    spoiled = bytearray(made.encode())
    start = made.encode().index(made.ancestor.header)
    for at in range(start, len(spoiled), 7):
        spoiled[at] ^= 16
        with pytest.raises(ProofError):
            verify(decode_proof(bytes(spoiled)), trust)
        spoiled[at] ^= 16
    younger = evolve(made.ancestor, header=blocks[3].header.encode())
    with pytest.raises(NotFinal, match="not shown to be an ancestor"):
        verify(evolve(made, ancestor=younger), trust)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_the_path_to_a_later_range_is_that_of_the_whole(count: int) -> None:
    items = [b"%d" % number * 8 for number in range(40)]
    for first in range(0, 40 - count, 3):
        peaks = mountain_range.EMPTY
        for item in items[:first]:
            peaks = mountain_range.append(peaks, item)
        made = mountain_range.prove_after(peaks, items[first:first + count])
        whole = peaks
        for item in items[first:first + count]:
            whole = mountain_range.append(whole, item)
        assert made == mountain_range.prove(whole, first, items.__getitem__)
        assert mountain_range.verify(mountain_range.root(whole), items[first], made)


def test_json_is_the_same_proof(cluster: Cluster, proof: Proof) -> None:
    text = json.dumps(to_json(proof))
    assert from_json(text) == proof == read_proof(text.encode()) == read_proof(proof.encode())
    for bad in ("{}", "[]", '{"format": "gridtokenx-proof", "version": 2}',
                text.replace('"claims": [{"key": "', ' "claims": [{"key": "x'),
                text.replace('"ancestor": null', '"ancestor": 3')):
        with pytest.raises(MalformedProof):
            from_json(bad)
    with pytest.raises(MalformedProof, match="neither"):
        read_proof(b"{\xff")


def test_the_verifier_needs_no_node() -> None:
    for name in ("gridtokenx.light.format", "gridtokenx.light.verify"):
        reached = transitive(name)
        assert not {module for module in reached if module.split(".")[1:2] and module.split(".")[1] in
                    {"store", "node", "network", "client", "cli", "sim"}}
        heavy = {imported.split(".")[0] for module in reached for imported in imports_of(MODULES[module])}
        assert not heavy & {"lmdb", "trio", "libp2p", "os", "socket", "time", "random"}


def test_nothing_is_proven_before_the_first_block(tmp_path: Path) -> None:
    cluster = Cluster(small_genesis(4), tmp_path)
    with pytest.raises(CannotProve, match="no block after genesis"):
        prover_of(cluster).records([ACCOUNT])
    with pytest.raises(CannotProve, match="1 to 64 different keys"):
        prover_of(cluster).records([ACCOUNT] * 2)
    cluster.close()


def test_the_pages_example_is_what_it_says() -> None:
    page = (ROOT / "docs" / "proofs.md").read_text()
    text = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert text is not None
    made = from_json(text[1])
    genesis = digest(Domain.HEADER, made.finality.genesis)
    proven = verify(made, Trust.of_hash(genesis))
    (wanted,) = proven.records
    path = trie.decode_proof(made.claims[0].path)
    for fact in (genesis, proven.header.hash, proven.header.state_root, digest(Domain.TRIE_KEY, wanted),
                 digest(Domain.TRIE_VALUE, proven.value(wanted) or b""), proven.header.chain_id,
                 proven.header.authorities_hash, *path.siblings):
        assert fact.hex() in page


def test_the_commands_check_a_file(tmp_path: Path) -> None:
    genesis, file = tmp_path / "genesis.toml", tmp_path / "proof"
    salted = Cluster(evolve(small_genesis(1), salt="s"), tmp_path / "nodes")
    salted.run(1_500)
    salted.submit(0, [transfer(salted.genesis, TRADER, 0, OTHER.public, 1)])
    salted.run(1_000)
    proof = prover_of(salted).records([ACCOUNT, NOBODY])
    salted.close()
    genesis.write_text(dump_genesis(salted.genesis))
    file.write_bytes(proof.encode())
    runner = CliRunner()
    shown = runner.invoke(cli, ["verify-proof", str(file), "--genesis", str(genesis)])
    assert shown.exit_code == 0 and "PROVEN" in shown.output and "NOT in the state" in shown.output, shown.output
    found = runner.invoke(cli, ["verify-proof", str(file), "--json", "--genesis-hash",
                                salted.genesis.header().hash.hex()])
    table = json.loads(found.output)
    assert [record["present"] for record in table["records"]] == [True, False]
    assert table["records"][0]["record"]["balance"] > 0
    root = verify(proof, Trust.of_hash(salted.genesis.header().hash)).header.state_root
    file.write_text(json.dumps(to_json(proof)).replace(root.hex(), "00" * 32, 1))
    bad = runner.invoke(cli, ["verify-proof", str(file), "--genesis", str(genesis)])
    assert bad.exit_code == 1 and "the certified header" in bad.output
    assert runner.invoke(cli, ["verify-proof", str(file)]).exit_code == 2
