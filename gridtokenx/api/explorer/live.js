// What the whole page follows: status, authorities, the latest blocks, trades and alerts. Tells of each as an event.

import { get } from "./api.js";
import { WINDOW_S } from "./format.js";

const BLOCKS = 120;
const TRADES = 40;
const ALERTS = 40;
const STATUS_MS = 1_000;
const LATE_MS = 20_000;

export class Live extends EventTarget {
  status = null;
  authorities = [];
  blocks = []; // oldest first
  trades = []; // newest first
  alerts = []; // newest first
  zones = [];
  #missed = new Map(); // authority: how many views it had missed, and when that grew last
  #read = 0;
  #waiting = null;

  constructor(feed) {
    super();
    this.feed = feed;
  }

  async start() {
    const [status, blocks, authorities, trades, grid] = await Promise.all([
      get("/status"),
      get("/blocks", { limit: 100 }),
      get("/authorities"),
      get("/energy/trades", { limit: TRADES }),
      get("/grid/status"),
    ]);
    Object.assign(this, { status, blocks: blocks.items, authorities: authorities.items, trades: trades.items });
    this.#note();
    this.zones = grid.zones;
    this.alerts = grid.flags.slice(0, ALERTS).map((flag) => ({
      ...flag,
      alert: flag.cleared ? "imbalance_cleared" : "imbalance",
      height: flag.cleared || flag.height,
    }));
    const after = this.blocks.at(-1)?.height;
    this.feed.subscribe({ channel: "blocks" }, ({ block }) => this.#block(block), after);
    this.feed.subscribe({ channel: "trades" }, ({ trades: made }) => this.#trades(made), after);
    this.feed.subscribe({ channel: "alerts" }, ({ alerts, height }) => this.#alerts(alerts, height), after);
  }

  // Whether views passed without an authority's block lately; how many did in all says little about now.
  late(name) {
    return Date.now() - (this.#missed.get(name)?.grew ?? 0) < LATE_MS;
  }

  #note() {
    for (const { name, late_views: views } of this.authorities) {
      const before = this.#missed.get(name);
      if (before?.views !== views) this.#missed.set(name, { views, grew: before ? Date.now() : 0 });
    }
  }

  // The market's clock at the newest block, ms.
  get marketMs() {
    const { market_time_s: then, timestamp_ms: at, market_rate: faster } = this.status;
    const newest = this.blocks.at(-1)?.timestamp_ms ?? at;
    return then * 1000 + Math.max(0, newest - at) * faster;
  }

  // The next window open for trading: its gate closes one window before it delivers.
  get nextWindow() {
    return Math.floor(this.marketMs / 1000 / WINDOW_S) + 2;
  }

  zoneName(zone) {
    return this.zones[zone]?.name ?? String(zone);
  }

  #tell(name) {
    this.dispatchEvent(new Event(name));
  }

  #block(block) {
    if (block.height <= (this.blocks.at(-1)?.height ?? -1)) return;
    this.blocks.push(block);
    this.blocks.splice(0, this.blocks.length - BLOCKS);
    this.#tell("block");
    this.#refresh();
  }

  #trades(made) {
    this.trades = [...[...made].reverse(), ...this.trades].slice(0, TRADES);
    this.#tell("trades");
  }

  #alerts(alerts, height) {
    this.alerts = [...alerts.map((alert) => ({ ...alert, height })).reverse(), ...this.alerts].slice(0, ALERTS);
    this.fresh = alerts;
    this.#tell("alerts");
  }

  // Status and authorities follow the blocks, at most once a second.
  #refresh() {
    if (this.#waiting) return;
    this.#waiting = setTimeout(
      async () => {
        this.#waiting = null;
        this.#read = Date.now();
        try {
          const [status, authorities] = await Promise.all([get("/status"), get("/authorities")]);
          Object.assign(this, { status, authorities: authorities.items });
          this.#note();
          this.#tell("status");
        } catch {
          /* the next block asks again; a lost connection is shown by the feed */
        }
      },
      Math.max(0, STATUS_MS - (Date.now() - this.#read)),
    );
  }
}
