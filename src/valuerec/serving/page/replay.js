// A recorded session, step by step: what had happened, and what really came next.

import { LABEL, single } from "./rows.js";
import { count, doneTo, make, nameFor, short, visibleId } from "./text.js";

/** Fill the choice of sessions. */
export function showChoice(select, sessions) {
  select.replaceChildren(
    ...sessions.map(({ id, events }) => {
      const bought = events.filter(({ event }) => event === "purchase").length;
      const option = make("option", {}, `${short(visibleId(id), 40)} – ${count(events.length, "event")}, ${bought} bought`);
      option.value = id;
      return option;
    }),
  );
}

/** Show the events as buttons that go to the step before them: what is done, what comes next, what is ahead. */
export function showTimeline(element, events, step, nameOf, go) {
  const held = element.contains(document.activeElement) ? [...element.querySelectorAll("button")].indexOf(document.activeElement) : -1;
  element.replaceChildren(
    ...events.map(({ item, event }, index) => {
      const name = short(nameOf(item), 80);
      const part = index < step ? "past" : index === step ? "now" : "ahead";
      return make(
        "li",
        { class: `${part} ${event === "purchase" ? "purchase" : "click"}` },
        make(
          "button",
          { type: "button", "aria-current": index === step ? "step" : null, title: name, onclick: () => go(index) },
          make("span", { class: "rank" }, String(index + 1)),
          make("span", { class: "kind" }, doneTo(event)),
          make("bdi", { class: "name" }, name),
        ),
      );
    }),
  );
  if (held >= 0) element.querySelectorAll("button")[Math.min(held, events.length - 1)]?.focus({ preventScroll: true });
  const now = element.querySelector("li.now, li:last-child");
  if (now) element.scrollLeft = now.offsetLeft - (element.clientWidth - now.clientWidth) / 2;
}

/** Say what came next, its rank in every list, and its bars; `world` as in rows.js. */
export function showNext(element, world) {
  const { next, nextItem: item, ranks, left } = world;
  if (!next) {
    element.replaceChildren(make("p", {}, "The session ends here; the lists say what could have come next."));
    return;
  }
  const name = nameFor({ id: next.item, name: item?.name || next.name });
  const id = visibleId(next.item);
  const told = Object.entries(ranks).map(([list, of]) =>
    make(
      "li",
      { class: list },
      make("span", { class: "label" }, LABEL[list]),
      " ",
      make("strong", {}, of.has(next.item) ? `#${of.get(next.item)}` : left ? "left out" : `> ${of.size}`),
    ),
  );
  element.replaceChildren(
    make(
      "p",
      { class: "what" },
      make("span", { class: "flag" }, `● Then ${doneTo(next.event)}`),
      " ",
      make("bdi", { class: "name" }, name),
      ...(id === name ? [] : [" ", make("bdi", { class: "id" }, id)]),
    ),
    ...(item ? [make("ul", { class: "ranks", "aria-label": "Its rank" }, ...told), single(item, world)] : [make("p", { class: "warn" }, "The model does not know this item, so no list can hold it.")]),
  );
}
