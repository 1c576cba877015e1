// Alerts of the grid in words.

import { link, table } from "./dom.js";
import { count, kwh, marketTime, windowName } from "./format.js";
import { t } from "./i18n.js";

export function alertText(live, alert) {
  const zone = live.zoneName(alert.zone);
  switch (alert.alert) {
    case "imbalance":
      return t("alert.imbalance", {
        zone,
        energy: kwh(Math.abs(alert.residual_wh)),
        tolerance: kwh(alert.tolerance_wh),
      });
    case "imbalance_cleared":
      return t("alert.cleared", { zone });
    case "halted":
      return alert.until_ms === null
        ? t("alert.halted")
        : t("alert.halted_until", { time: marketTime(alert.until_ms) });
    case "resumed":
      return t("alert.resumed");
    case "capacity_changed":
      return t("alert.capacity", {
        corridor: alert.corridor,
        forward: kwh(alert.forward_wh),
        backward: kwh(alert.backward_wh),
      });
    case "authorities_changed":
      return t("alert.authorities");
    default:
      return alert.alert;
  }
}

export function alertRows(live, alerts) {
  return table(
    t("alerts"),
    [
      [t("block"), "number"],
      [t("window"), ""],
      [t("what"), ""],
    ],
    alerts
      .slice(0, 8)
      .map((alert) => [
        link(`block/${alert.height}`, count(alert.height)),
        alert.window === undefined ? "–" : link(`window/${alert.window}`, windowName(alert.window)),
        alertText(live, alert),
      ]),
    t("alerts.none"),
  );
}
