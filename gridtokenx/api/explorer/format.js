// Numbers and times as people read them; the market's times are Bangkok's.

import { language } from "./i18n.js";

export const WINDOW_S = 900;

const locale = () => (language() === "th" ? "th-TH-u-ca-gregory-nu-latn" : "en-GB");

const formats = new Map();
function format(kind, options) {
  const key = `${locale()}${kind.name}${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new kind(locale(), options));
  return formats.get(key);
}

export const count = (value) => format(Intl.NumberFormat, {}).format(value);
const decimals = (value, digits) =>
  format(Intl.NumberFormat, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);

export const inKwh = (wh, digits = 1) => decimals(wh / 1000, digits);
export const kwh = (wh, digits = 1) => `${inKwh(wh, digits)} kWh`;
export const thb = (uthb) => `${decimals(uthb / 1e6, 2)} THB`;
export const price = (mthb) => (mthb === null || mthb === undefined ? "–" : decimals(mthb / 1000, 2));
export const rate = (uthbPerKwh) => decimals(uthbPerKwh / 1e6, 4);
export const percent = (part) => format(Intl.NumberFormat, { style: "percent", maximumFractionDigits: 1 }).format(part);
export const milliseconds = (ms) =>
  ms === null || ms === undefined ? "–" : ms < 10_000 ? `${count(Math.round(ms))} ms` : `${decimals(ms / 1000, 1)} s`;

const bangkok = (options) => format(Intl.DateTimeFormat, { timeZone: "Asia/Bangkok", ...options });
const DAY = { day: "numeric", month: "short" };
const MINUTE = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

export const marketTime = (ms) => bangkok({ weekday: "short", ...DAY, year: "numeric", ...MINUTE }).format(ms);
export const clockTime = (ms) => bangkok({ ...MINUTE, second: "2-digit" }).format(ms);
export const dateTime = (ms) => bangkok({ ...DAY, year: "numeric", ...MINUTE, second: "2-digit" }).format(ms);
export const windowClock = (window) => bangkok(MINUTE).format(window * WINDOW_S * 1000);
export const windowName = (window) =>
  `${bangkok(DAY).format(window * WINDOW_S * 1000)} ${windowClock(window)}–${windowClock(window + 1)}`;
export const dayOf = (ms) => Math.floor((ms / 1000 + 7 * 3600) / 86_400);
export const dayName = (day) =>
  bangkok({ weekday: "long", ...DAY, year: "numeric" }).format((day * 86_400 - 7 * 3600) * 1000);
