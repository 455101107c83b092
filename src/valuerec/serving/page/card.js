// The model: its facts, its metrics as a table, its card. All text, whatever the card holds; no HTML is ever parsed.

import { fixed, make, visibleName } from "./text.js";

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*/g;

function inline(text) {
  const parts = [];
  let last = 0;
  for (const found of text.matchAll(INLINE)) {
    parts.push(text.slice(last, found.index));
    parts.push(found[1] === undefined ? make("strong", {}, found[2]) : make("code", {}, found[1]));
    last = found.index + found[0].length;
  }
  parts.push(text.slice(last));
  return parts.filter((part) => part !== "");
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function table(lines) {
  const [head, ruler, ...body] = lines;
  const ruled = ruler && /^[\s|:-]+$/.test(ruler);
  const rows = ruled ? body : lines;
  return wide(
    "Table of the card",
    make(
      "table",
      {},
      ...(ruled ? [make("thead", {}, make("tr", {}, ...cells(head).map((cell) => make("th", { scope: "col" }, ...inline(cell)))))] : []),
      make(
        "tbody",
        {},
        ...rows.map((line) => {
          const [first, ...rest] = cells(line);
          return make("tr", {}, make("th", { scope: "row" }, ...inline(first)), ...rest.map((cell) => make("td", {}, ...inline(cell))));
        }),
      ),
    ),
  );
}

/** Something that may be wider than the page: it scrolls by itself, by keyboard too. */
export const wide = (label, element) => make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, element);

/** The part of Markdown that cards use (headings, lists, tables, fences, `code`, **strong**) as elements. */
export function markdown(source, level = 3) {
  const lines = visibleLines(source);
  const out = [];
  const take = (test) => {
    const taken = [];
    while (lines.length && test(lines[0])) taken.push(lines.shift());
    return taken;
  };
  while (lines.length) {
    const line = lines[0];
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (line.trim() === "") lines.shift();
    else if (line.startsWith("```")) {
      lines.shift();
      const code = take((each) => !each.startsWith("```"));
      lines.shift();
      out.push(wide("Code of the card", make("pre", {}, make("code", {}, code.join("\n")))));
    } else if (heading) {
      lines.shift();
      out.push(make(`h${Math.min(6, heading[1].length + level - 1)}`, {}, ...inline(heading[2])));
    } else if (line.startsWith("|")) out.push(table(take((each) => each.startsWith("|"))));
    else if (/^[-*]\s/.test(line)) {
      out.push(make("ul", {}, ...take((each) => /^[-*]\s/.test(each)).map((each) => make("li", {}, ...inline(each.slice(2))))));
    } else out.push(make("p", {}, ...inline([lines.shift(), ...take((each) => /^[^\s#|`*-]/.test(each))].join(" "))));
  }
  return out;
}

const visibleLines = (source) => String(source).split(/\r?\n/).map((line) => visibleName(line.replace(/\t/g, "  ")));

const isGroup = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** Metrics {split: {kind: {name: number}}} as a table, or null where there are none. */
export function metricsTable(metrics) {
  const rows = [];
  for (const [split, kinds] of Object.entries(metrics ?? {})) {
    if (!isGroup(kinds)) continue;
    for (const [kind, values] of Object.entries(kinds)) {
      if (isGroup(values) && Object.values(values).every((value) => value === null || typeof value === "number")) rows.push([split, kind, values]);
    }
  }
  if (!rows.length) return null;
  const names = [...new Set(rows.flatMap(([, , values]) => Object.keys(values)))];
  return wide(
    "Metrics",
    make(
      "table",
      { id: "metrics" },
      make("caption", {}, "Metrics, ranks over the whole catalogue"),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "split, events"), ...names.map((name) => make("th", { scope: "col" }, visibleName(name))))),
      make(
        "tbody",
        {},
        ...rows.map(([split, kind, values]) =>
          make(
            "tr",
            {},
            make("th", { scope: "row" }, visibleName(`${split}, ${kind}`)),
            ...names.map((name) => make("td", {}, fixed(values[name], 4))),
          ),
        ),
      ),
    ),
  );
}

const told = (value) =>
  isGroup(value)
    ? Object.entries(value).map(([name, each]) => `${name} ${told(each)}`).join(", ")
    : Array.isArray(value)
      ? value.map(told).join(" to ")
      : typeof value === "number"
        ? value.toLocaleString("en", { maximumSignificantDigits: 6 })
        : String(value);

/** The model's facts as a list of terms. */
export function facts(model) {
  const shown = [
    ["Name", model.name],
    ["Version", model.version],
    ["Backbone", model.backbone],
    ["Method", model.method],
    ["Items", model.items],
    ["Values", model.has_values ? "yes: a critic's, with uncertainty" : "none: this model has no critic"],
    ["Penalty λ", model.penalty],
    ["Rewards", model.rewards],
    ["Certain bounds of a value", model.bounds],
  ].filter(([, value]) => value !== null && value !== undefined && !(isGroup(value) && !Object.keys(value).length));
  return make("dl", { class: "facts" }, ...shown.map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, make("bdi", {}, visibleName(told(value)))))));
}
