// Starts the page, follows the address after #, and draws one page at a time.

import { accountPage } from "./account.js";
import { alertText } from "./alerts.js";
import { Problem } from "./api.js";
import { blockPage, searchPage, transactionPage } from "./chain.js";
import { h } from "./dom.js";
import { Feed } from "./feed.js";
import { applyTheme, drawHeader } from "./header.js";
import { t } from "./i18n.js";
import { Live } from "./live.js";
import { overview } from "./overview.js";
import { windowPage } from "./window.js";

const PAGES = {
  "": overview,
  block: blockPage,
  transaction: transactionPage,
  account: accountPage,
  window: windowPage,
  search: searchPage,
};
const RETRY_MS = 2_000;

const main = document.querySelector("#main");
const said = document.querySelector("#said");
let connection = "lost";
let showHeader = () => {};
let leave = () => {};
let turn = 0;

const feed = new Feed((state) => {
  if (state === "lost" && connection === "open") said.textContent = t("connection.lost");
  connection = state;
  showHeader(connection);
});
const live = new Live(feed);

// Tables hold still while the keyboard is in them.
function update(element, content) {
  if (!element.contains(document.activeElement)) {
    element.replaceChildren(
      ...[content].flat(3).filter((child) => child !== null && child !== undefined && child !== false),
    );
  }
}

async function draw({ moved } = {}) {
  leave();
  const mine = ++turn;
  const [, name = "", argument = ""] = location.hash.split("/");
  const page = PAGES[name] ?? PAGES[""];
  const stops = [];
  leave = () => {
    for (const stop of stops.splice(0)) stop();
  };
  const root = h("div", { class: "page" });
  main.replaceChildren(root);
  const context = {
    live,
    feed,
    root,
    update,
    onLeave: (stop) => {
      if (mine === turn) stops.push(stop);
      else stop();
    },
    on: (event, act) => {
      live.addEventListener(event, act);
      context.onLeave(() => live.removeEventListener(event, act));
    },
  };
  if (moved) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  try {
    await page(context, decodeURIComponent(argument));
  } catch (error) {
    if (mine !== turn) return;
    root.append(
      h(
        "p",
        { class: "halted", role: "alert" },
        t("trouble", { what: error.message }),
        error instanceof Problem && error.details.what_to_do ? ` ${error.details.what_to_do}` : "",
      ),
    );
    if (!(error instanceof Problem))
      setTimeout(() => {
        if (mine === turn) draw();
      }, RETRY_MS);
  }
}

function again() {
  showHeader = drawHeader(live, again);
  showHeader(connection);
  draw();
}

applyTheme();
showHeader = drawHeader(live, again);
showHeader(connection);
main.replaceChildren(h("p", { class: "empty" }, t("loading")));
while (live.status === null) {
  try {
    await live.start();
  } catch {
    await new Promise((resolve) => {
      setTimeout(resolve, RETRY_MS);
    });
  }
}
for (const event of ["block", "status"]) live.addEventListener(event, () => showHeader(connection));
live.addEventListener("alerts", () => {
  said.textContent = live.fresh.map((alert) => alertText(live, alert)).join("; ");
});
addEventListener("hashchange", () => draw({ moved: true }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    document.querySelector("#search").focus();
  }
});
again();
