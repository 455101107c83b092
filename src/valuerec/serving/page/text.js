// Text as it is shown: ids and names are somebody else's and may hold anything.

const ODD = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const HIDDEN = /[\u200b-\u200f\u2060]/g;

const code = (character) => `[U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;

/** A name with control characters and those that turn the direction of text written out. */
export const visibleName = (text) => String(text).replace(ODD, code);

/** An id: besides, marks without width are written out, so that two ids that differ look different. */
export const visibleId = (text) => visibleName(text).replace(HIDDEN, code);

const DONE = { click: "clicked", purchase: "bought" };

/** What was done in an event of a kind: of a shop's own kinds, their name. */
export const doneTo = (kind) => DONE[kind] ?? visibleName(kind);

/** An item's name, or its id where it has none. */
export const nameFor = ({ id, name }) => (name && name.trim() ? visibleName(name) : visibleId(id));

/** At most `most` characters, for labels that are read aloud. */
export function short(text, most = 60) {
  const characters = Array.from(text);
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : text;
}

/** An element with attributes, properties of `on…` as listeners, and children; strings become text, never HTML. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const NS = "http://www.w3.org/2000/svg";

/** An SVG element with attributes. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A number with a fixed count of digits after the point; a dash where there is none. */
export const fixed = (number, digits) => (Number.isFinite(number) ? number.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−") : "–");

/** A probability as percent, with three digits that say something. */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const value = share * 100;
  if (value === 0) return "0 %";
  if (value >= 100) return "100 %";
  if (value < 0.001) return "< 0.001 %";
  return `${value >= 10 ? value.toFixed(1) : value >= 1 ? value.toFixed(2) : value.toFixed(3)} %`;
}

/** "1 item", "2 items". */
export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
