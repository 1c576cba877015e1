// One window's market, live: depth of a zone's book and the history of prices.

import { get } from "./api.js";
import { depthChart, depthColumns, historyChart } from "./chart.js";
import { h } from "./dom.js";
import { count, kwh, price } from "./format.js";
import { t } from "./i18n.js";

const MAX_POINTS = 500;

// `zone` null is all zones, for the history only: a book belongs to a zone.
export class Market {
  #feed;
  #stops = [];
  #depth = depthChart();
  #history = historyChart();
  #levels = [new Map(), new Map()];
  #points = [];
  #turn = 0;

  constructor(feed) {
    this.#feed = feed;
    this.element = h("div", { class: "pair" }, this.#depth.element, this.#history.element);
  }

  async show(window, zone) {
    this.#stop();
    const turn = ++this.#turn;
    this.#levels = [new Map(), new Map()];
    this.#points = [];
    this.#drawDepth();
    this.#stops.push(this.#feed.subscribe({ channel: "depth", window, zone }, (message) => this.#book(message)));
    const found = await get(`/energy/history/${window}`, { zone, blocks: MAX_POINTS });
    if (turn !== this.#turn) return; // another window was chosen meanwhile
    this.#points = found.items;
    this.#drawHistory();
    this.#stops.push(
      this.#feed.subscribe(
        { channel: "trades", window, zone },
        ({ height, trades }) => {
          const prices = trades.map((trade) => trade.price_mthb_kwh);
          this.#points.push({
            height,
            timestamp_ms: this.timeOf?.(height) ?? Date.now(),
            last_price_mthb_kwh: prices.at(-1),
            traded_wh: trades.reduce((sum, trade) => sum + trade.delivered_wh, 0),
            trades: trades.length,
          });
          this.#points.splice(0, this.#points.length - MAX_POINTS);
          this.#drawHistory();
        },
        found.height,
      ),
    );
  }

  #book({ type, bids, asks }) {
    [bids, asks].forEach((changes, side) => {
      if (type === "snapshot") this.#levels[side].clear();
      for (const [at, wh, orders] of changes) {
        if (orders) this.#levels[side].set(at, [at, wh, orders]);
        else this.#levels[side].delete(at);
      }
    });
    this.#drawDepth();
  }

  #drawDepth() {
    const [bids, asks] = this.#levels.map((levels) => [...levels.values()]);
    const sum = (levels, at) => levels.reduce((total, level) => total + level[at], 0);
    const best = (levels, choose) => (levels.length ? price(choose(...levels.map(([at]) => at))) : "–");
    this.#depth.set(
      depthColumns(bids, asks),
      t("depth.caption", {
        bid: best(bids, Math.max),
        ask: best(asks, Math.min),
        bids: kwh(sum(bids, 1)),
        asks: kwh(sum(asks, 1)),
        orders: count(sum(bids, 2) + sum(asks, 2)),
      }),
    );
  }

  #drawHistory() {
    const points = this.#points;
    const wh = points.reduce((total, point) => total + point.traded_wh, 0);
    this.#history.set(
      [
        points.map((point) => point.timestamp_ms / 1000),
        points.map((point) => point.traded_wh / 1000),
        points.map((point) => point.last_price_mthb_kwh / 1000),
      ],
      points.length
        ? t("history.caption", {
            last: price(points.at(-1).last_price_mthb_kwh),
            energy: kwh(wh),
            low: price(Math.min(...points.map((point) => point.last_price_mthb_kwh))),
            high: price(Math.max(...points.map((point) => point.last_price_mthb_kwh))),
          })
        : t("history.none"),
    );
  }

  #stop() {
    for (const stop of this.#stops.splice(0)) stop();
  }

  destroy() {
    this.#turn += 1;
    this.#stop();
    this.#depth.destroy();
    this.#history.destroy();
  }
}
