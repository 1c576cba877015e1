"""Does the suite notice a broken rule? One at a time is broken in a scratch copy of the sources.

    python tests/mutations.py orderbook|conservation|trie|state|energy [--only WORD] [--resume DIR] [--minutes M]

A mutation is (rule, old text, new text). The old text stands exactly once in the native sources of that extension,
which is built anew without optimisation: the order book once, with every mutation under a switch that the environment
names, so a mutation changes one condition or whole statements; the conservation checker for each. For energy it
stands in the Python sources and in the kernels of plain cases: there each check against energy from nowhere is taken
out, and only the tests that docs/settlement.md names are run. The tests run until the first failure, and the table says
which test caught it. A crash or a run that does not end counts as caught. Random tests run from a fixed seed and do not
shrink.

With --resume the scratch copy and the table so far (`orderbook.txt`, `conservation.txt`) are kept in DIR, and what
stands in the table is not tried again: hours can be run in pieces of --minutes. Sources are those of the first piece.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import hypothesis.strategies
import numpy as np
import pytest
from attrs import define

ROOT = Path(__file__).resolve().parent.parent
LOADED = (hypothesis.strategies, np, pytest)
"""Not to be loaded anew for every mutation."""
TIMEOUT_S = 600
Mutation = tuple[str, str, str]

ORDERBOOK: list[Mutation] = [
    # ranking
    ("price priority between zones", "compare_fractions(value, route.rank[other].over, best_value, best_over)",
     "-1 if chosen == 0 else compare_fractions(best_value, best_over, value, route.rank[other].over)"),
    ("price priority between queues",
     "if c.queues[number].best < key:",
     "if c.queues[number].best < key and best == 0:"),
    ("time priority at one price", """    order.next = 0
    order.prev = level.tail
    if level.tail:
        c.orders[level.tail].next = slot
    else:
        level.head = slot
    level.tail = slot
""", """    order.prev = 0
    order.next = level.head
    if level.head:
        c.orders[level.head].prev = slot
    else:
        level.tail = slot
    level.head = slot
