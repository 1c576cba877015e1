"""The hosted signer over a real socket: it signs what its file allows, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from ledger_support import key

from gridtokenx.api.signer import new_token, signing
from gridtokenx.api.signer_config import SignerConfigError, load_signer
from gridtokenx.cli import cli
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keystore import save_key
from gridtokenx.ledger.operations import CancelOrder, Transfer
from gridtokenx.ledger.transaction import decode_transaction, encode_payload

CHAIN = bytes(range(32))
MAKER, OTHER = key("maker"), key("other")
TOKEN, DIGEST = new_token()


def written(folder: Path, **changes: str) -> Path:
    save_key(folder / "maker.key", MAKER, None)
    save_key(folder / "other.key", OTHER, None)
    lines = {
        "listen": 'listen = "127.0.0.1:0"', "chain_id": f'chain_id = "{CHAIN.hex()}"',
        "maker": '[[accounts]]\nname = "maker"\nkey_file = "maker.key"\noperations = ["cancel order", "place order"]\n'
                 "max_fee_uthb = 100_000",
        "other": '[[accounts]]\nname = "other"\nkey_file = "other.key"\noperations = ["transfer"]\nmax_fee_uthb = 1',
        "token": f'[[tokens]]\nname = "desk"\nsha256 = "{DIGEST}"\naccounts = ["maker"]\nper_s = 40'} | changes
    path = folder / "signer.toml"
    path.write_text("\n".join(lines.values()))
    return path


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with signing(load_signer(written(tmp_path))) as server, httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}", headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def payload(sender: bytes, *operations: CancelOrder | Transfer, fee: int = 100_000) -> dict[str, str]:
    return {"payload": encode_payload(sender, 7, 99, fee, [operation.fields() for operation in operations]).hex()}


async def test_it_signs_what_the_token_may_have_signed(http: httpx.AsyncClient) -> None:
    assert (await http.get("/accounts")).json() == {
        "items": [{"name": "maker", "address": encode_address(MAKER.public)}]}
    wanted = payload(MAKER.public, CancelOrder(5))
    answer = (await http.post("/sign", json=wanted)).json()
    made = decode_transaction(bytes.fromhex(answer["transaction"]))
    assert made.payload.hex() == wanted["payload"]
    assert made.id.hex() == answer["id"]
    assert made.signatures_verify(CHAIN) and not made.signatures_verify(bytes(32))


async def test_it_signs_nothing_else(http: httpx.AsyncClient) -> None:
    async def refused(status: int, code: str, body: object, **headers: str) -> None:
        answer = await http.post("/sign", json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text

    good = payload(MAKER.public, CancelOrder(5))
    await refused(403, "forbidden", payload(MAKER.public, Transfer(OTHER.public, 1)))           # the kind
    await refused(403, "forbidden", payload(MAKER.public, CancelOrder(5), Transfer(OTHER.public, 1)))
    await refused(403, "forbidden", payload(MAKER.public, CancelOrder(5), fee=100_001))
    await refused(403, "forbidden", payload(OTHER.public, Transfer(MAKER.public, 1), fee=1))    # not this token's
    await refused(403, "forbidden", payload(key("nobody").public, CancelOrder(5)))
    await refused(422, "refused", {"payload": "00"})
    await refused(400, "bad_request", {"payload": "xy"})
    await refused(400, "bad_request", [])
    for wrong in ("", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", f"Bearer {DIGEST}"):
        await refused(401, "unauthorized", good, authorization=wrong)
    assert (await http.get("/accounts", headers={"authorization": "Bearer no"})).status_code == 401
    assert (await http.get("/livez")).text == "ok\n"


async def test_a_token_has_its_own_rate(tmp_path: Path) -> None:
    slow = f'[[tokens]]\nname = "desk"\nsha256 = "{DIGEST}"\naccounts = ["maker"]\nper_s = 1'
    async with signing(load_signer(written(tmp_path, token=slow))) as server, httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}", headers={"authorization": f"Bearer {TOKEN}"}) as client:
        answers = [(await client.get("/accounts")).status_code for _ in range(20)]
    assert answers[:2] == [200, 200]
    assert 429 in answers


@pytest.mark.parametrize(("changes", "words"), [
    ({"listen": 'listen = "nowhere"'}, "HOST:PORT"), ({"chain_id": 'chain_id = "ab"'}, "64 hexadecimal"),
    ({"more": "passphrase = 1"}, "unknown keys passphrase"), ({"token": ""}, "tokens"),
    ({"token": f'[[tokens]]\nname = "d"\nsha256 = "{DIGEST}"\naccounts = ["nobody"]\nper_s = 1'}, "maker, other"),
    ({"token": f'[[tokens]]\nname = "d"\nsha256 = "{DIGEST}"\naccounts = ["maker"]\nper_s = 0'}, "from 1 to"),
    ({"maker": '[[accounts]]\nname = "maker"\nkey_file = "maker.key"\noperations = ["everything"]\nmax_fee_uthb = 1'},
     "place order"),
])
def test_a_wrong_file_is_named_with_what_is_allowed(tmp_path: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(SignerConfigError, match=words):
        load_signer(written(tmp_path, **changes))


def test_the_command_checks_a_file_and_makes_tokens(tmp_path: Path) -> None:
    checked = CliRunner().invoke(cli, ["signer", "start", str(written(tmp_path)), "--check"])
    assert "2 accounts, 1 tokens: fine" in checked.output, checked.output
    made = CliRunner().invoke(cli, ["signer", "token"]).output.splitlines()
    assert len(made[0]) >= 43 and made[1].startswith('sha256 = "')
