// What is looked at, and the same as the address's hash, so that a view can be shared.

export const VIEWS = ["explore", "replay", "model"];
export const LISTS = ["relevance", "blend", "value"];
export const EVENTS = ["click", "purchase"]; // those the service knows
export const LENGTHS = [5, 10, 20, 50];

export const start = () => ({
  view: "explore",
  session: [], // {item, event}
  penalty: null, // null: the model's own
  blend: 0.5,
  k: 10,
  excludeSeen: false,
  compare: "unpenalised", // or "before"
  list: "value", // which list narrow screens show
  recorded: null, // id of the replayed session; null: the first
  step: 0,
});

function number(text, low, high, otherwise) {
  const value = Number(text);
  return text !== null && text.trim() !== "" && Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : otherwise;
}

const oneOf = (text, allowed, otherwise) => (allowed.includes(text) ? text : otherwise);

/** The state a hash stands for; whatever it lacks or has wrong is as at the start. */
export function parse(hash) {
  const asked = new URLSearchParams(hash.replace(/^#/, ""));
  const state = start();
  state.view = oneOf(asked.get("view"), VIEWS, state.view);
  for (const [name, item] of asked) {
    if (item !== "" && EVENTS.includes(name)) state.session.push({ item, event: name });
  }
  state.penalty = number(asked.get("penalty"), 0, 100, null);
  state.blend = number(asked.get("blend"), 0, 1, state.blend);
  state.k = oneOf(Number(asked.get("k")), LENGTHS, state.k);
  state.excludeSeen = asked.get("unseen") === "1";
  state.compare = oneOf(asked.get("compare"), ["unpenalised", "before"], state.compare);
  state.list = oneOf(asked.get("list"), LISTS, state.list);
  state.recorded = asked.get("recorded");
  state.step = Math.round(number(asked.get("step"), 0, 1e6, 0));
  return state;
}

/** The hash of a state. */
export function hashOf(state) {
  const told = new URLSearchParams();
  told.set("view", state.view);
  for (const { item, event } of state.session) told.append(event, item);
  if (state.penalty !== null) told.set("penalty", String(state.penalty));
  told.set("blend", String(state.blend));
  told.set("k", String(state.k));
  if (state.excludeSeen) told.set("unseen", "1");
  told.set("compare", state.compare);
  told.set("list", state.list);
  if (state.recorded !== null) {
    told.set("recorded", state.recorded);
    told.set("step", String(state.step));
  }
  return `#${told}`;
}