"""),
    ("time priority between queues", "head_sequence(c, number) < head_sequence(c, best)",
     "head_sequence(c, number) > head_sequence(c, best)"),
    ("time priority between zones", "< head_sequence(c, queue_named(window, other, chosen, simple))",
     "> head_sequence(c, queue_named(window, other, chosen, simple))"),
    ("a sell's search reaches limit - 1", "(limit + 2 * <int64_t>other - 1) * rank.bound",
     "(limit + <int64_t>other) * rank.bound"),
    ("ranking redone after every fill", "    found.alone = alone\n", "    found.alone = True\n"),
    ("a buy's search reaches limit + 1", "(limit + 2 * <int64_t>other - 1) * rank.bound",
     "(limit + <int64_t>other - 1) * rank.bound"),
    ("zones out of reach: by no tick too many", "(ticks * 65_536 + 655_360_000) // 10_000",
     "(ticks * 65_536 + 1_310_720_000) // 10_000"),
    ("zones out of reach: a limit itself is within", "best, <int32_t>key_of(side ^ 1, tick), c.zone_count",
     "best, <int32_t>key_of(side ^ 1, tick) - 1, c.zone_count"),
    ("zones out of reach: by the least loss", "(path.loss_ppm * 65_536 // PPM for path in paths)",
     "(path.loss_ppm * 80_000 // PPM for path in paths)"),
    # a fill
    ("price of a resting buy rounds down to the tick", "funds // (out.injected * TICK) * TICK",
     "(funds + out.injected * TICK - 1) // (out.injected * TICK) * TICK"),
    ("wheeling rounds half up",
     "(route.wheel_uthb_kwh * delivered + 500) // 1000",
     "route.wheel_uthb_kwh * delivered // 1000"),
    ("q rounds down", "delivered = delivered * keep // PPM", "delivered = (delivered * keep + PPM - 1) // PPM"),
    ("q_in rounds up", "divided(delivered * PPM + keep - 1, route.inverse)",
     "divided(delivered * PPM, route.inverse)"),
    ("a buy may pay its limit exactly", "sell_price * out.injected + out.wheel <= limit * delivered",
     "sell_price * out.injected + out.wheel < limit * delivered"),
    ("a sell may get its limit exactly",
     "out.admissible = out.price >= sell_price",
     "out.admissible = out.price > sell_price"),
    ("inadmissible closes one (zone, path)", "|= <uint64_t>1 << ((key & 7) * 8 + found.route.path)",
     "|= <uint64_t>0xFF << ((key & 7) * 8)"),
    ("a maker below a lot is closed",
     "            if maker.quantity_wh < LOT:\n",
     "            if maker.quantity_wh == 0:\n"),
    ("an incoming rest below a lot is closed",
     "elif order.left < LOT:\n        order.code = CODE_CLOSED_BELOW_LOT",
     "elif False:\n        order.code = CODE_CLOSED_BELOW_LOT"),
    # capacity
    ("a fill takes q_in forward",
     "edge_change(window, route.edge[i], -injected)",
     "edge_change(window, route.edge[i], -delivered)"),
    ("a fill gives q back",
     "edge_change(window, route.edge[i] ^ 1, delivered)",
     "edge_change(window, route.edge[i] ^ 1, injected)"),
    ("a path offers its least residual", "        if residual < least:\n            least = residual\n",
     "        least = residual\n"),
    ("a path with a lot of capacity is open", "(<uint64_t>(window.residual[edge] < LOT) << edge)",
     "(<uint64_t>(window.residual[edge] <= LOT) << edge)"),
    ("a path is as open as all its corridors", "    if UNLIKELY(route.edges & window.tight):\n", "    if False:\n"),
    ("a failed condition opens paths again",
     "            window.tight = tight\n            c.trades_used", "            c.trades_used"),
    ("a bilateral trade needs capacity", "if path_offer(c, window, route) < injected:", "if False:"),
    ("a bilateral trade takes capacity", "    path_take(c, window, route, injected, op.quantity_wh)\n", ""),
    ("a bilateral trade's q_in rounds up", "(op.quantity_wh * PPM + route.keep_ppm - 1) // route.keep_ppm",
     "op.quantity_wh * PPM // route.keep_ppm"),
    ("a bilateral trade's wheeling rounds half up", "(route.wheel_uthb_kwh * op.quantity_wh + 500) // 1000",
     "route.wheel_uthb_kwh * op.quantity_wh // 1000"),
    # paths
    ("paths: fewer corridors first", "in sorted(found)[:PATHS_MOST]:",
     "in sorted(found, key=lambda path: path[1])[:PATHS_MOST]:"),
    ("paths: lower ids first", "in sorted(found)[:PATHS_MOST]:",
     "in sorted(found, key=lambda path: (path[0], [-number for number in path[1]]))[:PATHS_MOST]:"),
    ("8 paths", "in sorted(found)[:PATHS_MOST]:",
     "in sorted(found)[:7]:"),
    ("paths of 6 corridors", "if len(taken) == PATH_CORRIDORS_MOST:",
     "if len(taken) == 5:"),
    ("L is at most 500 000", "        if loss <= 500_000:\n", "        if loss <= 500_001:\n"),
    ("L may be 500 000", "        if loss <= 500_000:\n", "        if loss < 500_000:\n"),
    # profiles
    ("sells: the profile's zones", "if (s >> source) & 1 and (z >> zone) & 1:", "if (s >> source) & 1:"),
    ("sells: the profile's sources", "if (s >> source) & 1 and (z >> zone) & 1:", "if (z >> zone) & 1:"),
    ("buys: the profile's zones", "order.zones, order.subs = c.profile_zones[sub], c.profile_sources[sub]",
     "order.zones, order.subs = 0xFFFF, c.profile_sources[sub]"),
    ("buys: the profile's sources", "order.zones, order.subs = c.profile_zones[sub], c.profile_sources[sub]",
     "order.zones, order.subs = c.profile_zones[sub], 0xFF"),
    # self-trade prevention
    ("self-trade: participants are compared",
     "if not simple and UNLIKELY(maker.participant == order.participant) and order.mode != STP_OFF:",
     "if False:"),
    ("self-trade: cancel newest ends the run",
     "if mode == STP_BOTH or mode == (STP_NEWEST if maker_first else STP_OLDEST):",
     "if mode == STP_BOTH or mode == (STP_OLDEST if maker_first else STP_NEWEST):"),
    ("self-trade: cancel oldest removes it",
     "if mode == STP_BOTH or mode == (STP_OLDEST if maker_first else STP_NEWEST):",
     "if mode == STP_BOTH:"),
    ("self-trade: cancel both removes too",
     "if mode == STP_BOTH or mode == (STP_OLDEST if maker_first else STP_NEWEST):",
     "if mode == (STP_OLDEST if maker_first else STP_NEWEST):"),
    ("self-trade: in uncrossing the newest's mode", "mode = order.mode if maker_first else <uint8_t>(maker.flags & 3)",
     "mode = order.mode"),
    # conditions
    ("fill or kill", "elif terms.force == FORCE_FOK and order.left >= LOT:", "elif False:"),
    ("fill or kill: less than a lot may be left",
     "terms.force == FORCE_FOK and order.left >= LOT",
     "terms.force == FORCE_FOK and order.left > 0"),
    ("minimum fill", "failed = terms.quantity_wh - order.left < terms.minimum_wh", "failed = False"),
    ("minimum fill reached exactly", "failed = terms.quantity_wh - order.left < terms.minimum_wh",
     "failed = terms.minimum_wh and terms.quantity_wh - order.left <= terms.minimum_wh"),
    ("minimum fill: a failing IOC is cancelled",
     "elif terms.force == FORCE_FOK or terms.force == FORCE_IOC:\n                order.code = CODE_KILLED",
     "elif terms.force == FORCE_FOK:\n                order.code = CODE_KILLED"),
    ("minimum fill at arrival only: an amend keeps none",
     "    terms.minimum_wh = 0\n    terms.force = FORCE_TIME if old.expires_ms",
     "    terms.minimum_wh = old.total_wh\n    terms.force = FORCE_TIME if old.expires_ms"),
    ("post-only", "            failed = order.fills != 0\n", "            failed = False\n"),
    ("a failed condition gives residuals back",
     "            undo_to(c, mark)\n"
     "            memcpy(window.residual, residual, 2 * c.corridor_count * sizeof(int64_t))\n",
     "            undo_to(c, mark)\n"),
    ("a failed condition gives sequences back", "            next_sequence[0] = first\n", ""),
    ("IOC: the rest is cancelled", "elif order.code == CODE_RESTING and terms.force == FORCE_IOC:", "elif False:"),
    ("128 fills", "order.fills_most, order.visits_most = FILLS_MOST, VISITS_MOST",
     "order.fills_most, order.visits_most = FILLS_MOST - 1, VISITS_MOST"),
    ("1024 visits", "order.fills_most, order.visits_most = FILLS_MOST, VISITS_MOST",
     "order.fills_most, order.visits_most = FILLS_MOST, VISITS_MOST - 1"),
    # icebergs
    ("an iceberg's slice takes the next sequence",
     "    order.sequence = next_sequence[0]\n    next_sequence[0] += 1\n    order_link(",
     "    order_link("),
    ("an iceberg shows its display", "order.quantity_wh = <uint32_t>min(left, <uint64_t>order.display_wh)",
     "order.quantity_wh = <uint32_t>left"),
    ("an iceberg shows a twentieth at least", "or op.quantity_wh > SLICES_MOST * <int64_t>op.display_wh):",
     "or op.quantity_wh > 2 * SLICES_MOST * <int64_t>op.display_wh):"),
    ("an amended iceberg shows a twentieth at least",
     "if old.display_wh and total_wh > SLICES_MOST * <int64_t>old.display_wh:", "if False:"),
    # expiry
    ("expired: met in a search",
     "maker.expires_ms <= order.now_ms",
     "maker.expires_ms < order.now_ms"),
    ("expired: no visit", "                report(c, slot, order.number, REASON_EXPIRED)\n",
     "                order.visits += 1\n                report(c, slot, order.number, REASON_EXPIRED)\n"),
    ("expired: no fill", "                report(c, slot, order.number, REASON_EXPIRED)\n",
     "                order.fills += 1\n                report(c, slot, order.number, REASON_EXPIRED)\n"),
    ("expired: at entry",
     "op.force == FORCE_TIME and op.expires_ms <= now_ms",
     "op.force == FORCE_TIME and op.expires_ms < now_ms"),
    ("expired: at an amend",
     "if old.expires_ms and old.expires_ms <= now_ms:",
     "if old.expires_ms and old.expires_ms < now_ms:"),
    ("expired: in uncrossing", "if resting.flags & EXPIRES and resting.expires_ms <= now_ms:",
     "if resting.flags & EXPIRES and resting.expires_ms < now_ms:"),
    ("expired: in the depth", "c.orders[slot].expires_ms > now_ms:", "c.orders[slot].expires_ms >= now_ms:"),
    # amends
    ("amend: less at the same price keeps the sequence",
     "if price == price_of(queue.place >> 4, key) and total_wh < old.total_wh:",
     "if False:"),
    ("amend: the same quantity takes a new sequence",
     "if price == price_of(queue.place >> 4, key) and total_wh < old.total_wh:",
     "if price == price_of(queue.place >> 4, key) and total_wh <= old.total_wh:"),
    ("amend: at the filled part it cancels", "    if total_wh - filled < LOT:\n", "    if total_wh - filled < 0:\n"),
    ("amend: refused, it changes nothing", "            undo_to(c, mark)\n            result.remaining_wh = left\n",
     "            result.remaining_wh = left\n"),
    ("amend: keeps the expiry", "    terms.expires_ms = old.expires_ms\n", "    terms.expires_ms = 0\n"),
    # groups
    ("group: all or none",
     "        undo_to(c, 0)\n        c.closed_used = closed\n",
     "        c.closed_used = closed\n"),
    ("group: sequences are given back", "        next_sequence[0] = sequence\n        stopped", "        stopped"),
    ("group: cancels come first", "elif ops[i].kind != KIND_CANCEL or placing:", "elif ops[i].kind != KIND_CANCEL:"),
    # uncrossing and halts
    ("uncrossing: after more capacity", "c.raised = c.raised or op.quantity_wh > window.capacity[edge]", "pass"),
    ("uncrossing: after a fill gave back",
     "        edge_change(window, route.edge[i] ^ 1, delivered)\n        c.raised = True\n",
     "        edge_change(window, route.edge[i] ^ 1, delivered)\n"),
    ("uncrossing: after a halt", "c.raised = c.raised or window.flags == HALTED", "pass"),
    ("uncrossing: the earlier buy of a price first", "and c.orders[slot].sequence < c.orders[chosen].sequence):",
     "and c.orders[slot].sequence > c.orders[chosen].sequence):"),
    ("uncrossing: the earlier order's price",
     "maker_first = simple or order.sequence == 0 or maker.sequence < order.sequence",
     "maker_first = True"),
    ("uncrossing: until nothing is admissible", "pending, again = again, False", "pending, again = False, False"),
    ("uncrossing: closed only to one, after a bound",
     "elif not (order.met or order.closed[0] or order.closed[1]):", "elif not order.met:"),
    ("uncrossing: a bound interrupts it", "                window.flags |= UNFINISHED\n", ""),
    ("halted: no orders", """        elif window.flags:
            result.code = CODE_HALTED if window.flags & HALTED else CODE_WORK_LEFT
        else:
            order.participant = op.participant
