// The page: what is looked at (state.js) is asked of the service (service.js) and shown (rows.js, replay.js, card.js).

import { facts, markdown, metricsTable } from "./card.js";
import { combobox } from "./combobox.js";
import { showChoice, showNext, showTimeline } from "./replay.js";
import { LABEL, List, axis } from "./rows.js";
import { valueScale } from "./scale.js";
import { Question, Trouble, request, useKey } from "./service.js";
import { EVENTS, LISTS, hashOf, parse } from "./state.js";
import { count, doneTo, make, nameFor, short, visibleId, visibleName } from "./text.js";

const DEPTH = 100; // ranks that are known beyond the items shown
const PENALTY = 20; // the paper's best λ, where a model names none
const SETTLE = 120; // milliseconds a slider rests before the service is asked
const at = (id) => document.getElementById(id);

let state = parse(location.hash);
let model = null;
let sessions = null;
let answer = null; // what is shown: {lists, ranks, unpenalised, next, nextItem, view, unknown, fallback}
let reference = null; // the ranks that "the view before" compares with
let sliding = false; // within one gesture at a slider the reference stays
let settle;
const names = new Map();
const looked = new Set(); // ids whose name was asked for

const lists = new Map(
  [...document.querySelectorAll(".column")].map((column) => {
    const name = column.dataset.list;
    return [name, new List(name, column.querySelector("ol"), (item) => state.view === "explore" && addItem(item))];
  }),
);
for (const list of lists.values()) list.onpoint = (id) => lists.forEach((each) => each.mark(id));

const nameOf = (id) => nameFor({ id, name: names.get(id) });
const learn = (items) => items.forEach(({ id, item, name }) => name && names.set(id ?? item, name));
const penalty = () => state.penalty ?? model?.penalty ?? PENALTY;
const used = () => (model?.has_values ? LISTS : ["relevance"]);
const recordedNow = () => sessions?.find(({ id }) => id === state.recorded) ?? sessions?.[0] ?? null;
const stepNow = () => Math.min(state.step, recordedNow()?.events.length ?? 0);
const nextNow = () => (state.view === "replay" ? (recordedNow()?.events[stepNow()] ?? null) : null);
const historyNow = () => (state.view === "replay" ? (recordedNow()?.events.slice(0, stepNow()) ?? []) : state.session);

function say(text) {
  at("live").textContent = text;
}

// Trouble: each question reports how it fares; the worst is told.

const faring = new Map();
let countdown;

function report(name) {
  return (how) => {
    faring.set(name, how);
    showTrouble();
  };
}

function showTrouble() {
  const all = [...faring.values()];
  const bad = all.find(({ trouble }) => trouble);
  const slow = all.find(({ slow }) => slow);
  at("columns").setAttribute("aria-busy", String(Boolean(faring.get("lists")?.busy)));
  document.body.classList.toggle("stale", Boolean(bad));
  clearInterval(countdown);
  at("trouble").hidden = !bad && !slow;
  if (!bad && !slow) at("trouble-text").textContent = "";
  else tell(at("trouble-text"), bad ? bad.trouble.message : "The service is slow; still waiting for its answer.");
  at("key-form").hidden = !bad?.trouble.wantsKey;
  at("again").hidden = !bad;
  at("trouble-when").textContent = "";
  if (bad?.seconds) {
    const due = Date.now() + bad.seconds * 1000;
    const count = () => {
      const left = Math.ceil((due - Date.now()) / 1000);
      at("trouble-when").textContent = left > 0 ? `Asking again in ${left} s.` : "Asking again.";
    };
    count();
    countdown = setInterval(count, 500);
  }
}

/** Set a text only where it differs, so that it is read aloud once. */
function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const askModel = new Question(report("model"));
const askSessions = new Question(report("sessions"));
const askLists = new Question(report("lists"));

at("again").addEventListener("click", () => {
  for (const [name, question] of [["model", askModel], ["sessions", askSessions], ["lists", askLists]]) {
    if (faring.get(name)?.trouble) question.again();
  }
});
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value.trim());
  at("key").value = "";
  at("again").click();
});

