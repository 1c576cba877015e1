// One block, one transaction.

import { get, lookUp } from "./api.js";
import { facts, h, hash, link, panel, table } from "./dom.js";
import { count, dateTime, kwh, price, thb } from "./format.js";
import { t, word } from "./i18n.js";

export async function blockPage({ live, root }, text) {
  const block = await lookUp(`/blocks/${text}`);
  if (block === null) {
    root.append(h("h1", {}, `${t("block")} ${text}`), h("p", { class: "empty" }, t("block.none")));
    return;
  }
  const { height } = block;
  root.append(
    h("h1", {}, `${t("block")} ${count(height)}`),
    h(
      "p",
      { class: "chooser" },
      height > 0 && link(`block/${height - 1}`, `‹ ${count(height - 1)}`),
      " ",
      link(`block/${height + 1}`, `${count(height + 1)} ›`),
    ),
    h(
      "div",
      { class: "panels" },
      panel(
        t("block"),
        {},
        facts([
          [t("producer"), block.proposer],
          [t("time"), dateTime(block.timestamp_ms)],
          [t("view"), count(block.view)],
          [t("certified"), t(block.certified ? "certified.own" : "certified.later")],
          [t("hash"), hash(block.hash)],
          [t("parent"), height ? h("a", { href: `#/block/${height - 1}` }, hash(block.parent)) : "–"],
          [t("state.root"), hash(block.state_root)],
        ]),
      ),
      panel(
        t("prices"),
        {},
        facts([
          [t("trades"), count(block.trades)],
          [t("energy"), kwh(block.traded_wh)],
          [t("value"), thb(block.value_uthb)],
        ]),
        table(
          t("prices"),
          [
            [t("zone"), ""],
            [t("energy"), "number"],
            [t("unit.price"), "number"],
          ],
          block.zones
            .map(([wh, uthb], zone) => [live.zoneName(zone), kwh(wh), wh ? price(uthb / wh) : "–"])
            .filter(([, , shown]) => shown !== "–"),
          t("trades.none"),
        ),
      ),
      panel(
        t("transactions"),
        { wide: true },
        table(
          t("transactions"),
          [
            [t("transaction"), ""],
            [t("result"), ""],
          ],
          block.transaction_ids.map((id, at) => [
            link(`transaction/${id}`, hash(id)),
            block.codes[at] ? `${t("failed")} ${block.codes[at]}` : t("ok"),
          ]),
          t("none"),
        ),
      ),
    ),
  );
}

export async function transactionPage({ root, live, on }, id) {
  const body = h("div", { class: "panels" });
  root.append(h("h1", {}, t("transaction")), h("p", { class: "whole" }, id), body);
  let state = null;
  async function read() {
    const found = await lookUp(`/transactions/${id}`);
    state = found?.state ?? "unknown";
    if (found === null) {
      body.replaceChildren(h("p", { class: "empty" }, t("transaction.none")));
      return;
    }
    body.replaceChildren(
      panel(
        t("state"),
        {},
        facts([
          [t("state"), word("state", found.state)],
          [t("result"), found.code_name],
          [t("reason"), found.reason],
          [t("block"), found.height === null ? null : link(`block/${found.height}`, count(found.height))],
          [t("sender"), found.sender && link(`account/${found.sender}`, hash(found.sender))],
          [t("nonce"), found.nonce === null ? null : count(found.nonce)],
          [t("fee"), found.fee_uthb === null ? null : thb(found.fee_uthb)],
          [t("valid.until"), found.valid_until_height === null ? null : count(found.valid_until_height)],
        ]),
      ),
      panel(
        t("operations"),
        { wide: true },
        table(
          t("operations"),
          [
            [t("operation"), ""],
            [t("fields"), ""],
            [t("result"), ""],
          ],
          (found.operations ?? []).map((operation, at) => [
            operation.name,
            h("code", {}, JSON.stringify(operation.fields)),
            found.receipts?.[at] ? `${found.receipts[at].name} ${JSON.stringify(found.receipts[at].data)}` : "–",
          ]),
          t("none"),
        ),
      ),
    );
  }
  await read();
  on("block", () => {
    if (state !== "final") read().catch(() => {});
  });
}

const TO = { block: "block", transaction: "transaction", window: "window" };

// Where a thing that was found is shown.
export const placeOf = ({ kind, id, account }) =>
  kind in TO ? `${TO[kind]}/${id}` : account ? `account/${account}` : "";

export async function searchPage({ root }, text) {
  const { items } = await get("/search", { q: text });
  if (items.length === 1 && placeOf(items[0])) {
    location.replace(`#/${placeOf(items[0])}`);
    return;
  }
  root.append(
    h("h1", {}, t("search.for", { text })),
    table(
      t("search.for", { text }),
      [
        [t("what"), ""],
        ["", ""],
        ["", ""],
      ],
      items.map((item) => [
        word("kind", item.kind),
        link(placeOf(item), item.id.length > 20 ? hash(item.id) : item.id),
        item.text,
      ]),
      t("search.none"),
    ),
  );
}