""", """        elif window.flags & UNFINISHED:
            result.code = CODE_HALTED if window.flags & HALTED else CODE_WORK_LEFT
        else:
            order.participant = op.participant
"""),
    ("work left: no orders", """        elif window.flags:
            result.code = CODE_HALTED if window.flags & HALTED else CODE_WORK_LEFT
        else:
            order.participant = op.participant
""", """        elif window.flags & HALTED:
            result.code = CODE_HALTED if window.flags & HALTED else CODE_WORK_LEFT
        else:
            order.participant = op.participant
"""),
    ("work left: no amends", """        elif window.flags:
            result.code = CODE_HALTED if window.flags & HALTED else CODE_WORK_LEFT
        else:
            amend(""", """        elif window.flags & HALTED:
            result.code = CODE_HALTED if window.flags & HALTED else CODE_WORK_LEFT
        else:
            amend("""),
    # entry
    ("prices are on the tick",
     "0 <= price <= LAST_TICK * TICK and price % TICK == 0",
     "0 <= price <= LAST_TICK * TICK"),
    ("quantities are in lots",
     "LOT <= quantity_wh <= MOST_WH and quantity_wh % LOT == 0",
     "LOT <= quantity_wh <= MOST_WH"),
    # the quick loops over compact records
    ("quick: the better price first",
     "    if UNLIKELY(key < queue.best):\n        best_raise(c, queue, key, number)\n\n",
     "    if queue.best == NOTHING:\n        best_raise(c, queue, key, number)\n\n"),
    ("quick: what looking ahead found may be another's by now",
     "(<uint64_t*>&c.pages[page].key)[0] != (<uint64_t>queue_number << 32 | (key & ~<uint32_t>63))", "page == 0"),
    ("quick: the limit is kept", "    while queue.best <= reach:", "    while queue.best <= reach + 1:"),
    ("quick: a maker below a lot is closed", "            if rest >= LOT:\n", "            if rest > 0:\n"),
    ("quick: an incoming rest below a lot is closed",
     "            if left < LOT:\n                codes[i] = CODE_CLOSED",
     "            if left == 0:\n                codes[i] = CODE_CLOSED"),
    ("quick: 128 fills", "            elif UNLIKELY(fills == FILLS_MOST):\n", "            elif False:\n"),
    ("quick: IOC, the rest is cancelled", "            elif record.kind == RECORD_IOC:\n                codes[i]",
     "            elif False:\n                codes[i]"),
    ("quick: a cancel names its window", "(plain or p.orders[slot].window == spot.window)", "True"),
    ("quick: no duplicates", "elif UNLIKELY(slot != 0 or not is_ordinary(c, record) or",
     "elif UNLIKELY(not is_ordinary(c, record) or"),
    ("quick: halted windows", "(not plain and at.flags != 0)", "False"),
    ("quick: uncrossing follows", "            if not plain and UNLIKELY(c.raised):\n", "            if False:\n"),
    ("quick: orders that expire or hide go the common way", "and c.icebergs == 0 and c.expiring == 0", ""),
    ("quick: self-trade prevention goes the common way", "quick = c.simple and mode == STP_OFF", "quick = c.simple"),
    ("quick: profiles go the common way",
     "c.simple = sources == 1 and profiles == ((0xFF, 0xFFFF),)", "c.simple = sources == 1"),
]

CONSERVATION: list[Mutation] = [
    ("sums beyond 64 bits", "sum[span] += amount > 0 ? 1 : -1;", ";"),
    ("sums below 64 bits", "sum[span] += amount > 0 ? 1 : -1;", "sum[span] += 1;"),
    ("a group must exist", "if r[0].group >= groups or", "if r[0].group > groups or"),
    ("the fourth neighbour's group must exist", "or r[3].group >= groups:", "or False:"),
    ("a group must exist in the rest", "        if records[i].group >= groups:\n", "        if False:\n"),
    ("all streams are added", "i = STREAMS * part\n", "i = STREAMS * part + (4 if part else 0)\n"),
    ("all tables are added", "for lane in range(lanes):", "for lane in range(min(lanes, <uint64_t>2)):"),
    ("carries of all tables",
     "total[1] += sums[(lanes + lane) * groups + g]",
     "total[1] = sums[(lanes + lane) * groups + g]"),
    ("sums of more than 64 bits are out of range",
     "return carry == 0 and least <= low <= most",
     "return least <= low <= most"),
    ("the most is allowed", "return carry == 0 and least <= low <= most", "return carry == 0 and least <= low < most"),
    ("the least is required", "return carry == 0 and least <= low <= most", "return carry == 0 and low <= most"),
    ("several arrays",
     "for number, part in enumerate(arrays):\n"
     "            n = part.shape[0]\n"
     "            if n:\n"
     "                source = part.view(np.uint8)\n"
     "                first = <const Record*>&source[0]\n"
     "                with nogil:\n"
     "                    good",
     "for number, part in enumerate(arrays[:1]):\n"
     "            n = part.shape[0]\n"
     "            if n:\n"
     "                source = part.view(np.uint8)\n"
     "                first = <const Record*>&source[0]\n"
     "                with nogil:\n"
     "                    good"),
    ("the culprit is where the sum went wrong for good",
     "                lost[0] = False\n            elif",
     "                pass\n            elif"),
    ("the limit of violations", "                if len(violations) >= limit:\n                    break\n", ""),
    ("negative amounts", "while i < n and records[i].amount >= 0:", "while i < n and records[i].amount >= -1:"),
    ("negative amounts in blocks", "        if signs < 0:\n            break\n", ""),
]

ENERGY: list[Mutation] = [
    ("energy sold twice", "            if free < needed:\n", "            if False:\n"),
    ("energy sold twice, in the kernel", "                if free < quantity or max(0, a[BALANCE] - a[DUES]) < locked",
     "                if max(0, a[BALANCE] - a[DUES]) < locked"),
    ("energy bought twice, in the kernel", "                if free < quantity or max(0, a[BALANCE] - a[DUES]) < held",
     "                if max(0, a[BALANCE] - a[DUES]) < held"),
    ("more than the source gives, in the kernel",
     "                    if p[SOLD] + p[OPEN_SELL] + p[FREED_SELL] + quantity > injection // QUARTERS:\n",
     "                    if False:\n"),
    ("bought without money, in the kernel", " or max(0, a[BALANCE] - a[DUES]) < held or a[BIDS]", " or a[BIDS]"),
    ("a rebate is rounded as a charge is", "if (twice >= 0 && twice <=", "if (twice <="),
    ("a meter's prices are those of its zone", "if zone is self.zone and tariff is self.tariff:",
     "if tariff is self.tariff:"),
    ("and of its tariff class", "if zone is self.zone and tariff is self.tariff:", "if zone is self.zone:"),
    ("another's meter, in the kernel", " is not self.meter.cls or self.meter.get(meter, OWNER) != sender:\n",
     " is not self.meter.cls:\n"),
    ("reading above injection capacity", "if reading.injected_wh > most_in or reading.withdrawn_wh > most_out:",
     "if reading.withdrawn_wh > most_out:"),
    ("reading above withdrawal capacity", "if reading.injected_wh > most_in or reading.withdrawn_wh > most_out:",
     "if reading.injected_wh > most_in:"),
    ("reading above capacity, in the check",
     "if not 0 <= now.injected_wh <= most_in or not 0 <= now.withdrawn_wh <= most_out:", "if False:"),
    ("lot delivered twice, in the check", "if minted < now.delivered_wh or minted", "if minted"),
    ("lot claimed twice, in the check", "minted < now.claimed_wh or now.delivered_wh", "now.delivered_wh"),
    ("reading above capacity, in the kernel",
     "                if <int64_t>energies[i] > injection // QUARTERS or <int64_t>energies[i + 1] > withdrawal // "
     "QUARTERS:\n",
     "                if False:\n"),
    ("reading above capacity, in the check's kernel",
     "        return 0 <= n[0] <= m[0] // QUARTERS and 0 <= n[1] <= m[1] // QUARTERS\n", "        return True\n"),
    ("lot delivered twice, in the check's kernel", "if n[0] < n[1] or n[0] < n[2] or n[1]", "if n[0] < n[2] or n[1]"),
    ("lot claimed twice, in the check's kernel", "if n[0] < n[1] or n[0] < n[2] or n[1]", "if n[0] < n[1] or n[1]"),
    ("lot minted twice, in the check's kernel", "            add(entries, at, lots, n[0] - o[0])\n",
     "            pass\n"),
    ("a meter ends at zero, in the check's kernel", "        if n[0] + n[4] + n[2] != n[1] + n[5] + n[3]:\n",
     "        if False:\n"),
    ("certificate retired twice", "    if found.retired_ms:\n", "    if False:\n"),
    ("certificate retired twice, in the check", "(before.retired_ms or _fixed(before)", "(_fixed(before)"),
    ("delivered above injected less losses, in the check", "if trade.delivered_wh > trade.injected_wh * (",
     "if 0 > trade.injected_wh * ("),
    ("forged meter: signature",
     "                if not good[index]:\n                    raise Failed(Code.BAD_READING",
     "                if False:\n                    raise Failed(Code.BAD_READING"),
    ("forged meter: signature, in the kernel", "            if meters[index] is None or not good[index]:\n",
     "            if meters[index] is None:\n"),
    ("forged meter: another's, in the kernel",
     "                    (0 <= zone < 64 and zones >> zone & 1) or self.address(meter, OWNER) == sender):\n",
     "                    True):\n"),
    ("replayed reading, in the kernel", "                if entry.now is not None:\n", "                if False:\n"),
    ("second window of a report above capacity, in the kernel", "            for i in range(0, len(energies), 2):\n",
     "            for i in range(0, 2, 2):\n"),
    ("second window of a report not over, in the kernel",
     "                plain = plain and is_open\n", "                plain = is_open if i == 0 else plain\n"),
    ("second window of a report not signed, in the kernel",
     "        for energy in energies:\n            at = write_number(",
     "        for energy in energies[:2]:\n            at = write_number("),
    ("forged meter: unknown",
     "raise Failed(Code.UNKNOWN_METER, f\"no meter {number}\")\n    if meter.owner != sender and not zones",
     "raise Failed(Code.OK, \"\")\n    if meter.owner != sender and not zones"),
    ("replayed reading, double correction", "    if reading.revision > before.revision:\n",
     "    if reading.revision >= before.revision:\n"),
    ("another value for a correction", "    raise Failed(Code.READING_CONFLICT, f\"of {what}",
     "    return\n    raise Failed(Code.READING_CONFLICT, f\"of {what}"),
    ("older reading after a correction", "    if reading.revision < before.revision:\n", "    if False:\n"),
    ("zone imbalance raises no flag", "    flagged = abs(residual) > tolerance\n", "    flagged = False\n"),
    ("zone imbalance keeps its flag", "    elif flag is not None and not flag.cleared:\n", "    elif False:\n"),
    ("claims above net injection, in the check", "    if claim.issued_wh > most:\n", "    if False:\n"),
    ("claims of another reading, in the check",
     "    if claim.issued_wh and (reading.injected_wh, reading.withdrawn_wh, reading.quality) != (\n",
     "    if False and (reading.injected_wh, reading.withdrawn_wh, reading.quality) != (\n"),
    ("claims that the lot did not give, in the check", "if lot is not None and lot.claimed_wh != claim.issued_wh:",
     "if False:"),
    ("sales that lapse give their energy back", "energy.moves[2] += o[REMAINING]", "pass"),
    ("bids that lapse give their money back", "money.moves[2] += held", "pass"),
    ("what was sold is on offer no more, natively", "p[OPEN_SELL] -= m[0] + m[2]", "p[OPEN_SELL] -= m[2]"),
    ("an order that closed another is no plain one", "if index in busy or made in named:", "if made in named:"),
    ("what was injected is a lot, natively", "        if r[0]:\n            lot[0],",
     "        if False:\n            lot[0],"),
    ("withdrawal that purchases do not cover is supplied, natively",
     "        uncovered = r[1] - left if r[1] > left else 0\n", "        uncovered = 0\n"),
    ("a month counts what was supplied, natively", "        if of == rule:\n", "        if False:\n"),
    ("claims on their way to buyers, in the check", "                    sums.meter(claiming.meter, HELD, index, sign",
     "                    False and sums.meter(claiming.meter, HELD, index, sign"),
]

TRIE: list[Mutation] = [
    ("a page of another hash", "if not kept.filled or kept.depth != depth or memcmp(kept.hash, hash, 32) != 0:",
     "if not kept.filled or kept.depth != depth:"),
    ("a page that is being changed is not found", "            kept.filled = 0\n", "            pass\n"),
    ("who finds it busy does without", "if memo is not None and memo.busy:", "if False:"),
    ("busy no longer at the end", "            memo.busy = False\n", "            memo.busy = True\n"),
    ("what did not change is kept", "if memo is not None and not stale:", "if False:"),
    ("what was not hashed is not kept", "if memo is not None and not stale:", "if memo is not None:"),
    ("the root, if it is known", "self._places.filled and len(root) == 32 and memcmp(self._places.hash, "
     "PyBytes_AS_STRING(root), 32) == 0", "self._places.filled and len(root) == 32"),
    ("inner nodes above a change are hashed anew", "fold(page, stale | changed, &folded)",
     "fold(page, stale, &folded)"),
    ("changes of one bucket are sorted", "            if at > MOST_BY_INSERTION:\n",
     "            if True:\n                pass\n            elif at > MOST_BY_INSERTION:\n"),
    ("many changes of one bucket are sorted", "qsort(order + ends[index], at, sizeof(Placed), by_key)\n", "pass\n"),
    ("all inner nodes of a page that was read are hashed", "fold(page, stale | changed, &folded)",
     "fold(page, changed, &folded)"),
]

STATE: list[Mutation] = [
    ("what a block changed is found",
     "if found != NULL:\n                return <object>found\n        if not self.reach(key)",
     "if found != NULL:\n                pass\n        if not self.reach(key)"),
    ("each window has its own shelf", "(<_Shelf>found).number != number", "False"),
    ("shelves are found when there are many", "        for shelf in self.all:\n            self._place(shelf)\n", ""),
    ("shelves in their order", "insort(self._numbers[space], number)",
     "self._numbers[space].append(number)"),
    ("all shelves under a short prefix", "bisect_right(numbers, last)", "bisect_left(numbers, last)"),
    ("keys of a shelf in their order", "start = bisect_left(keys, fresh[0])", "start = len(keys)"),
    ("only keys under the prefix", "cdef Py_ssize_t start = bisect_left(keys, prefix)", "cdef Py_ssize_t start = 0"),
    ("what was known, as it was changed since", "        read.update(values)\n", "        pass\n"),
    ("changes by ascending key", "if run_end(places, 0, count) == count:", "if True:"),
    ("keys that begin alike in their order", "return below((<Entry>one.entry).key, (<Entry>other.entry).key)",
     "return False"),
    ("changes of one space", "self._first(bytes((space + 1,)))", "len(self.entries)"),
    ("what was at a key that was not changed", "or (<Entry>self.entries[index]).key != key:", "or False:"),
    ("what is as it was is no change", "return not (now is entry.raw or <bytes>now == entry.raw)",
     "return now is not entry.raw"),
    ("a change that is taken back", "(<Entry>journal.pop()).now = value", "journal.pop()"),
    ("a record of bytes put is not what was before", "if entry.now is entry.raw:", "if True:"),
]

SETS = {
    "state": (STATE, ["test_ledger_state.py"]),
    "orderbook": (ORDERBOOK, ["test_orderbook_rules.py", "test_matching_examples.py", "test_orderbook_streams.py",
                              "test_orderbook_uncross.py", "test_orderbook_replay.py", "test_orderbook_model.py"]),
    "conservation": (CONSERVATION, ["test_conservation_native.py"]),
    "trie": (TRIE, ["test_trie.py"]),
    "energy": (ENERGY, [
        "test_energy_truth.py::test_energy_cannot_be_sold_twice",
        "test_placing_kernel.py::test_the_kernel_does_what_the_rules_say",
        "test_moves_kernel.py",
        "test_settlement_kernel.py",
        "test_monthly.py::test_the_kernel_counts_what_the_rules_count",
        "test_energy_truth.py::test_a_reading_above_capacity_is_refused",
        "test_energy_truth.py::test_a_lot_cannot_be_spent_twice",
        "test_certificate_operations.py::test_retired_once_and_for_good",
        "test_certificate_operations.py::test_a_block_cannot_retire_twice",
        "test_energy_truth.py::test_delivered_is_at_most_injected_less_losses",
        "test_energy_truth.py::test_a_forged_meter_is_refused",
        "test_ledger_readings.py::test_each_reason_has_its_own_code",
        "test_ledger_readings.py::test_a_report_of_many_windows_has_one_signature",
        "test_ledger_readings.py::test_of_a_report_each_reading_is_taken_or_refused",
        "test_energy_truth.py::test_a_replayed_reading_mints_nothing",
        "test_energy_truth.py::test_a_correction_counts_once",
        "test_ledger_settlement.py::test_zone_imbalance_raises_a_flag_and_a_correction_clears_it",
        "test_energy_truth.py::test_what_is_not_there_is_named",
        "test_certificate_operations.py::test_a_block_cannot_claim_more_than_the_meter_says",
        "test_certificate_claims.py::test_a_meter_with_many_trades_is_shared_in_bounded_pieces"]),
}
QUICK = 3       # of the order book's
# Those that say what is plain: of the energy set too.
KERNELS = ("contributions.pyx", "monthly.pyx", "moves.pyx", "placing.pyx", "readings.pyx", "settlement.pyx")
PROFILE = '''"""Loaded before the tests: random tests start from a fixed seed and stop at the first failing example."""
from hypothesis import Phase, settings
settings.register_profile("mutations", derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
settings.load_profile("mutations")
'''


def source_of(folder: Path, extension: str, old: str) -> Path:
    """The one source that has the text. Raises SystemExit when the table is out of date."""
    if extension == "energy":
        sources = [*sorted((folder / "gridtokenx").rglob("*.py")), *(folder / "native" / name for name in KERNELS)]
    else:
        sources = sorted((folder / "native").glob("*.p[xy]*"))
    stems: dict[str, str | tuple[str, ...]] = {"energy": "", "orderbook": "book_", "state": ("layers", "changes")}
    found = [path for path in sources
             if path.stem == extension or path.stem.startswith(stems.get(extension, extension))
             if old in path.read_text()]
    if len(found) != 1 or found[0].read_text().count(old) != 1:
        raise SystemExit(f"this stands in {[path.name for path in found]}, and should stand once in one file:\n{old}")
    return found[0]


@define
class Place:
    """Lines first .. last - 1 of a source, and what they are under each mutation."""

    first: int
    last: int
    variants: dict[int, list[str]]


def balanced(lines: list[str]) -> bool:
    text = "".join(lines)
    return text.count("(") == text.count(")")


def place_of(text: str, number: int, old: str, new: str) -> Place:
    """The whole lines that the mutation changes, no more than needed, at least one."""
    at = text.index(old)
    if old.endswith("\n"):
        old, new = old[:-1], new.removesuffix("\n")
    begin = text.rindex("\n", 0, at) + 1
    end = text.index("\n", at + len(old))
    while text.count("(", begin, end) < text.count(")", begin, end):     # a condition over several lines
        begin = text.rindex("\n", 0, begin - 1) + 1
    while text.count("(", begin, end) > text.count(")", begin, end):
        end = text.index("\n", end + 1)
    before = text[begin:end].split("\n")
    changed = (text[begin:at] + new + text[at + len(old):end]).split("\n") if new or text[begin:at].strip() else []
    first = text.count("\n", 0, begin)
    same = max((n for n in range(min(len(before), len(changed)))
                if before[len(before) - n:] == changed[len(changed) - n:]
                and balanced(before[:len(before) - n])), default=0)
    before, changed = before[: len(before) - same], changed[: len(changed) - same]
    same = max((n for n in range(min(len(before), len(changed)))
                if before[:n] == changed[:n] and balanced(before[n:])), default=0)
    before, changed, first = before[same:], changed[same:], first + same
    return Place(first, first + len(before), {number: changed})


def switched(lines: list[str], variants: dict[int, list[str]]) -> list[str]:
    """The lines under a switch: a condition or a loop's range if they head a block, else whole statements."""
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    head = re.fullmatch(r"((?:if|elif|while|for .*? in) )(.*):", " ".join(line.strip() for line in lines))
    if head:
        expression = f"({head[2]})"
        for number, changed in variants.items():
            other = re.fullmatch(r"((?:if|elif|while|for .*? in) )(.*):", " ".join(line.strip() for line in changed))
            assert other and other[1] == head[1], changed
            if head[1].startswith("for"):
                expression = f"(({other[2]}) if MUTANT == {number} else {expression})"
            else:       # of any types
                expression = f"((MUTANT == {number} and ({other[2]})) or (MUTANT != {number} and {expression}))"
        return [f"{indent}{head[1]}{expression}:"]
    assert not lines[0].lstrip().startswith(("elif", "else")), lines
    made = []
    for number, changed in variants.items():
        made += [f"{indent}{'elif' if made else 'if'} MUTANT == {number}:",
                 *(f"    {line}" for line in changed or [f"{indent}pass"])]
    return [*made, f"{indent}else:", *(f"    {line}" for line in lines)]


def combine(folder: Path, mutations: list[Mutation]) -> None:
    """Puts all mutations of the order book into its sources, each under its number in the environment's MUTANT."""
    places: dict[Path, list[Place]] = {}
    for number, (_, old, new) in enumerate(mutations, 1):
        path = source_of(folder, "orderbook", old)
        places.setdefault(path, []).append(place_of(path.read_text(), number, old, new))
    for path, found in places.items():
        lines = path.read_text().split("\n")
        found.sort(key=lambda place: (place.first, place.last))
        merged: list[Place] = []
        for place in found:
            if merged and place.first < merged[-1].last:
                whole = Place(merged[-1].first, max(merged[-1].last, place.last), {})
                for part in (merged.pop(), place):
                    for number, changed in part.variants.items():
                        whole.variants[number] = (
                            lines[whole.first:part.first] + changed + lines[part.last:whole.last])
                merged.append(whole)
            else:
                merged.append(place)
        for place in reversed(merged):
            lines[place.first:place.last] = switched(lines[place.first:place.last], place.variants)
        path.write_text("\n".join(lines))
    types = folder / "native" / "book_types.pxi"
    types.write_text(types.read_text() + '\nimport os\ncdef int MUTANT = int(os.environ.get("MUTANT", "0"))\n')


def build(folder: Path, extension: str) -> bool:
    """Builds the extension in place, without optimisation. False when it does not compile."""
    made, target = folder / "built.c", folder / "gridtokenx" / "_native"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    commands = [
        [sys.executable, "-m", "cython", "-3", "-I.", "--module-name", f"gridtokenx._native.{extension}",
         f"native/{extension}.pyx", "-o", made.name],
        [*(sysconfig.get_config_var("CC") or "cc").split(), "-shared", "-fPIC", "-O0", "-fwrapv", "-w", "-Inative",
         f"-I{sysconfig.get_path('include')}", made.name, "-o", str(target / f"{extension}{suffix}")]]
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
            return False
    return True


def run_tests(folder: Path, tests: list[str], mutant: int = 0) -> str:
    """What failed first, or '' when nothing did. In a child of this process, which has the libraries already."""
    output = folder / "output.txt"
    child = os.fork()
    if not child:
        signal.alarm(TIMEOUT_S)
        with output.open("wb") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        os.chdir(folder)
        os.environ |= {"PYTHONPATH": f"{folder}{os.pathsep}{folder / 'tests'}", "MUTANT": str(mutant)}
        sys.path[:] = [str(folder), str(folder / "tests"),
                       *(entry for entry in sys.path if not entry.startswith(str(ROOT / "tests")))]
        code = 99
        try:
            code = int(pytest.main(["-x", "-q", "-p", "mutation_profile", "-p", "no:cacheprovider", "--tb=no",
                                    *(f"tests/{name}" for name in tests)]))
        finally:
            sys.stdout.flush()
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGALRM:
        return f"no end after {TIMEOUT_S} s"
    if not status:
        return ""
    failed = [line.split("::")[1].split(" - ")[0] for line in output.read_text(errors="replace").splitlines()
              if line.startswith(("FAILED", "ERROR")) and "::" in line]
    return failed[0] if failed else f"exit {status}"


def prepare(folder: Path, extension: str, mutations: list[Mutation], tests: list[str]) -> None:
    """A scratch copy of the tree whose tests pass, the order book with all mutations built in."""
    for name in ("gridtokenx", "native", "tests", "docs", "testnet"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("run", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "tests" / "mutation_profile.py").write_text(PROFILE)
    types = folder / "native" / "book_types.pxi"
    types.write_text(types.read_text().replace("inline __attribute__((always_inline))", "inline"))
    files = [str(source_of(folder, extension, old).relative_to(folder)) for _, old, _ in mutations]
    if extension == "orderbook":
        combine(folder, mutations)
    if extension != "energy" and not build(folder, extension):
        raise SystemExit("the sources as they are do not compile")
    if failure := run_tests(folder, tests):
        raise SystemExit(f"the sources as they are fail: {failure}")
    (folder / "ready").write_text("\n".join(files))


def attempt(folder: Path, extension: str, mutations: list[Mutation], number: int, tests: list[str]) -> tuple[str, str]:
    """(file, test that caught it or '') of one mutation."""
    rule, old, new = mutations[number - 1]
    path = folder / (folder / "ready").read_text().split("\n")[number - 1]
    name = path.name
    if extension == "orderbook":        # what takes long to import and to run only when the others saw nothing
        return name, run_tests(folder, tests[:QUICK], number) or run_tests(folder, tests[QUICK:], number)
    before = path.read_text()
    path.write_text(before.replace(old, new))
    built = folder / "gridtokenx" / "_native" / f"{path.stem}{sysconfig.get_config_var('EXT_SUFFIX')}"
    whole = built.read_bytes() if path.suffix == ".pyx" else b""
    try:
        if path.suffix != ".py" and not build(folder, path.stem if whole else extension):
            raise SystemExit(f"{rule}: does not compile")
        return name, run_tests(folder, tests)
    finally:
        path.write_text(before)
        if whole:
            built.unlink()              # a library that is open must not be written over
            built.write_bytes(whole)


def page_of(table: str, mutations: list[Mutation]) -> str:
    """Rows of docs/mutations.md."""
    lines = ["| rule | source | noticed by |", "|---|---|---|"]
    for _, line in sorted({int(line[:3]): line for line in table.splitlines()}.items()):
        name = mutations[int(line[:3]) - 1][0]
        file, caught = line[13 + max(50, len(name)):].split(maxsplit=1)
        noticed = caught[:caught.rindex(" s")].rsplit(None, 1)[0]
        lines.append(f"| {name} | `{file}` | `{noticed.split('[')[0]}` |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extension", choices=SETS)
    parser.add_argument("--only", default="", help="only rules with this word in their name")
    parser.add_argument("--resume", type=Path, help="keep the work here, and go on with what is there")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no other after so long")
    parser.add_argument("--markdown", action="store_true", help="print the table of --resume as in docs/mutations.md")
    options = parser.parse_args()
    mutations, tests = SETS[options.extension]
    if options.markdown:
        print(page_of((options.resume / f"{options.extension}.txt").read_text(), mutations))
        return
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) if options.resume is None else options.resume
        folder, table = kept / options.extension, kept / f"{options.extension}.txt"
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            table.write_text("")
            prepare(folder, options.extension, mutations, tests)
        known = {int(line[:3]) for line in table.read_text().splitlines()}
        chosen = [number for number, mutation in enumerate(mutations, 1) if options.only in mutation[0]]
        for number in chosen:
            if number in known or time.monotonic() - begun > 60 * options.minutes:
                continue
            since = time.monotonic()
            file, caught = attempt(folder, options.extension, mutations, number, tests)
            line = (f"{number:3} {'caught' if caught else 'MISSED'}  {mutations[number - 1][0]:50} {file:20} "
                    f"{caught or '-':60} {time.monotonic() - since:4.0f} s")
            print(line, flush=True)
            with table.open("a") as out:
                out.write(line + "\n")
        done = {int(line[:3]): line for line in table.read_text().splitlines()}
    tried = [number for number in chosen if number in done]
    missed = [mutations[number - 1][0] for number in tried if " MISSED " in done[number]]
    print(f"{len(tried) - len(missed)} of {len(tried)} caught" + (f"; missed: {', '.join(missed)}" if missed else "")
          + (f"; {len(chosen) - len(tried)} to go" if len(tried) < len(chosen) else ""))
    raise SystemExit(2 if len(tried) < len(chosen) else bool(missed))


if __name__ == "__main__":
    main()
