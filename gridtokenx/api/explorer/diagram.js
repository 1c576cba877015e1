// The grid as a one-line diagram: a bus bar per zone, a line per corridor with what flows over it for a window.

import { h, s, table } from "./dom.js";
import { kwh, percent, price } from "./format.js";
import { t } from "./i18n.js";

const WIDTH = 460;
const HEIGHT = 440;
const BAR = 44;

// Thailand's seven planning zones roughly where they lie; any other zones stand on a circle.
const PLACES = {
  North: [130, 50],
  Northeast: [350, 80],
  Central: [220, 170],
  East: [370, 270],
  Bangkok: [235, 280],
  West: [85, 240],
  South: [110, 385],
};

export function places(zones) {
  if (zones.every(({ name }) => name in PLACES)) return zones.map(({ name }) => PLACES[name]);
  return zones.map((_, at) => {
    const angle = (2 * Math.PI * at) / zones.length - Math.PI / 2;
    return [WIDTH / 2 + 170 * Math.cos(angle), HEIGHT / 2 + 165 * Math.sin(angle)];
  });
}

export const binding = (corridor) => corridor.forward_binding || corridor.backward_binding;

// What is used of the direction in which energy flows, from 0 to 1.
export function used({ flow_wh: flow, forward_wh: forward, backward_wh: backward }) {
  const most = flow >= 0 ? forward : backward;
  return most ? Math.min(1, Math.abs(flow) / most) : Number(flow !== 0);
}

function corridorLine(corridor, from, to) {
  const [[x1, y1], [x2, y2]] = corridor.flow_wh >= 0 ? [from, to] : [to, from];
  const kind = binding(corridor) ? "corridor full" : corridor.flow_wh ? "corridor flows" : "corridor";
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const angle = (Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI;
  return s(
    "g",
    { class: kind },
    s("line", { x1, y1, x2, y2, "stroke-width": 2 + 6 * used(corridor) }),
    corridor.flow_wh !== 0 &&
      s("path", { class: "arrow", d: "M-7-7 8 0-7 7z", transform: `translate(${x} ${y}) rotate(${angle})` }),
    corridor.flow_wh !== 0 &&
      s(
        "text",
        { class: "flow", x: x + 10, y: y - 8 },
        `${kwh(Math.abs(corridor.flow_wh))}${binding(corridor) ? ` · ${t("corridor.full")}` : ""}`,
      ),
  );
}

function zoneBar(zone, [x, y], shown) {
  return s(
    "g",
    { class: zone.flagged ? "zone flagged" : "zone" },
    s("line", { class: "bus", x1: x - BAR, y1: y, x2: x + BAR, y2: y }),
    s("text", { class: "name", x, y: y - 10 }, zone.flagged ? `⚠ ${zone.name}` : zone.name),
    s("text", { class: "price", x, y: y + 21 }, price(shown)),
  );
}

// `prices`: by zone what energy costs there now, mTHB/kWh or null.
export function diagram(grid, prices) {
  const at = places(grid.zones);
  const full = grid.corridors.filter(binding);
  const nameOf = (zone) => grid.zones[zone]?.name ?? zone;
  const words = t("diagram.label", {
    prices: grid.zones.map((zone) => `${zone.name} ${price(prices[zone.zone])}`).join(", "),
    full: full.map((line) => `${nameOf(line.first)}–${nameOf(line.second)}`).join(", ") || t("none"),
  });
  const picture = s(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words, class: "diagram" },
    grid.corridors.map((line) => corridorLine(line, at[line.first], at[line.second])),
    grid.zones.map((zone) => zoneBar(zone, at[zone.zone], prices[zone.zone])),
  );
  const rows = grid.corridors.map((line) => [
    line.flow_wh >= 0
      ? `${nameOf(line.first)} → ${nameOf(line.second)}`
      : `${nameOf(line.second)} → ${nameOf(line.first)}`,
    kwh(Math.abs(line.flow_wh)),
    percent(used(line)),
    binding(line) ? t("corridor.full") : "",
  ]);
  return [
    picture,
    h(
      "details",
      {},
      h("summary", {}, t("corridors")),
      table(
        t("corridors"),
        [
          [t("corridor"), ""],
          [t("flow"), "number"],
          [t("used"), "number"],
          ["", "warn"],
        ],
        rows,
        t("none"),
      ),
    ),
  ];
}