// Asking

function loadModel() {
  askModel.ask(async (signal) => {
    const found = await request("v1/model", { signal });
    if (signal.aborted) return;
    model = found;
    showModel();
    showFrame();
    loadLists();
  });
}

function loadSessions() {
  askSessions.ask(async (signal) => {
    const found = await request("v1/sessions?limit=50", { signal });
    if (signal.aborted) return;
    sessions = (found.sessions ?? []).filter(({ events }) => Array.isArray(events) && events.length);
    for (const { events } of sessions) learn(events);
    showChoice(at("recorded"), sessions);
    showFrame();
    if (state.view === "replay") loadLists();
  });
}

/** Ask for the lists of what is looked at, all in one request, so that they are of one model. */
function loadLists() {
  clearTimeout(settle);
  if (!model || state.view === "model") return;
  if (state.view === "replay" && !recordedNow()) return;
  const asked = { session: historyNow().map(({ item, event }) => (EVENTS.includes(event) ? { item, event } : item)), exclude_seen: state.excludeSeen, k: DEPTH };
  const now = penalty();
  const wanted = used().map((rank_by) => ({ ...asked, rank_by, penalty: now, blend: state.blend }));
  const free = model.has_values && state.compare === "unpenalised" && now > 0;
  if (free) wanted.push(...["blend", "value"].map((rank_by) => ({ ...asked, rank_by, penalty: 0, blend: state.blend })));
  const next = nextNow();
  const view = state.view;
  askLists.ask(async (signal) => {
    const [found, scored] = await Promise.all([
      request("v1/recommend/batch", { body: { requests: wanted }, signal }),
      next && request("v1/score", { body: { session: asked.session, items: [next.item], rank_by: "relevance", penalty: now }, signal }),
    ]);
    if (signal.aborted) return;
    const answers = checked(found, wanted.length);
    const main = answers.slice(0, used().length);
    const ranksOf = (each) => new Map(each.items.map(({ id }, index) => [id, index + 1]));
    answers.forEach(({ items }) => learn(items));
    if (scored) learn(scored.items ?? []);
    answer = {
      lists: Object.fromEntries(main.map(({ items }, index) => [used()[index], items])),
      ranks: Object.fromEntries(main.map((each, index) => [used()[index], ranksOf(each)])),
      unpenalised: free ? { blend: ranksOf(answers[3]), value: ranksOf(answers[4]) } : null,
      next,
      nextItem: scored?.items?.[0] ?? null,
      view,
      unknown: main[0].unknown_items ?? [],
      fallback: main.map(({ fallback }) => fallback).find(Boolean) ?? null,
    };
    showLists();
    say(at("summary").textContent);
    lookUpNames();
    const version = main[0].model?.version;
    if (version && version !== model.version) loadModel();
  });
}

function checked(found, length) {
  const answers = found.answers;
  if (!Array.isArray(answers) || answers.length !== length) throw new Trouble("The service's answer cannot be read: answers are missing.");
  for (const each of answers) {
    if (each?.error) throw new Trouble(`The service refused the request: ${each.error.message}`, { again: false });
    if (!Array.isArray(each?.items)) throw new Trouble("The service's answer cannot be read: it has no items.");
  }
  return answers;
}

/** Names of the session's items that no answer has brought, where the catalogue has them. */
async function lookUpNames() {
  for (const { item } of historyNow()) {
    if (names.has(item) || looked.has(item) || item.length > 200) continue;
    looked.add(item);
    try {
      const found = await request(`v1/items?${new URLSearchParams({ query: item, limit: "20" })}`);
      learn((found.items ?? []).filter(({ id }) => id === item));
      if (names.has(item)) showFrame();
    } catch (error) {
      if (!(error instanceof Trouble)) throw error; // without an answer the id is shown
    }
  }
}

// Changing what is looked at

