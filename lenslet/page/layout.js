// Justified rows: pure functions from items to positions.

const [GAP, DAY, CAPTION] = [4, 46, 40]; // pixels; also in the style sheet
const [LOWEST, HIGHEST, IN_A_ROW] = [110, 220, 4.5];
const [UNKNOWN, NOT_LOADED, NARROWEST, WIDEST] = [1, 4 / 3, 0.5, 3]; // width over height

const shape = (item) => {
	if (!item) return NOT_LOADED;
	return item.w && item.h ? Math.min(Math.max(item.w / item.h, NARROWEST), WIDEST) : UNKNOWN;
};

// Returns the height of all rows, and of each: `top`, `height`, the index of its `first` item, the
// relative widths of all (`shapes`) and of what stays empty (`rest`). One with a `day` is a heading.
export function layOut({ items, day, query }, width) {
	const rows = [];
	const target = Math.max(LOWEST, Math.min(HIGHEST, width / IN_A_ROW));
	let [top, first, shapes, sum, today] = [0, 0, [], 0, undefined];
	const add = (height, row) => {
		rows.push({ top, height, first, shapes, ...row });
		top += height + GAP;
		[first, shapes, sum] = [first + shapes.length, [], 0];
	};
	const close = (height) => {
		const rest = (width - GAP * shapes.length) / height - sum;
		add(height + (query ? CAPTION : 0), { rest: Math.max(rest, 0) });
	};
	for (let index = 0; index < items.length; index++) {
		const found = day?.(items[index]);
		if (found !== today) {
			if (sum) close(target);
			add(DAY, { day: found });
			today = found;
		}
		shapes.push(shape(items[index]));
		sum += shapes.at(-1);
		const room = width - GAP * (shapes.length - 1);
		if (sum * target >= room) close(room / sum);
	}
	if (sum) close(target);
	return { rows, height: top };
}

// The number of the last row whose `key`, `top` or `first`, is at most `value`.
export const rowAt = (rows, key, value) => Math.max(0, rows.findLastIndex((row) => row[key] <= value));
