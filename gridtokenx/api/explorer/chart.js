// Charts by uPlot, each in a figure whose caption says in words what is drawn: that is what a screen reader gets.

import { h } from "./dom.js";
import { count, dateTime, price, windowClock } from "./format.js";
import { t } from "./i18n.js";

const HEIGHT = 220;

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const axis = (more) => ({
  stroke: colour("quiet"),
  grid: { stroke: colour("line"), width: 1 },
  ticks: { stroke: colour("line"), width: 1 },
  font: "12px system-ui, sans-serif",
  ...more,
});

// `options(uPlot)` are uPlot's without width and height. `set(data, caption)` draws.
function figure(options) {
  const host = h("div", { class: "plot", "aria-hidden": "true" });
  const caption = h("figcaption");
  const element = h("figure", { class: "chart" }, host, caption);
  const library = window.uPlot;
  if (!library) host.append(h("p", { class: "empty" }, t("chart.missing")));
  let plot = null;
  const fit = new ResizeObserver(() => plot?.setSize({ width: host.clientWidth, height: HEIGHT }));
  fit.observe(host);
  return {
    element,
    set(data, text) {
      caption.textContent = text;
      if (!library || !host.isConnected) return;
      if (plot) plot.setData(data);
      else plot = new library({ width: host.clientWidth || 320, height: HEIGHT, ...options(library) }, data, host);
    },
    destroy() {
      fit.disconnect();
      plot?.destroy();
    },
  };
}

const fromZero = (_, __, most) => [0, (most || 1) * 1.1];

// ------------------------------------------------------------ depth

// `[price mTHB/kWh, Wh, orders]` of both sides to uPlot's columns: prices, energy bid at or above, offered at or below.
export function depthColumns(bids, asks) {
  const sum = (levels) => {
    let total = 0;
    return new Map(levels.map(([at, wh]) => [at, (total += wh) / 1000]));
  };
  const bid = sum([...bids].sort((a, b) => b[0] - a[0]));
  const ask = sum([...asks].sort((a, b) => a[0] - b[0]));
  const prices = [...new Set([...bid.keys(), ...ask.keys()])].sort((a, b) => a - b);
  const bestBid = Math.max(...bid.keys());
  const bestAsk = Math.min(...ask.keys());
  const fill = (levels, order, inside) => {
    let held = null;
    const found = new Map();
    for (const at of order) {
      held = levels.get(at) ?? held;
      found.set(at, inside(at) ? held : null);
    }
    return prices.map((at) => found.get(at));
  };
  return [
    prices.map((at) => at / 1000),
    fill(bid, [...prices].reverse(), (at) => at <= bestBid),
    fill(ask, prices, (at) => at >= bestAsk),
  ];
}

export function depthChart() {
  return figure((uPlot) => ({
    scales: { x: { time: false }, y: { range: fromZero } },
    axes: [axis({ label: t("unit.price"), labelSize: 18 }), axis({ label: t("unit.energy"), labelSize: 18 })],
    series: [
      { label: t("unit.price"), value: (_, value) => (value === null ? "–" : price(value * 1000)) },
      {
        label: t("bids"),
        stroke: colour("buy"),
        fill: `${colour("buy")}33`,
        width: 2,
        points: { show: false },
        paths: uPlot.paths.stepped({ align: -1 }),
      },
      {
        label: t("offers"),
        stroke: colour("sell"),
        fill: `${colour("sell")}33`,
        width: 2,
        points: { show: false },
        paths: uPlot.paths.stepped({ align: 1 }),
      },
    ],
  }));
}

// ------------------------------------------------------------ prices and energy over time

// Bars of energy with a line of prices; `name` says what stands at an x.
function pricesAndEnergy(x, times, name) {
  return figure((uPlot) => ({
    scales: { x: { time: false }, y: {}, kwh: { range: fromZero } },
    axes: [
      axis({ label: x, labelSize: 18, values: (_, values) => values.map(times), space: 70 }),
      axis({ label: t("unit.price"), labelSize: 18 }),
      axis({ label: t("unit.energy"), labelSize: 18, scale: "kwh", side: 1, grid: { show: false } }),
    ],
    series: [
      { label: x, value: (_, value) => (value === null ? "–" : name(value)) },
      {
        label: t("unit.energy"),
        scale: "kwh",
        stroke: colour("bar"),
        fill: `${colour("bar")}66`,
        width: 1,
        points: { show: false },
        paths: uPlot.paths.bars({ size: [0.8, 24] }),
      },
      { label: t("unit.price"), stroke: colour("accent"), width: 2, points: { size: 4 }, spanGaps: true },
    ],
  }));
}

export const historyChart = () =>
  pricesAndEnergy(
    t("time"),
    (seconds) => clock(seconds),
    (s) => dateTime(s * 1000),
  );
export const windowsChart = () => pricesAndEnergy(t("window"), (window) => windowClock(window), windowClock);

const clock = (seconds) =>
  dateTime(seconds * 1000)
    .split(", ")
    .at(-1);

// ------------------------------------------------------------ blocks

export function intervalChart() {
  return figure((uPlot) => ({
    scales: { x: { time: false }, y: { range: fromZero }, count: { range: fromZero } },
    axes: [
      axis({ label: t("block"), labelSize: 18, incrs: [1, 2, 5, 10, 20, 50, 100] }),
      axis({ label: t("unit.seconds"), labelSize: 18 }),
      axis({ label: t("transactions"), labelSize: 18, scale: "count", side: 1, grid: { show: false } }),
    ],
    series: [
      { label: t("block"), value: (_, value) => (value === null ? "–" : count(value)) },
      {
        label: t("transactions"),
        scale: "count",
        stroke: colour("bar"),
        fill: `${colour("bar")}66`,
        width: 1,
        points: { show: false },
        paths: uPlot.paths.bars({ size: [0.8, 24] }),
      },
      { label: t("interval"), stroke: colour("accent"), width: 2, points: { show: false } },
    ],
  }));
}
