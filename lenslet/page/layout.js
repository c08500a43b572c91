// Justified rows: pure functions from items to positions.

export const GAP = 4;
const DAY_HEIGHT = 46;
const [UNKNOWN, NOT_LOADED, NARROWEST, WIDEST] = [1, 4 / 3, 0.5, 3]; // width over height

const shape = (item) => {
	if (!item) return NOT_LOADED;
	if (!item.w || !item.h) return UNKNOWN;
	return Math.min(Math.max(item.w / item.h, NARROWEST), WIDEST);
};

/**
 * Returns rows {top, height, first, count, day} and the height of all. A row with a day is a
 * heading without items. `target` is the height of a row before it is stretched, `below` what a
 * caption needs. Whenever `day(item)` changes, a heading is put in.
 */
export function layOut(items, { width, target, below = 0, day }) {
	const rows = [];
	let [top, first, sum, today] = [0, 0, 0, undefined];
	const add = (end, height, heading) => {
		if (end === first && heading === undefined) return;
		rows.push({ top, height, first, count: end - first, day: heading });
		top += height + (heading === undefined ? below + GAP : 0);
		[first, sum] = [end, 0];
	};
	for (let index = 0; index < items.length; index++) {
		const found = day?.(items[index]);
		if (found !== today) {
			add(index, target);
			add(index, DAY_HEIGHT, found);
			today = found;
		}
		sum += shape(items[index]);
		const room = width - GAP * (index - first);
		if (sum * target >= room) add(index + 1, room / sum);
	}
	add(items.length, target);
	return { rows, height: top };
}

/** Returns {index, left, width} of each item of a row. */
export function cells({ first, count, height }, items) {
	let left = -GAP;
	let width = 0;
	return Array.from({ length: count }, (_, each) => {
		left += width + GAP;
		width = shape(items[first + each]) * height;
		return { index: first + each, left, width };
	});
}

/** The number of the last row whose `key`, `top` or `first`, is at most `value`. */
export function rowAt(rows, key, value) {
	let [low, high] = [0, rows.length - 1];
	while (low < high) {
		const middle = (low + high + 1) >> 1;
		if (rows[middle][key] <= value) low = middle;
		else high = middle - 1;
	}
	return low;
}
