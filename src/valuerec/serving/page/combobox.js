// A box to search and pick items in: ARIA's editable combobox with a list of suggestions, keyboard first.

import { count, make, nameFor, short, visibleId } from "./text.js";

const PAUSE = 120; // milliseconds after the last key before the service is asked

/** Make `input` a combobox over `list`; `search(text, signal)` finds {id, name}, `pick(item)` takes one, `tell` is read aloud. */
export function combobox({ input, list, note, search, pick, tell }) {
  let found = [];
  let active = -1;
  let timer;
  let controller;

  const open = () => !list.hidden;

  function close() {
    clearTimeout(timer);
    controller?.abort();
    list.hidden = true;
    note.textContent = "";
    input.setAttribute("aria-expanded", "false");
    activate(-1);
  }

  function activate(index) {
    active = index;
    [...list.children].forEach((option, place) => option.setAttribute("aria-selected", String(place === active)));
    if (active < 0) input.removeAttribute("aria-activedescendant");
    else {
      input.setAttribute("aria-activedescendant", list.children[active].id);
      list.children[active].scrollIntoView({ block: "nearest" });
    }
  }

  function show(items) {
    found = items;
    list.replaceChildren(
      ...items.map((item, index) => {
        const [name, id] = [nameFor(item), visibleId(item.id)];
        return make(
          "li",
          { role: "option", id: `${list.id}-${index}`, "aria-selected": "false", onclick: () => take(item) },
          make("bdi", { class: "name" }, name),
          ...(id === name ? [] : [" ", make("bdi", { class: "id" }, id)]),
        );
      }),
    );
    list.hidden = items.length === 0;
    input.setAttribute("aria-expanded", String(items.length > 0));
    activate(-1);
    const typed = input.value.trim();
    if (items.length === 0 && typed) note.textContent = `No item of the catalogue matches; Enter adds “${short(visibleId(typed), 40)}” as it is.`;
    else note.textContent = "";
    if (items.length) tell(`${count(items.length, "suggestion")}.`);
  }

  async function look() {
    controller?.abort();
    controller = new AbortController();
    const { signal } = controller;
    try {
      const items = await search(input.value.trim(), signal);
      if (!signal.aborted) show(items);
    } catch (error) {
      if (signal.aborted) return;
      close();
      note.textContent = `${error.message} Enter adds what is typed as an id.`;
    }
  }

  function take(item) {
    input.value = "";
    close();
    pick(item);
    input.focus();
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    if (input.value.trim() === "") close();
    else timer = setTimeout(look, PAUSE);
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open()) look();
      else {
        const step = event.key === "ArrowDown" ? 1 : -1;
        activate((active + step + found.length + (active < 0 && step < 0 ? 1 : 0)) % found.length);
      }
    } else if (event.key === "Enter") {
      event.preventDefault();
      const typed = input.value.trim();
      if (open() && active >= 0) take(found[active]);
      else if (typed) take(found.find(({ id }) => open() && id === typed) ?? { id: typed, name: null });
    } else if (event.key === "Escape") {
      if (open()) close();
      else input.value = "";
    } else if (event.key === "Tab") close();
  });
  input.addEventListener("blur", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the box keeps the focus
}
