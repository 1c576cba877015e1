// English and Thai. `t(key, { name: value })` puts values where the text has {name}.

import { english } from "./words_en.js";
import { thai } from "./words_th.js";

const WORDS = { en: english, th: thai };
const KEPT = "gridtokenx.language";

const kept = localStorage.getItem(KEPT);
let chosen = kept in WORDS ? kept : navigator.language.startsWith("th") ? "th" : "en";
document.documentElement.lang = chosen;

export const language = () => chosen;

export function choose(next) {
  chosen = next;
  localStorage.setItem(KEPT, next);
  document.documentElement.lang = next;
}

export function t(key, values = {}) {
  const text = WORDS[chosen][key];
  if (text === undefined) throw new Error(`no text for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// The text of a code of the interface, such as a phase or a kind; the code itself where there is none.
export const word = (group, code) => WORDS[chosen][`${group}.${code}`] ?? String(code);
