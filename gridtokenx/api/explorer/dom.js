// Elements from plain calls; text is always text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
export const s = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

export const link = (to, ...children) => h("a", { href: `#/${to}` }, ...children);

// A panel with a heading; `extra` stands beside the heading.
export function panel(title, { id, extra, wide } = {}, ...children) {
  return h(
    "section",
    { class: wide ? "panel wide" : "panel", id, "aria-label": title },
    h("div", { class: "head" }, h("h2", {}, title), extra ?? null),
    ...children,
  );
}

// Columns are [title, class]; rows are arrays of text or elements.
export function table(caption, columns, rows, empty) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            row.map((cell, at) => h("td", { class: columns[at][1] }, cell)),
          ),
        ),
      ),
    ),
  );
}

// Names and values, one beside the other; pairs without a value are left out.
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

export const short = (text) => (text.length > 20 ? `${text.slice(0, 10)}…${text.slice(-6)}` : text);

// A whole hash or address for screen readers and copying, a short one for the eye.
export const hash = (text) => h("span", { class: "hash", title: text }, short(text));
