// Justified rows: pure functions from items to positions, without the document.

const GAP = 4;
const DAY_HEIGHT = 46;
const UNKNOWN = 1; // square, while width and height are not known
const NOT_LOADED = 4 / 3;
const [NARROWEST, WIDEST] = [0.5, 3];

/** Width over height as shown; very long images are cut. */
const shape = (item) => {
  if (!item) return NOT_LOADED;
  if (!item.w || !item.h) return UNKNOWN;
  return Math.min(Math.max(item.w / item.h, NARROWEST), WIDEST);
};

/**
 * Returns rows {top, height, first, count} of items or {top, height, first, count: 0, day},
 * and the height of all. `target` is the height of a row before it is stretched, `below` what a
 * caption needs. `day(item)` begins a new row, with a heading, whenever it changes.
 */
export function layOut(items, { width, target, below = 0, day = null }) {
  const rows = [];
  let top = 0;
  let first = 0;
  let sum = 0;
  let today;
  const close = (end, height) => {
    if (end === first) return;
    rows.push({ top, height, first, count: end - first });
    top += height + below + GAP;
    first = end;
    sum = 0;
  };
  for (let index = 0; index < items.length; index++) {
    if (day) {
      const found = day(items[index]);
      if (found !== today) {
        close(index, target);
        today = found;
        rows.push({ top, height: DAY_HEIGHT, first: index, count: 0, day: found });
        top += DAY_HEIGHT;
      }
    }
    sum += shape(items[index]);
    const room = width - GAP * (index - first);
    if (sum * target >= room) close(index + 1, room / sum);
  }
  close(items.length, target);
  return { rows, height: top };
}

/** Returns {index, left, width} of each item of a row. */
export function cells(row, items) {
  const found = [];
  let left = 0;
  for (let index = row.first; index < row.first + row.count; index++) {
    const width = shape(items[index]) * row.height;
    found.push({ index, left, width });
    left += width + GAP;
  }
  return found;
}

/** The number of the last row that begins at or above `top`. */
export function rowAt(rows, top) {
  let [low, high] = [0, rows.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rows[middle].top <= top) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The number of the row that holds an item. */
export function rowOf(rows, index) {
  let [low, high] = [0, rows.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rows[middle].first <= index) low = middle;
    else high = middle - 1;
  }
  return low;
}
