"""What a run's settlement came to: asked of one node at the end, and put beside what the meters showed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from gridtokenx.cli import output
from gridtokenx.client import Client
from gridtokenx.units import WINDOW_SECONDS
from testnet.facts import Settled, Theft
from testnet.keys import testnet_key

BANGKOK_S = 25_200
DAY_S = 86_400
MOST_FLAGS = 500


async def settled_facts(client: Client, peer: str, metering: dict[str, Any],
                        households: int) -> tuple[Settled, Theft | None]:
    """`metering` is the trading program's last report of its meters. Raises ClientError."""
    sums = await client.call("settled")
    windows = sums["next_window"]
    by_window = {int(number): shown for number, shown in metering.get("by_window", {}).items()
                 if int(number) < windows}
    chain = [0, 0]
    largest = 0
    names: dict[int, str] = {}
    for number in sorted(by_window):
        found = await client.call("window", number)
        chain[0] += found["totals"]["minted_wh"]
        chain[1] += found["totals"]["consumed_wh"]
        for row in found["zones"]:
            names[row["zone"]] = row["name"]
            largest = max(largest, abs(row["residual_wh"]))
    flags, estimated = await _flags(client)
    bills, example = await _bills(client, households, windows - sums["windows"])
    settled = Settled(
        peer=peer, windows=sums["windows"], minted_wh=sums["minted_wh"], consumed_wh=sums["consumed_wh"],
        losses_wh=sums["losses_wh"], supplied_wh=sums["supplied_wh"], taken_wh=sums["taken_wh"],
        inexact=sums["inexact"], unsettled_trades=sums["unsettled_trades"], reported_windows=len(by_window),
        incomplete_windows=len(metering.get("incomplete", ())), estimated_flags=estimated,
        shown_injected_wh=sum(injected for injected, _ in by_window.values()),
        shown_withdrawn_wh=sum(withdrawn for _, withdrawn in by_window.values()),
        chain_injected_wh=chain[0], chain_withdrawn_wh=chain[1], bills=bills, bill_example=example, flags=flags,
        largest_residual_wh=largest)
    return settled, await _theft(client, metering, names)


async def _flags(client: Client) -> tuple[Counter[str], int]:
    """Flags that no correction has explained: by zone where all was measured, and how many where readings were missing.

    A chain without finality takes no readings; if they come after corrections have ended it stays with its estimates,
    which need not fit one another.
    """
    flags: Counter[str] = Counter()
    estimated = 0
    for flag in await client.call("flags", None, MOST_FLAGS):
        if flag["cleared"]:
            continue
        zones = (await client.call("window", flag["window"]))["zones"]
        row = next((row for row in zones if row["zone"] == flag["zone"]), None)
        if row is not None and row["estimated"]:
            estimated += 1
        else:
            flags[str(flag["zone"]) if row is None else row["name"]] += 1
    return flags, estimated


async def _bills(client: Client, households: int, first_window: int) -> tuple[int, str]:
    """How many bills the households have, of all days since that window, and the greatest of a day in words."""
    first = (first_window * WINDOW_SECONDS + BANGKOK_S) // DAY_S
    today = ((await client.status())["market_time_s"] + BANGKOK_S) // DAY_S
    count, most, example = 0, -1, "none yet"
    for day in range(first, today + 1):
        for index in range(households):
            bill = await client.call("bill", testnet_key(f"household {index}").public, day)
            count += len(bill["windows"])
            if bill["windows"] and bill["pays_uthb"] > most:
                most = bill["pays_uthb"]
                example = (f"household {index} pays {output.thb_short(most)} for {output.kwh(bill['withdrawn_wh'])} "
                           f"in {len(bill['windows'])} windows of a day")
    return count, example


async def _theft(client: Client, metering: dict[str, Any], names: dict[int, str]) -> Theft | None:
    thief = metering.get("thief")
    if thief is None:
        return None
    zone = next((number for number, name in names.items() if name == thief["zone"]), 0)
    first = (await client.call("suspects", zone, 96, 1))["meters"]
    return Theft(household=thief["household"], meter=thief["meter"], zone=thief["zone"],
                 hidden_wh=metering["hidden_wh"], suspect=first[0]["meter"] if first else 0,
                 explained_ppm=first[0]["share_ppm"] if first else 0)
