// One account: money, licence and energy, its bills by day with every line, orders, trades, certificates.

import { get, lookUp } from "./api.js";
import { facts, h, link, panel, table } from "./dom.js";
import { count, dayName, dayOf, dateTime, kwh, price, rate, thb, windowName } from "./format.js";
import { t, word } from "./i18n.js";

const PAGE = 25;
const AGAIN_MS = 3_000;
const SETTLED_MS = 2 * 3600 * 1000; // after so long a window is settled

// A list that is read on page by page at the reader's wish.
function listed(path, query, caption, columns, row, empty) {
  const body = h("div");
  const rows = [];
  const more = h("button", { type: "button", onclick: () => read() }, t("more"));
  let cursor = null;
  async function read() {
    const page = await get(path, { ...query, limit: PAGE, cursor });
    rows.push(...page.items.map(row));
    cursor = page.next;
    more.hidden = cursor === null;
    body.replaceChildren(table(caption, columns, rows, empty));
  }
  return { element: h("div", {}, body, more), read };
}

const sumOf = (lines) => lines.reduce((sum, line) => sum + line.amount_uthb, 0);

const lineRow = (line) => [
  word("rule", line.rule_name),
  kwh(line.quantity_wh, 3),
  line.rate === undefined || line.rate === null
    ? ""
    : line.rule_name.endsWith("VAT")
      ? `${line.rate / 10_000} %`
      : rate(line.rate),
  thb(line.amount_uthb),
];
const lineColumns = () => [
  [t("bill.line"), ""],
  [t("energy"), "number"],
  [t("rate"), "number"],
  [t("amount"), "number"],
];

function billOf(bill) {
  if (!bill.windows.length) return h("p", { class: "empty" }, t("bill.none"));
  return [
    facts([
      [t("bill.pays"), thb(bill.pays_uthb)],
      [t("energy.withdrawn"), kwh(bill.withdrawn_wh, 3)],
      [t("energy.injected"), kwh(bill.injected_wh, 3)],
      [t("bill.windows"), count(bill.windows.length)],
      [t("bill.estimated"), bill.estimated ? count(bill.estimated) : null],
      [t("bill.corrected"), bill.corrected ? count(bill.corrected) : null],
      [t("dues"), bill.dues_uthb ? thb(bill.dues_uthb) : null],
    ]),
    table(t("bill.rules"), lineColumns(), bill.rules.map(lineRow), t("none")),
    [...bill.windows]
      .reverse()
      .map((entry) =>
        h(
          "details",
          {},
          h("summary", {}, `${windowName(entry.window)} · ${t("meter")} ${entry.meter} · ${thb(sumOf(entry.lines))}`),
          table(windowName(entry.window), lineColumns(), entry.lines.map(lineRow), t("none")),
        ),
      ),
  ];
}