/** Take over part of a state. `push`: a step that the browser's Back undoes; `wait`: a slider moves. */
function change(part, { push = false, wait = false } = {}) {
  if (!sliding) reference = answer?.ranks ?? null;
  sliding = wait;
  state = { ...state, ...part };
  const hash = hashOf(state);
  if (hash !== location.hash) history[push ? "pushState" : "replaceState"](null, "", hash);
  showFrame();
  clearTimeout(settle);
  if (wait) {
    redraw();
    settle = setTimeout(loadLists, SETTLE);
  } else loadLists();
}

function addItem({ id, name }) {
  if (name) names.set(id, name);
  change({ session: [...state.session, { item: id, event: "click" }] }, { push: true });
  say(`Added ${short(nameOf(id))}; the session has ${count(state.session.length, "item")}.`);
}

function goTo(step) {
  const found = recordedNow();
  if (!found || step < 0 || step > found.events.length) return;
  change({ recorded: found.id, step }, { push: true });
}

addEventListener("popstate", fromAddress);
addEventListener("hashchange", fromAddress);

function fromAddress() {
  const found = parse(location.hash);
  if (hashOf(found) === hashOf(state)) return;
  reference = answer?.ranks ?? null;
  sliding = false;
  state = found;
  showFrame();
  loadLists();
}

for (const [id, name] of [["penalty", "penalty"], ["blend", "blend"]]) {
  at(id).addEventListener("input", () => change({ [name]: Number(at(id).value) }, { wait: true }));
  at(id).addEventListener("change", () => {
    sliding = false;
  });
}
at("compare").addEventListener("change", () => change({ compare: at("compare").value }));
at("length").addEventListener("change", () => change({ k: Number(at("length").value) }));
at("unseen").addEventListener("change", () => change({ excludeSeen: at("unseen").checked }));
at("switch").addEventListener("change", (event) => {
  state = { ...state, list: event.target.value };
  history.replaceState(null, "", hashOf(state));
  showFrame();
});
at("clear").addEventListener("click", () => {
  change({ session: [] }, { push: true });
  at("search").focus();
});
at("recorded").addEventListener("change", () => change({ recorded: at("recorded").value, step: 0 }, { push: true }));
at("back").addEventListener("click", () => goTo(stepNow() - 1));
at("forward").addEventListener("click", () => goTo(stepNow() + 1));
at("timeline").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  goTo(stepNow() + by);
  at("timeline").querySelector("[aria-current]")?.focus({ preventScroll: true });
});
at("take-over").addEventListener("click", () => {
  change({ view: "explore", session: historyNow().map(({ item, event }) => ({ item, event: EVENTS.includes(event) ? event : "click" })) }, { push: true });
  at("search").focus();
});
at("skip").addEventListener("click", () => at(state.view === "model" ? "main" : "columns").focus());
combobox({
  input: at("search"),
  list: at("suggestions"),
  note: at("search-note"),
  pick: addItem,
  tell: say,
  search: async (text, signal) => {
    const found = await request(`v1/items?${new URLSearchParams({ query: text, limit: "20" })}`, { signal });
    learn(found.items ?? []);
    return found.items ?? [];
  },
});

const THEMES = ["system", "light", "dark"];
function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  at("theme").textContent = `Theme: ${theme}`;
}
at("theme").addEventListener("click", () => {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % THEMES.length];
  showTheme(theme);
  try {
    if (theme === "system") localStorage.removeItem("valuerec-theme");
    else localStorage.setItem("valuerec-theme", theme);
  } catch {
    // Storage may be forbidden; then the choice holds for this visit.
  }
});

// Showing

const TITLES = {
  explore: "What comes next, and what it is worth",
  replay: "What really came next",
  model: "The model behind it",
};

