// What stands on every page: name and state of the chain, search, language, colours.

import { h } from "./dom.js";
import { count, marketTime } from "./format.js";
import { choose, language, t } from "./i18n.js";

const KEPT = "gridtokenx.theme";
const THEMES = ["auto", "light", "dark"];

let theme = localStorage.getItem(KEPT) ?? "auto";

export function applyTheme() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

// `again()` draws the whole page anew; returns what brings the line about the chain up to date.
export function drawHeader(live, again) {
  const state = h("p", { class: "state" });
  const search = h("form", {
    role: "search",
    onsubmit: (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (text) location.hash = `#/search/${encodeURIComponent(text)}`;
    },
  });
  const field = h("input", {
    type: "search",
    id: "search",
    "aria-label": t("search"),
    placeholder: t("search.hint"),
    maxlength: 80,
    autocomplete: "off",
    spellcheck: "false",
  });
  search.append(field, h("button", {}, t("search")));
  const other = language() === "en" ? "th" : "en";
  document.querySelector("#top").replaceChildren(
    h("a", { class: "home", href: "#/" }, "GridTokenX"),
    state,
    search,
    h(
      "div",
      { class: "choices" },
      h(
        "button",
        {
          type: "button",
          lang: other,
          onclick: () => {
            choose(other);
            again();
          },
        },
        other === "th" ? "ไทย" : "English",
      ),
      h(
        "button",
        {
          type: "button",
          onclick: () => {
            theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
            localStorage.setItem(KEPT, theme);
            applyTheme();
            again();
          },
        },
        t(`theme.${theme}`),
      ),
    ),
  );
  document.querySelector("#skip").textContent = t("skip");
  document
    .querySelector("#bottom")
    .replaceChildren(t("footer"), " ", h("a", { href: "api/v1/openapi.json" }, t("footer.api")));

  return (connection) => {
    const { status, blocks } = live;
    const words = [t(`connection.${connection}`)];
    document.title = "GridTokenX";
    if (status !== null) {
      const height = count(blocks.at(-1)?.height ?? status.height);
      words.push(status.chain_name, `${t("block")} ${height}`, marketTime(live.marketMs));
      document.title = `${height} · ${status.chain_name} · GridTokenX`;
    }
    state.className = `state ${connection}`;
    state.replaceChildren(h("span", { class: "dot", "aria-hidden": "true" }), ` ${words.join(" · ")}`);
  };
}
