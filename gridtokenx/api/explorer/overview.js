// The first page: what the network is doing now, at one look.

import { alertRows } from "./alerts.js";
import { get } from "./api.js";
import { intervalChart, windowsChart } from "./chart.js";
import { binding, diagram } from "./diagram.js";
import { facts, h, link, panel, table } from "./dom.js";
import { clockTime, count, inKwh, kwh, milliseconds, price, rate, thb, windowClock, windowName } from "./format.js";
import { t } from "./i18n.js";
import { Market } from "./market.js";

const LISTED = 10;
const HALF_DAY = 48;
const STATS_MS = 5_000;

const quantile = (values, part) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) * part)] ?? null;

export function intervals(blocks) {
  return blocks.slice(1).map((block, at) => block.timestamp_ms - blocks[at].timestamp_ms);
}

export async function overview({ live, feed, root, on, onLeave, update }) {
  const figures = h("div", { class: "figures" });
  const grid = h("div");
  const people = h("div");
  const blocks = h("div");
  const trades = h("div");
  const alerts = h("div");
  const tariff = h("div");
  const market = new Market(feed);
  const chain = intervalChart();
  const day = windowsChart();
  market.timeOf = (height) => live.blocks.find((block) => block.height === height)?.timestamp_ms;

  let window = live.nextWindow;
  let zone = 0;
  let pinned = false;
  let prices = [];
  let gridNow = null;
  let stops = [];

  // ------------------------------------------------------------ the chosen window

  const name = h("output", { class: "chosen" });
  const zones = h(
    "select",
    {
      "aria-label": t("zone"),
      onchange: () => {
        zone = Number(zones.value);
        market.show(window, zone);
      },
    },
    live.zones.map((entry) => h("option", { value: entry.zone }, entry.name)),
  );
  const follow = h(
    "button",
    {
      type: "button",
      onclick: () => {
        pinned = false;
        choose(live.nextWindow);
      },
    },
    t("window.follow"),
  );
  const step = (by) => () => {
    pinned = true;
    choose(window + by);
  };
  const chooser = h(
    "div",
    { class: "chooser" },
    h("button", { type: "button", "aria-label": t("window.earlier"), onclick: step(-1) }, "‹"),
    name,
    h("button", { type: "button", "aria-label": t("window.later"), onclick: step(1) }, "›"),
    follow,
    zones,
  );

  async function choose(next) {
    window = next;
    for (const stop of stops.splice(0)) stop();
    name.replaceChildren(link(`window/${window}`, windowName(window)));
    follow.setAttribute("aria-pressed", String(!pinned));
    stops = [
      feed.subscribe({ channel: "prices", window }, (message) => {
        prices = message.zones;
        drawGrid();
      }),
      feed.subscribe({ channel: "grid", window }, (message) => {
        gridNow = message;
        drawGrid();
      }),
    ];
    market.show(window, zone).catch(() => {}); // what is lost with a connection comes again with the next window
    try {
      const { rates } = await get("/energy/prices", { window: next });
      tariff.replaceChildren(
        facts([
          [t("tariff.retail"), `${rate(rates.energy_uthb_kwh[0] + rates.ft_uthb_kwh)} ${t("unit.price")}`],
          [t("tariff.buyback"), `${rate(rates.buy_back_uthb_kwh)} ${t("unit.price")}`],
          [t("tariff.hours"), t(rates.on_peak ? "tariff.peak" : "tariff.offpeak")],
        ]),
      );
    } catch {
      /* the tariffs of the window before stay */
    }
  }

  function drawGrid() {
    if (gridNow) {
      const full = gridNow.corridors.filter(binding).length;
      update(grid, [
        gridNow.halted && h("p", { class: "halted" }, t("halted")),
        diagram(
          gridNow,
          prices.map((entry) => entry.last_price_mthb_kwh ?? entry.ask_mthb_kwh ?? entry.bid_mthb_kwh),
        ),
        h("p", { class: "note" }, t("diagram.note", { window: windowName(gridNow.window), full: count(full) })),
      ]);
    }
  }

  // ------------------------------------------------------------ the chain

  function drawFigures() {
    const { status } = live;
    const took = intervals(live.blocks);
    const spanS = Math.max(1, (live.blocks.at(-1).timestamp_ms - live.blocks[0].timestamp_ms) / 1000);
    const sum = (field) => live.blocks.reduce((total, block) => total + block[field], 0);
    const made = live.blocks.reduce((total, block) => total + block.transaction_ids.length, 0);
    const tile = (label, value, note) =>
      h(
        "div",
        { class: "tile" },
        h("span", { class: "label" }, label),
        h("strong", {}, value),
        h("span", { class: "note" }, note),
      );
    const measured = status.confirmation_p50_ms !== null;
    update(figures, [
      tile(t("block"), count(live.blocks.at(-1).height), clockTime(live.blocks.at(-1).timestamp_ms)),
      measured
        ? tile(
            t("confirmation"),
            milliseconds(status.confirmation_p50_ms),
            t("confirmation.note", {
              p99: milliseconds(status.confirmation_p99_ms),
              count: count(status.confirmations),
            }),
          )
        : tile(
            t("interval"),
            milliseconds(quantile(took, 0.5)),
            t("interval.note", {
              p99: milliseconds(quantile(took, 0.99)),
              count: count(took.length),
            }),
          ),
      tile(
        t("transactions"),
        `${(made / spanS).toFixed(1)} /s`,
        t("pending", { count: count(status.pending_transactions) }),
      ),
      tile(
        t("trades"),
        count(sum("trades")),
        t("trades.note", { energy: kwh(sum("traded_wh")), value: thb(sum("value_uthb")) }),
      ),
      tile(
        t("delivering"),
        windowClock(Math.floor(live.marketMs / 900_000)),
        t("clock.note", { rate: count(status.market_rate) }),
      ),
    ]);
    chain.set(
      [
        live.blocks.slice(1).map((block) => block.height),
        live.blocks.slice(1).map((block) => block.transaction_ids.length),
        took.map((ms) => ms / 1000),
      ],
      t("interval.caption", {
        p50: milliseconds(quantile(took, 0.5)),
        most: milliseconds(Math.max(...took, 0)),
        count: count(took.length),
      }),
    );
  }

  function drawBlocks() {
    update(
      blocks,
      table(
        t("blocks"),
        [
          [t("block"), "number"],
          [t("producer"), ""],
          [t("time"), ""],
          [t("transactions"), "number"],
          [t("trades"), "number"],
          [t("unit.energy"), "number"],
        ],
        live.blocks
          .slice(-LISTED)
          .reverse()
          .map((block) => [
            link(`block/${block.height}`, count(block.height)),
            block.proposer,
            clockTime(block.timestamp_ms),
            count(block.transaction_ids.length),
            count(block.trades),
            inKwh(block.traded_wh),
          ]),
        t("none"),
      ),
    );
  }

  function drawPeople() {
    const made = new Map();
    for (const { proposer } of live.blocks) made.set(proposer, (made.get(proposer) ?? 0) + 1);
    const newest = live.blocks.at(-1)?.proposer;
    update(
      people,
      table(
        t("authorities"),
        [
          [t("authority"), ""],
          [t("made", { count: live.blocks.length }), "number"],
          [t("state"), ""],
          [t("missed"), "number"],
          [t("heard"), "number"],
        ],
        live.authorities.map((entry) => {
          const late = entry.silent
            ? "silent"
            : live.late(entry.name)
              ? "late"
              : entry.name === live.status.leader
                ? "leads"
                : "well";
          const judged =
            entry.silent === undefined || entry.silent === null ? (made.get(entry.name) ? "produces" : "unseen") : late;
          return [
            link(`account/${entry.public}`, entry.name),
            `${count(made.get(entry.name) ?? 0)}${entry.name === newest ? " ●" : ""}`,
            h("span", { class: `mark ${judged}` }, t(`authority.${judged}`)),
            entry.late_views === undefined || entry.late_views === null ? "–" : count(entry.late_views),
            entry.heard_ms_ago === undefined || entry.heard_ms_ago === null ? "–" : milliseconds(entry.heard_ms_ago),
          ];
        }),
        t("none"),
      ),
    );
  }

  function drawTrades() {
    update(
      trades,
      table(
        t("trades"),
        [
          [t("window"), ""],
          [t("from.to"), ""],
          [t("unit.price"), "number"],
          [t("unit.energy"), "number"],
          [t("block"), "number"],
        ],
        live.trades
          .slice(0, LISTED)
          .map((trade) => [
            link(`window/${trade.window}`, windowClock(trade.window)),
            trade.sell_zone === trade.buy_zone
              ? live.zoneName(trade.buy_zone)
              : `${live.zoneName(trade.sell_zone)} → ${live.zoneName(trade.buy_zone)}`,
            price(trade.price_mthb_kwh),
            inKwh(trade.delivered_wh),
            link(`block/${trade.height}`, count(trade.height)),
          ]),
        t("trades.none"),
      ),
    );
  }

  const drawAlerts = () => update(alerts, alertRows(live, live.alerts));

  // ------------------------------------------------------------ windows around now

  let read = 0;
  async function drawDay() {
    if (Date.now() - read < STATS_MS) return;
    read = Date.now();
    try {
      const { windows } = await get("/energy/stats", { windows: 2 * HALF_DAY });
      day.set(
        [
          windows.map((entry) => entry.window),
          windows.map((entry) => entry.traded_wh / 1000),
          windows.map((entry) => entry.average_price_uthb_kwh / 1e6),
        ],
        t("windows.caption", {
          count: count(windows.length),
          energy: kwh(windows.reduce((sum, entry) => sum + entry.traded_wh, 0)),
        }),
      );
    } catch {
      /* asked again with a later block */
    }
  }

  root.append(
    h("h1", { class: "unseen" }, t("overview")),
    figures,
    h(
      "div",
      { class: "panels" },
      panel(t("grid"), { id: "grid" }, grid),
      panel(t("market"), { id: "market", extra: chooser }, market.element, tariff),
      panel(t("authorities"), { id: "authorities" }, people),
      panel(t("alerts"), { id: "alerts" }, alerts),
      panel(t("blocks"), { id: "blocks" }, blocks),
      panel(t("trades"), { id: "trades" }, trades),
      panel(t("chain"), { id: "chain" }, chain.element),
      panel(t("windows"), { id: "windows" }, day.element),
    ),
  );

  const whole = () => {
    drawFigures();
    drawBlocks();
  };
  on("block", () => {
    whole();
    drawDay();
    if (!pinned && live.nextWindow !== window) choose(live.nextWindow);
  });
  on("status", () => {
    drawFigures();
    drawPeople();
  });
  on("trades", drawTrades);
  on("alerts", drawAlerts);
  onLeave(() => {
    for (const stop of stops) stop();
    for (const part of [market, chain, day]) part.destroy();
  });
  whole();
  drawPeople();
  drawTrades();
  drawAlerts();
  drawDay();
  zone = busiest(await get("/energy/prices"));
  zones.value = String(zone);
  await choose(window);
}

// Where most is traded: the book that is shown first.
function busiest({ zones }) {
  return zones.reduce((best, entry) => (entry.traded_wh > best.traded_wh ? entry : best), zones[0]).zone;
}