function showFrame() {
  at("title").textContent = TITLES[state.view];
  document.title = `${TITLES[state.view]} – valuerec`;
  for (const link of document.querySelectorAll("nav a")) {
    link.href = hashOf({ ...state, view: link.dataset.view });
    if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const view of ["explore", "replay", "model"]) at(view).hidden = state.view !== view;
  at("ranking").hidden = state.view === "model" || (state.view === "replay" && !recordedNow());
  at("columns").dataset.shown = state.list;
  at("switch").querySelector(`[value="${state.list}"]`).checked = true;
  at("penalty").value = String(penalty());
  at("penalty-text").textContent = String(penalty());
  at("blend").value = String(state.blend);
  at("blend").setAttribute("aria-valuetext", `${Math.round(state.blend * 100)} % valuable`);
  at("blend-text").textContent = `${Math.round(state.blend * 100)} %`;
  at("compare").value = state.compare;
  at("length").value = String(state.k);
  at("unseen").checked = state.excludeSeen;
  at("value-how").textContent = penalty() > 0 ? "by value × W" : "by value: λ is 0, nothing is taken";
  document.body.dataset.view = state.view;
  if (state.view === "explore") showSession();
  if (state.view === "replay") showReplay();
}

function showSession() {
  const unknown = new Set(answer?.view === "explore" ? answer.unknown : []);
  const held = [...at("session").querySelectorAll("button")].indexOf(document.activeElement);
  at("session-empty").hidden = state.session.length > 0;
  at("clear").hidden = state.session.length === 0;
  at("session").replaceChildren(
    ...state.session.map(({ item, event }, index) => {
      const name = nameOf(item);
      const label = short(name, 60);
      return make(
        "li",
        { class: unknown.has(item) ? "unknown" : null, title: visibleId(item) },
        make("span", { class: "rank" }, String(index + 1)),
        make("bdi", { class: "name" }, name),
        make(
          "button",
          { type: "button", class: "kind", "aria-label": `${label}: ${doneTo(event)}; change`, onclick: () => toggle(index) },
          doneTo(event),
        ),
        make("button", { type: "button", class: "remove", "aria-label": `Remove ${label}`, onclick: () => remove(index) }, "×"),
      );
    }),
  );
  at("session").querySelectorAll("button")[held]?.focus();
  at("unknown").hidden = unknown.size === 0;
  at("unknown").textContent = unknown.size ? `The model does not know ${[...unknown].map((id) => `“${short(visibleId(id), 40)}”`).join(", ")}; the lists are made without.` : "";
}

function toggle(index) {
  const session = state.session.map((each, place) => (place === index ? { ...each, event: each.event === "click" ? "purchase" : "click" } : each));
  change({ session }, { push: true });
  at("session").querySelectorAll(".kind")[index].focus();
}

function remove(index) {
  const { item } = state.session[index];
  change({ session: state.session.filter((_, place) => place !== index) }, { push: true });
  say(`Removed ${short(nameOf(item))}; the session has ${count(state.session.length, "item")}.`);
  const left = at("session").querySelectorAll(".remove");
  (left[Math.min(index, left.length - 1)] ?? at("search")).focus();
}

function showReplay() {
  const found = recordedNow();
  at("replay-none").hidden = found !== null;
  if (sessions?.length === 0) tell(at("replay-none"), "The service has no recorded sessions; start it with --sessions FILE to replay some.");
  at("replay-tools").hidden = !found;
  if (!found) return;
  const step = stepNow();
  at("recorded").value = found.id;
  at("step-text").textContent = `${step} of ${found.events.length}`;
  at("back").setAttribute("aria-disabled", String(step === 0)); // not disabled: the focus would be lost
  at("forward").setAttribute("aria-disabled", String(step === found.events.length));
  showTimeline(at("timeline"), found.events, step, nameOf, goTo);
}

/** What all rows share: the scale, the penalty, the ranks. */
function worldNow() {
  const { lists: found, ranks, next, nextItem } = answer;
  const seen = Object.values(found).flatMap((items) => items.slice(0, state.k));
  if (nextItem) seen.push(nextItem);
  const earlier = state.compare === "before" ? reference : answer.unpenalised;
  return {
    penalty: penalty(),
    scale: valueScale(seen, Array.isArray(model.bounds) ? model.bounds.filter(Number.isFinite) : []),
    top: Math.max(0, ...seen.map(({ relevance }) => relevance).filter(Number.isFinite)),
    ranks,
    earlier: earlier ?? {},
    next,
    nextItem,
    left: state.excludeSeen && historyNow().some(({ item }) => item === next?.item),
    length: state.k,
  };
}