export async function accountPage({ live, root, on, onLeave, update }, address) {
  const found = await lookUp(`/accounts/${address}`);
  if (found === null) {
    root.append(h("h1", {}, t("account")), h("p", { class: "empty" }, t("account.none", { address })));
    return;
  }
  const { participant } = found;
  const [money, bill] = [h("div"), h("div")];
  let day = dayOf(live.marketMs - SETTLED_MS);
  const dayShown = h("output", { class: "chosen" });
  async function drawBill() {
    dayShown.textContent = dayName(day);
    const asked = day;
    const answer = await get(`/accounts/${address}/bills`, { day });
    if (asked === day) update(bill, billOf(answer));
  }
  const step = (by) => () => {
    day += by;
    drawBill();
  };
  const days = h(
    "div",
    { class: "chooser" },
    h("button", { type: "button", "aria-label": t("day.earlier"), onclick: step(-1) }, "‹"),
    dayShown,
    h("button", { type: "button", "aria-label": t("day.later"), onclick: step(1) }, "›"),
  );

  function drawMoney({ account, energy, dues }) {
    update(money, [
      facts([
        [t("money.free"), thb(account.balance_uthb)],
        [t("money.bids"), thb(account.bids_uthb)],
        [t("money.proceeds"), thb(account.proceeds_uthb)],
        [t("money.collateral"), thb(account.collateral_uthb)],
        [t("money.total"), thb(account.total_uthb)],
        ...dues.map((due) => [t("dues.to", { utility: due.utility }), thb(due.amount_uthb)]),
        [t("nonce"), count(account.nonce)],
      ]),
      h("h3", {}, t("energy.since")),
      facts(
        ["minted", "delivered", "received", "burned", "supplied", "taken"].map((name) => [
          t(`energy.${name}`),
          kwh(energy[`${name}_wh`]),
        ]),
      ),
    ]);
  }

  const orders = listed(
    `/accounts/${address}/orders`,
    {},
    t("orders"),
    [
      [t("order"), ""],
      [t("window"), ""],
      [t("side"), ""],
      [t("unit.price"), "number"],
      [t("left"), "number"],
    ],
    (order) => [
      order.order,
      link(`window/${order.window}`, windowName(order.window)),
      t(order.side ? "sell" : "buy"),
      price(order.price_mthb_kwh),
      `${kwh(order.remaining_wh)} / ${kwh(order.quantity_wh)}`,
    ],
    t("orders.none"),
  );
  const mine = new Set(participant?.meters ?? []);
  const trades = listed(
    `/accounts/${address}/trades`,
    {},
    t("trades"),
    [
      [t("block"), "number"],
      [t("window"), ""],
      [t("side"), ""],
      [t("from.to"), ""],
      [t("unit.price"), "number"],
      [t("energy"), "number"],
      [t("value"), "number"],
    ],
    (trade) => [
      link(`block/${trade.height}`, count(trade.height)),
      link(`window/${trade.window}`, windowName(trade.window)),
      t(mine.has(trade.buy_meter) ? "buy" : "sell"),
      `${live.zoneName(trade.sell_zone)} → ${live.zoneName(trade.buy_zone)}`,
      price(trade.price_mthb_kwh),
      kwh(trade.delivered_wh),
      thb(trade.value_uthb),
    ],
    t("trades.none"),
  );
  const certificates = listed(
    `/accounts/${address}/certificates`,
    {},
    t("certificates"),
    [
      [t("certificate"), "number"],
      [t("state"), ""],
      [t("source"), ""],
      [t("zone"), ""],
      [t("window"), ""],
      [t("avoided"), "number"],
      [t("retired.for"), ""],
    ],
    (entry) => [
      count(entry.certificate),
      word("certificate", entry.status),
      word("source", entry.source),
      live.zoneName(entry.zone),
      `${windowName(entry.first_window)} … ${windowName(entry.last_window)}`,
      `${count(Math.round(entry.avoided_g / 1000))} kg`,
      entry.beneficiary ? `${entry.beneficiary}: ${entry.purpose}` : "",
    ],
    t("certificates.none"),
  );

  root.append(
    h("h1", {}, participant?.licence || t("account")),
    h("p", { class: "whole" }, found.account.address),
    participant &&
      facts([
        [t("licence"), participant.licence],
        [t("zone"), live.zoneName(participant.zone)],
        [t("meters"), participant.meters.join(", ")],
        [t("expires"), dateTime(participant.expires_ms)],
      ]),
    h(
      "div",
      { class: "panels" },
      panel(t("money"), { id: "money" }, money),
      panel(t("bill"), { id: "bill", extra: days }, bill),
      panel(t("orders"), { id: "orders" }, orders.element),
      panel(t("certificates"), { id: "certificates" }, certificates.element),
      panel(t("trades"), { id: "trades", wide: true }, trades.element),
    ),
  );
  drawMoney(found);
  await Promise.all([drawBill(), orders.read(), trades.read(), certificates.read()]);

  let read = Date.now();
  on("block", async () => {
    if (Date.now() - read < AGAIN_MS) return;
    read = Date.now();
    const now = await lookUp(`/accounts/${address}`).catch(() => null);
    if (now) drawMoney(now);
  });
  onLeave(() => {
    day = -1;
  });
}
