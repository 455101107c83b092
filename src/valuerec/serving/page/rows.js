// A list of items, each with its bars; rows are kept from answer to answer, so that focus stays and moves can be seen.

import { doneTo, draw, fixed, make, nameFor, percent, short, visibleId } from "./text.js";
import { ticks, weight } from "./scale.js";

export const LABEL = { relevance: "Likely", blend: "Blend", value: "Valuable" };
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const share = (number) => `${number.toFixed(3)}%`;

/** Set where a bar lies: from and to in percent, whichever way round. */
function lay(rect, from, to) {
  rect.setAttribute("x", share(Math.min(from, to)));
  rect.setAttribute("width", share(Math.abs(to - from)));
}

function place(line, at) {
  line.setAttribute("x1", share(at));
  line.setAttribute("x2", share(at));
}

/** A row for an item: elements are made once, `update` fills them. */
class Row {
  constructor(onadd) {
    this.rank = make("span", { class: "rank" });
    this.move = make("span", { class: "move" });
    this.name = make("bdi", { class: "name" });
    this.id = make("bdi", { class: "id" });
    this.flag = make("span", { class: "flag", hidden: true });
    this.elsewhere = make("span", { class: "elsewhere" });
    this.add = onadd && make("button", { type: "button", class: "add", onclick: () => onadd(this.item) }, "+");
    this.bars = make("div", { class: "bars" });
    this.element = make(
      "li",
      { class: "row" },
      make(
        "div",
        { class: "what" },
        make("span", { class: "place" }, this.rank, this.move),
        make("span", { class: "names" }, this.name, this.id),
        ...(this.add ? [this.add] : []),
      ),
      this.bars,
      make("div", { class: "notes" }, this.flag, this.elsewhere),
    );
    this.makeBars();
  }

  makeBars() {
    this.full = draw("rect", { class: "full", y: 3.5, height: 9 });
    this.solid = draw("rect", { class: "solid", y: 3, height: 10 });
    this.halo = draw("line", { class: "halo", y1: 8, y2: 8 });
    this.spread = draw("line", { class: "spread", y1: 8, y2: 8 });
    this.caps = [0, 1].map(() => draw("line", { class: "spread", y1: 4, y2: 12 }));
    this.zero = draw("line", { class: "zero", y1: 0, y2: 16 });
    this.limits = [0, 1].map(() => draw("line", { class: "limit", y1: 0, y2: 16 }));
    this.worth = make("span", { class: "number" });
    this.weighed = draw("rect", { class: "weighed", x: "0%", y: 4, height: 8 });
    this.weight = make("span", { class: "number" });
    this.chance = draw("rect", { class: "chance", x: "0%", y: 4, height: 8 });
    this.probability = make("span", { class: "number" });
    const picture = (...parts) => draw("svg", { class: "bar", height: 16, "aria-hidden": "true" }, ...parts);
    const track = () => draw("rect", { class: "track", x: "0%", y: 4, width: "100%", height: 8 });
    this.valueParts = [
      make("span", { class: "label" }, "value"),
      picture(...this.limits, this.zero, this.full, this.solid, this.halo, this.spread, ...this.caps),
      this.worth,
      make("span", { class: "label" }, "weight W"),
      picture(track(), this.weighed),
      this.weight,
    ];
    this.bars.append(
      ...this.valueParts,
      make("span", { class: "label" }, "likely"),
      picture(track(), this.chance),
      this.probability,
    );
  }

  /** Show an item at a rank; `world` is what all rows share (see `showList`). */
  update(item, rank, list, world) {
    this.item = item;
    this.element.dataset.item = item.id;
    const name = nameFor(item);
    const id = visibleId(item.id);
    this.rank.textContent = rank === null ? `> ${world.ranks[list].size}` : String(rank);
    this.name.textContent = name;
    this.id.textContent = id === name ? "" : id;
    this.name.parentElement.title = id === name ? id : `${name}\n${id}`;
    if (this.add) this.add.setAttribute("aria-label", `Add ${short(name)} to the session`);
    this.showMove(world.earlier[list]?.get(item.id) ?? null, rank, world.earlier[list]);
    this.showElsewhere(item.id, list, world.ranks);
    const next = world.next && world.next.item === item.id ? world.next.event : null;
    this.element.classList.toggle("next", next !== null);
    this.flag.hidden = next === null;
    this.flag.textContent = next === null ? "" : `● ${doneTo(next)} next`;
    this.draw(world);
  }

  /** Bars and numbers; what a change of λ alone changes. */
  draw({ penalty, scale, top }) {
    const { relevance, value, uncertainty } = this.item;
    this.probability.textContent = percent(relevance);
    this.chance.setAttribute("width", share(Number.isFinite(relevance) && top > 0 ? (relevance / top) * 100 : 0));
    const worth = Number.isFinite(value);
    for (const part of this.valueParts) part.classList.toggle("absent", !worth);
    if (!worth) return;
    const { at, digits, bounds } = scale;
    const sure = Number.isFinite(uncertainty);
    const kept = sure ? weight(uncertainty, penalty) : 1;
    lay(this.full, at(0), at(value));
    lay(this.solid, at(0), at(value * kept));
    place(this.zero, at(0));
    const ends = sure ? [at(value - uncertainty), at(value + uncertainty)] : [at(value), at(value)];
    for (const line of [this.halo, this.spread]) {
      line.setAttribute("x1", share(ends[0]));
      line.setAttribute("x2", share(ends[1]));
    }
    this.caps.forEach((cap, end) => place(cap, ends[end]));
    this.limits.forEach((limit, end) => {
      const shown = bounds[end]?.inside;
      limit.classList.toggle("absent", !shown);
      if (shown) place(limit, at(bounds[end].bound));
    });
    this.worth.textContent = sure ? `${fixed(value, digits)} ± ${fixed(uncertainty, digits)}` : fixed(value, digits);
    this.weighed.setAttribute("width", share(kept * 100));
    this.weight.textContent = sure ? `× ${fixed(kept, 3)} = ${fixed(value * kept, digits)}` : "no uncertainty";
  }