function showLists() {
  const world = worldNow();
  const valued = model.has_values;
  for (const [name, list] of lists) list.show(answer.lists[name] ?? [], world);
  for (const row of document.querySelectorAll("[data-axis]")) {
    row.replaceChildren(...(valued ? [make("span", { class: "label" }, "value"), axis(world.scale), make("span", { class: "number" }, "± 1 SD")] : []));
  }
  showBounds(world.scale);
  tell(at("summary"), summary(world));
  at("fallback").hidden = !answer.fallback;
  at("fallback").textContent = answer.fallback ? visibleName(answer.fallback) : "";
  if (answer.view === "explore") showSession();
  if (answer.view === "replay") {
    showNext(at("next"), world);
  }
}

/** Bars and weights for the penalty as it is now; the order waits for the service. */
function redraw() {
  if (!answer) return;
  const world = worldNow();
  for (const list of lists.values()) list.draw(world);
}

function showBounds({ bounds, digits }) {
  at("bounds-key").hidden = bounds.length === 0;
  const format = (value) => String(Number(value.toFixed(digits)));
  const far = bounds.filter(({ inside }) => !inside).map(({ bound }) => format(bound));
  at("bounds-text").textContent =
    `certain bounds ${bounds.map(({ bound }) => format(bound)).join(" and ")}: no session can earn more or less` +
    (far.length ? ` (${far.join(" and ")} lies off the scale)` : "");
}

function summary({ earlier, length }) {
  if (!model.has_values) return "";
  if (state.compare === "before" && !reference) return "Change something: ▲ and ▼ will say what it moved.";
  if (state.compare === "unpenalised" && penalty() === 0) return "λ is 0: values count in full, however much the heads disagree.";
  const against = state.compare === "before" ? "Against the view before" : `λ ${penalty()} against λ 0`;
  const parts = [];
  let best = null;
  let fresh = [];
  for (const name of used()) {
    const before = earlier[name];
    if (!before) continue;
    const moved = answer.lists[name].slice(0, length).map((item, index) => ({ item, rank: index + 1, from: before.get(item.id) ?? null }));
    parts.push(`${moved.filter(({ rank, from }) => rank !== from).length} of ${moved.length} in ${LABEL[name]}`);
    if (name === "value") {
      fresh = moved.filter(({ from }) => from === null);
      best = moved.filter(({ rank, from }) => from !== null && from > rank).sort((a, b) => b.from - b.rank - (a.from - a.rank))[0] ?? null;
    }
  }
  const told = (item) => short(nameOf(item.id), 50);
  const others = fresh.length > 1 ? ` and ${fresh.length - 1} more` : "";
  const entered = fresh.length ? ` New by value: ${told(fresh[0].item)} at ${fresh[0].rank}${others}.` : "";
  const furthest = best ? ` Furthest up by value${fresh.length ? " of the others" : ""}: ${told(best.item)}, from ${best.from} to ${best.rank}.` : "";
  return `${against}, moved: ${parts.join(", ")}.${entered}${furthest}`;
}

function showModel() {
  document.body.classList.toggle("valueless", !model.has_values);
  at("valueless").hidden = model.has_values;
  tell(at("running"), `${short(visibleName(model.name ?? ""), 40)} · ${short(visibleName(model.version ?? ""), 24)}`);
  const table = metricsTable(model.metrics);
  at("model-body").replaceChildren(
    facts(model),
    table ?? make("p", { class: "soft" }, "The model's run was not scored: there are no metrics."),
    ...(model.card ? [make("article", { class: "card", "aria-label": "Model card" }, ...markdown(model.card))] : []),
  );
}

showTheme(document.documentElement.dataset.theme ?? "system");
showFrame();
loadModel();
loadSessions();
