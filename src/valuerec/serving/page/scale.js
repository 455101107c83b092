// One scale for every value on the page, so that bars can be compared across columns.

const FARTHEST = 3; // a bound that would stretch the scale more than this many times is named, not drawn

/**
 * The scale of some items' values ± uncertainty, from 0 or below, with the certain bounds where they are not too far.
 * `at(value)` is a place in percent; `digits` the decimals that tell values apart.
 */
export function valueScale(items, bounds) {
  let low = 0;
  let high = 0;
  for (const { value, uncertainty } of items) {
    if (!Number.isFinite(value)) continue;
    const spread = Number.isFinite(uncertainty) ? uncertainty : 0;
    low = Math.min(low, value - spread);
    high = Math.max(high, value + spread);
  }
  if (high === low) high = low + 1;
  const most = FARTHEST * (high - low);
  const drawn = [];
  for (const bound of bounds) {
    const inside = Math.max(high, bound) - Math.min(low, bound) <= most;
    if (inside) [low, high] = [Math.min(low, bound), Math.max(high, bound)];
    drawn.push({ bound, inside });
  }
  const margin = (high - low) * 0.02;
  const [from, to] = [low < 0 ? low - margin : low, high > 0 ? high + margin : high];
  const digits = Math.min(6, Math.max(0, 3 - Math.floor(Math.log10(high - low))));
  return { low, high, bounds: drawn, digits, at: (value) => ((Math.min(to, Math.max(from, value)) - from) / (to - from)) * 100 };
}

/** Round places on a scale, three to six of them. */
export function ticks({ low, high }) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place += 1) found.push(place * step);
  return found;
}

/** The penalty weight, equation 3 of the paper: 1 / (1 + λ·uncertainty). */
export const weight = (uncertainty, penalty) => (Number.isFinite(uncertainty) ? 1 / (1 + penalty * uncertainty) : null);