  showMove(before, rank, known) {
    const [sign, spoken, kind] = !known || rank === null
      ? ["", "", ""]
      : before === null
        ? ["new", "new among the first", "up"]
        : before === rank
          ? ["", "", ""]
          : before > rank
            ? [`▲${before - rank}`, `up ${before - rank}, from ${before}`, "up"]
            : [`▼${rank - before}`, `down ${rank - before}, from ${before}`, "down"];
    this.move.replaceChildren(make("span", { "aria-hidden": "true" }, sign), make("span", { class: "unseen" }, spoken));
    this.move.title = spoken;
    if (kind) this.element.dataset.move = kind;
    else delete this.element.dataset.move;
  }

  showElsewhere(id, list, ranks) {
    const told = Object.entries(ranks)
      .filter(([other]) => other !== list)
      .map(([other, of]) => `${LABEL[other].toLowerCase()} ${of.has(id) ? `#${of.get(id)}` : `> ${of.size}`}`);
    this.elsewhere.textContent = told.length ? told.join(" · ") : "";
  }
}

/** A list on the page: an ordered list element and its rows by item. */
export class List {
  constructor(name, element, onadd) {
    Object.assign(this, { name, element, onadd, rows: new Map() });
    element.addEventListener("pointerover", (event) => this.point(event));
    element.addEventListener("focusin", (event) => this.point(event));
    element.addEventListener("pointerleave", () => this.onpoint?.(null));
    element.addEventListener("focusout", () => this.onpoint?.(null));
  }

  point(event) {
    const row = event.target.closest("li.row");
    const found = [...this.rows].find(([, { element }]) => element === row);
    this.onpoint?.(found ? found[0] : null);
  }

  /** Mark the row of an item that is pointed at in another list. */
  mark(id) {
    for (const [item, { element }] of this.rows) element.classList.toggle("pointed", item === id);
  }

  /**
   * Show items, the best first. `world`: penalty; scale (see scale.js); top, the highest probability shown; ranks and
   * earlier, by list the rank of every known item; next, what came next in a recorded session, with its numbers in nextItem
   * (null where the model does not know it) and left where it was left out; length, how many to show.
   */
  show(items, world) {
    const held = document.activeElement;
    const old = new Map([...this.rows].map(([id, { element }]) => [id, element.getBoundingClientRect().top]));
    const elements = [];
    const rows = new Map();
    const put = (item, rank) => {
      const row = this.rows.get(item.id) ?? new Row(this.onadd);
      row.update(item, rank, this.name, world);
      rows.set(item.id, row);
      elements.push(row.element);
    };
    items.slice(0, world.length).forEach((item, index) => put(item, index + 1));
    const place = world.next ? items.findIndex(({ id }) => id === world.next.item) : -1;
    const beyond = place < 0 && items.length > 0 && world.nextItem && !world.left;
    if (place >= world.length || beyond) {
      elements.push(make("li", { class: "gap", "aria-hidden": "true" }, "⋯"));
      put(beyond ? world.nextItem : items[place], beyond ? null : place + 1);
    }
    this.rows = rows;
    this.element.replaceChildren(...elements);
    if (held?.isConnected && held !== document.activeElement) held.focus({ preventScroll: true });
    if (!calm.matches) this.slide(old);
  }

  slide(old) {
    for (const [id, { element }] of this.rows) {
      const by = old.has(id) ? old.get(id) - element.getBoundingClientRect().top : 0;
      if (Math.abs(by) > 1) element.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: 260, easing: "ease-out" });
    }
  }

  /** Bars and numbers for another penalty, the order as it is. */
  draw(world) {
    for (const row of this.rows.values()) row.draw(world);
  }
}

/** A row by itself, outside of a list: what came next. */
export function single(item, world) {
  const row = new Row(null);
  row.item = item;
  row.draw(world);
  return row.bars;
}

/** The axis over a column's bars. */
export function axis(scale) {
  const picture = draw("svg", { class: "axis", height: 18, "aria-hidden": "true" });
  const marked = ticks(scale);
  const digits = Math.max(0, ...marked.map((tick) => (String(Number(tick.toPrecision(3))).split(".")[1] ?? "").length));
  for (const tick of marked) {
    const at = share(scale.at(tick));
    picture.append(draw("line", { class: "tick", x1: at, x2: at, y1: 14, y2: 18 }));
    picture.append(draw("text", { x: at, y: 11 }, fixed(tick, digits)));
  }
  for (const { bound, inside } of scale.bounds) {
    if (inside) picture.append(draw("line", { class: "limit", x1: share(scale.at(bound)), x2: share(scale.at(bound)), y1: 13, y2: 18 }));
  }
  return picture;
}
