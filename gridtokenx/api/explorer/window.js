// One delivery window: its market while it trades, and where its energy came from and went once it is settled.

import { get } from "./api.js";
import { diagram } from "./diagram.js";
import { facts, h, link, panel, s, table } from "./dom.js";
import { count, kwh, marketTime, price, rate, windowName } from "./format.js";
import { t, word } from "./i18n.js";
import { Market } from "./market.js";

const AGAIN_MS = 3_000;
const SETTLED = new Set(["settled", "final"]);
const IN = ["minted", "supplied"];
const OUT = ["consumed", "losses", "taken"];

// Two bars of the same length when the window is exact: what came in, and where it went.
function balanceBars(totals) {
  const most = Math.max(1, ...[IN, OUT].map((names) => names.reduce((sum, name) => sum + totals[`${name}_wh`], 0)));
  const bar = (names, y) => {
    let x = 0;
    return names.map((name) => {
      const width = (totals[`${name}_wh`] / most) * 600;
      const part = s(
        "rect",
        { class: `part ${name}`, x, y, width, height: 26 },
        s("title", {}, `${t(`energy.${name}`)} ${kwh(totals[`${name}_wh`])}`),
      );
      x += width;
      return part;
    });
  };
  const words = (names) => names.map((name) => `${t(`energy.${name}`)} ${kwh(totals[`${name}_wh`])}`).join(", ");
  return h(
    "figure",
    { class: "chart" },
    s(
      "svg",
      { viewBox: "0 0 600 62", class: "bars", role: "img", "aria-label": `${words(IN)}; ${words(OUT)}` },
      bar(IN, 0),
      bar(OUT, 34),
    ),
    h(
      "figcaption",
      {},
      [...IN, ...OUT].map((name) =>
        h("span", { class: `key ${name}` }, `${t(`energy.${name}`)} ${kwh(totals[`${name}_wh`])} `),
      ),
    ),
  );
}

function balance(found) {
  if (!found.zones.length)
    return h("p", { class: "empty" }, t("balance.later", { time: marketTime(found.deadline_ms) }));
  const cell = (entry, name) => kwh(entry[`${name}_wh`]);
  return [
    h("p", { class: found.exact ? "good" : "halted" }, t(found.exact ? "balance.exact" : "balance.inexact")),
    balanceBars(found.totals),
    table(
      t("balance"),
      [
        [t("zone"), ""],
        ...[...IN, ...OUT].map((name) => [t(`energy.${name}`), "number"]),
        [t("residual"), "number"],
        [t("meters"), "number"],
        [t("price.short"), "number"],
        [t("price.long"), "number"],
      ],
      found.zones.map((entry) => [
        h("span", { class: entry.flagged ? "warn" : "" }, entry.flagged ? `⚠ ${entry.name}` : entry.name),
        ...[...IN, ...OUT].map((name) => cell(entry, name)),
        cell(entry, "residual"),
        entry.estimated
          ? `${count(entry.meters)} (${t("estimated", { count: count(entry.estimated) })})`
          : count(entry.meters),
        rate(entry.short_uthb_kwh),
        rate(entry.long_uthb_kwh),
      ]),
      t("none"),
    ),
  ];
}

// The zone whose book and prices are shown first: where most was traded.
function busiest(zones, trades) {
  const sums = zones.map((entry) => entry.traded_wh);
  for (const trade of trades) sums[trade.buy_zone] += trade.delivered_wh;
  return sums.indexOf(Math.max(...sums));
}

export async function windowPage({ live, feed, root, onLeave, update }, text) {
  const window = Number(text);
  const [zoneBalances, traded, state, map] = [h("div"), h("div"), h("div"), h("div")];
  const market = new Market(feed);
  market.timeOf = (height) => live.blocks.find((block) => block.height === height)?.timestamp_ms;
  const mapPanel = panel(t("grid"), {}, map);
  let last = null;

  async function read() {
    const [settled, prices, grid, trades] = await Promise.all([
      get(`/grid/windows/${window}`),
      get("/energy/prices", { window }),
      get("/grid/status", { window }),
      get("/energy/trades", { window, limit: 50 }),
    ]);
    update(
      state,
      facts([
        [t("phase"), word("phase", settled.phase)],
        [t("readings.until"), marketTime(settled.deadline_ms)],
        [t("final.at"), marketTime(settled.final_ms)],
        [t("tariff.hours"), t(prices.rates.on_peak ? "tariff.peak" : "tariff.offpeak")],
        [t("halts"), grid.halted ? t("halted") : null],
      ]),
    );
    update(zoneBalances, balance(settled));
    const kept = !SETTLED.has(settled.phase); // afterwards the state has no more of the market but its trades
    mapPanel.hidden = !kept;
    if (kept)
      update(
        map,
        diagram(
          grid,
          prices.zones.map((entry) => entry.last_price_mthb_kwh),
        ),
      );
    update(traded, [
      kept &&
        table(
          t("prices"),
          [
            [t("zone"), ""],
            [t("last"), "number"],
            [t("low"), "number"],
            [t("high"), "number"],
            [t("energy"), "number"],
            [t("trades"), "number"],
          ],
          prices.zones.map((entry) => [
            entry.name,
            price(entry.last_price_mthb_kwh),
            price(entry.low_price_mthb_kwh),
            price(entry.high_price_mthb_kwh),
            kwh(entry.traded_wh),
            count(entry.trades),
          ]),
          t("none"),
        ),
      table(
        t("trades"),
        [
          [t("from.to"), ""],
          [t("unit.price"), "number"],
          [t("energy"), "number"],
          [t("block"), "number"],
        ],
        trades.items.map((trade) => [
          `${live.zoneName(trade.sell_zone)} → ${live.zoneName(trade.buy_zone)}`,
          price(trade.price_mthb_kwh),
          kwh(trade.delivered_wh),
          link(`block/${trade.height}`, count(trade.height)),
        ]),
        t("trades.none"),
      ),
    ]);
    last = settled.phase;
    return busiest(prices.zones, trades.items);
  }

  const zones = h(
    "select",
    { "aria-label": t("zone"), onchange: () => market.show(window, Number(zones.value)) },
    live.zones.map((entry) => h("option", { value: entry.zone }, entry.name)),
  );
  root.append(
    h("h1", {}, `${t("window")} ${windowName(window)}`),
    h(
      "p",
      { class: "chooser" },
      link(`window/${window - 1}`, `‹ ${t("window.earlier")}`),
      " ",
      link(`window/${window + 1}`, `${t("window.later")} ›`),
    ),
    h(
      "div",
      { class: "panels" },
      panel(t("state"), {}, state),
      panel(t("balance"), { wide: true, id: "balance" }, zoneBalances),
      panel(t("market"), { wide: true, id: "market", extra: zones }, market.element),
      mapPanel,
      panel(t("prices"), {}, traded),
    ),
  );
  const first = await read();
  zones.value = String(first);
  await market.show(window, first);
  const again = setInterval(() => {
    if (last !== "final") read().catch(() => {});
  }, AGAIN_MS);
  onLeave(() => {
    clearInterval(again);
    market.destroy();
  });
}
