// Justified rows: pure functions from photos to positions.

const TEXT = parseFloat(getComputedStyle(document.documentElement).fontSize) / 15; // more for larger text
export const [HEAD, MONTH, CAPTION, LABEL] = [44, 48, 40, 130].map((size) => Math.round(size * TEXT)); // pixels
const [LOWEST, HIGHEST, IN_A_ROW] = [120, 220, 4.5];
const [UNKNOWN, NARROWEST, WIDEST] = [1, 0.5, 3]; // width over height, as the service counts them
const [FULL, HIGH] = [0.75, 2.2]; // from when on photos fill a row, and how much higher it becomes for that
const [GAP, APART] = [3, 28]; // between photos, and between days that share a row

const shapeOf = ({ w, h }) => (w && h ? Math.min(Math.max(w / h, NARROWEST), WIDEST) : UNKNOWN);
const rowHeight = (width) => Math.max(LOWEST, Math.min(HIGHEST, width / IN_A_ROW));

// How high photos will be of which only the number and the sum of their shapes is known.
export function guess({ count, shapes, heading }, width, { days }) {
	const high = rowHeight(width);
	const rows = Math.max(1, (shapes * (high + GAP)) / width);
	const heads = days ? Math.min(count, rows / 2) * HEAD : 0;
	return Math.round((heading ? MONTH : 0) + rows * (high + GAP) + heads);
}

// Returns the height of photos that are loaded, and their rows: `top`, the height of what stands above the
// photos (`head`) and of these, the index of the `first`, where each is (`cells`), and the days (`heads`).
export function layOut({ items, first, heading }, width, { days }) {
	const rows = [];
	const high = rowHeight(width);
	let top = heading ? MONTH : 0;

	function add(height, cells, heads = []) {
		const head = heads.length ? HEAD : 0;
		rows.push({ top, head, height, first: cells[0].index, cells, heads });
		const hasCaption = cells.some(({ index }) => items[index - first].match);
		top += Math.round(head + height + GAP + (hasCaption ? CAPTION : 0));
	}

	// A row that begins at `left`; returns where it ends.
	function place(cells, group, from, until, height, left = 0) {
		for (let index = from; index < until; index++) {
			const wide = group.shapes[index] * height;
			cells.push({ index: group.first + index, left, width: wide });
			left += wide + GAP;
		}
		return left - GAP;
	}

	function fill(group) {
		const many = Math.max(1, Math.round(group.width / width));
		const least = width / (HIGH * high);
		for (let row = 1, from = 0, sum = 0; from < group.shapes.length; row++) {
			const before = sum;
			let until = from;
			const takesNext = () => {
				if (row === many || sum - before < least || group.sum - sum < least) return true;
				return sum + group.shapes[until] / 2 < (group.sum * row) / many;
			};
			do sum += group.shapes[until++];
			while (until < group.shapes.length && takesNext());
			const height = (width - GAP * (until - from - 1)) / (sum - before);
			const cells = [];
			place(cells, group, from, until, height);
			add(height, cells, from || !days ? [] : [{ ...group, left: 0, width }]);
			from = until;
		}
	}

	const groups = days ? byDay(items, first) : [{ first, shapes: items.map(shapeOf) }];
	for (const group of groups) {
		group.sum = group.shapes.reduce((sum, shape) => sum + shape, 0);
		group.width = group.sum * high + GAP * (group.shapes.length - 1);
	}
	const isSmall = (group) => group?.width < FULL * width;
	for (let at = 0; at < groups.length; ) {
		if (!isSmall(groups[at])) {
			fill(groups[at]);
			at++;
			continue;
		}
		const [cells, heads] = [[], []];
		let left = 0;
		do {
			const group = groups[at];
			heads.push({ ...group, left });
			left = Math.max(place(cells, group, 0, group.shapes.length, high, left), left + LABEL) + APART;
			at++;
		} while (isSmall(groups[at]) && left + groups[at].width <= width);
		heads.forEach((head, each) => (head.width = (heads[each + 1]?.left ?? width) - head.left));
		add(high, cells, days ? heads : []);
	}
	return { rows, height: top };
}

function byDay(items, first) {
	const groups = [];
	items.forEach((item, index) => {
		const day = item.day ?? item.taken?.slice(0, 10) ?? "";
		if (groups.at(-1)?.day !== day) groups.push({ day, first: first + index, shapes: [] });
		groups.at(-1).shapes.push(shapeOf(item));
	});
	return groups;
}

// Those of some places, in order, that a range of `key` meets; the first if it ends before that.
export const between = (places, key, from, until) => places.slice(lastAt(places, key, from), lastAt(places, key, until) + 1);

// The number of the last of some places, in order, whose `key` is at most `value`; 0 if none is.
export function lastAt(places, key, value) {
	let [low, high] = [0, places.length];
	while (high - low > 1) {
		const middle = (low + high) >> 1;
		if (places[middle][key] <= value) low = middle;
		else high = middle;
	}
	return low;
}
