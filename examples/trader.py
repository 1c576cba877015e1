"""A trader from the first key to the first bill, over HTTP, against a testnet (`scripts/testnet.sh`):

    .venv/bin/python examples/trader.py http://127.0.0.1:9480

Everything it does beyond the trader's own part, an issuer and a registrar would do for it: the testnet's keys of both
are published, so it plays them as well.
"""

from __future__ import annotations

import sys
import time
from hashlib import sha256
from typing import Any

from gridtokenx.client import Account, HttpClient
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger.operations import (
    Deposit,
    Operation,
    PlaceOrder,
    RegisterMeter,
    RegisterParticipant,
    ReportReadings,
    sign_reading,
)
from gridtokenx.market.orders import Side

THB = 1_000_000                     # micro-baht
YEAR_MS = 365 * 86_400_000
WANTED_WH, DRAWN_WH = 1_000, 1_300  # what it buys, and what its meter shows in the end
PATIENCE_S = 120


def published_key(name: str) -> PrivateKey:
    return PrivateKey(sha256(f"gridtokenx testnet, not secret: {name}".encode()).digest())


def do(client: HttpClient, account: Account, *operations: Operation) -> list[Any]:
    """Signs, hands in, waits until it is final; the receipts' data."""
    signed = account.sign(operations, valid_until_height=client.height() + 600, fee_uthb=1_000 * len(operations))
    state = client.submit(signed, wait_ms=30_000)
    if state["state"] != "final" or state["code"]:
        sys.exit(f"refused: {state['state']}, {state['reason'] or state['receipts']}")
    return [receipt["data"] for receipt in state["receipts"]]


def market_ms(client: HttpClient) -> int:
    return int(client.get("/status")["market_time_s"]) * 1000


def until_traded(client: HttpClient, me: str) -> dict[str, Any]:
    """Its first trade."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        trades = client.get(f"/accounts/{me}/trades")["items"]
        if trades:
            return dict(trades[-1])
        time.sleep(0.2)
    sys.exit("nobody sold anything")


def until_settled(client: HttpClient, window: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if client.get(f"/grid/windows/{window}")["phase"] in ("settled", "final"):
            return
        time.sleep(0.2)
    sys.exit("the window was not settled")


def main(url: str, issuer_key: PrivateKey, registrar_key: PrivateKey) -> None:
    with HttpClient(url) as client:
        key, meter_key = PrivateKey.generate(), PrivateKey.generate()
        me = encode_address(key.public)
        print(f"a new account: {me}")

        # The issuer took 500 THB at its counter; the registrar saw the licence and the meter.
        do(client, client.sign_in(issuer_key), Deposit(key.public, 500 * THB))
        registrar = client.sign_in(registrar_key)
        [[participant]] = do(client, registrar, RegisterParticipant(
            key.public, f"EXAMPLE-{key.public.hex()[:8]}", Role.CONSUMER, 0, market_ms(client) + YEAR_MS))
        [[meter]] = do(client, registrar, RegisterMeter(
            participant, meter_key.public, 0, Network.MEA, Source.MIXED, 0, 0, 20_000))
        print(f"registered: participant {participant}, meter {meter}")

        # Buys for a window that is still open: up to the highest price that is allowed.
        account = client.sign_in(key)
        window = client.get("/status")["window"] + 6
        zone = client.get("/energy/prices", window=window)["zones"][0]
        [[order, filled, resting, _]] = do(client, account, PlaceOrder(
            meter, window, Side.BUY, zone["band_high_mthb_kwh"] // 10 * 10, WANTED_WH))
        print(f"order {order} for window {window}: {filled} Wh bought at once, {resting} Wh wait")
        trade = until_traded(client, me)
        print(f"bought {trade['delivered_kwh']} kWh at {trade['price_thb_kwh']} THB/kWh")

        # The window passes; the meter signs what it measured, and its owner hands that in.
        while market_ms(client) < (window + 1) * 900_000:
            time.sleep(0.2)
        do(client, account, ReportReadings((sign_reading(
            meter_key, account.chain_id, meter, window, 0, DRAWN_WH),)))
        until_settled(client, window)
        day = (window * 900 + 7 * 3600) // 86_400
        bill = client.get(f"/accounts/{me}/bills", day=day)
        entry = next(entry for entry in bill["windows"] if entry["window"] == window)
        print(f"settled: withdrawn {entry['withdrawn_wh']} Wh, bought {entry['bought_wh']} Wh")
        for line in entry["lines"]:
            print(f"  {line['rule_name']:<14} {line['quantity_kwh']:>8} kWh {line['amount_thb']:>12} THB")
        print(f"free now: {client.get(f'/accounts/{me}/balance')['balance_thb']} THB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: trader.py URL")
    main(sys.argv[1], published_key("issuer"), published_key("registrar"))
