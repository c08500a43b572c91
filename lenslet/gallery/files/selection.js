// The photos that are selected: their paths. A range begins where the last photo was selected alone.

import { announce } from "./events.js";
import * as list from "./list.js";

let paths = new Set();
let anchor = 0; // the index of the photo where a range begins

export const has = (path) => paths.has(path);
export const size = () => paths.size;
export const all = () => [...paths];
export const begin = (index) => (anchor = index);
export const add = (items) => set([...paths, ...items.map(({ path }) => path)]);

export function set(wanted) {
	paths = new Set(wanted);
	announce("selection");
}

export const clear = () => set([]);

// Selects photos, or none of them if all are.
export function toggleAll(items) {
	const mine = new Set(items.map(({ path }) => path));
	if ([...mine].every(has)) set(all().filter((path) => !mine.has(path)));
	else add(items);
}

// Selects a photo, or no longer; `range`: selects all from where a range begins to it.
export function toggle(index, range) {
	const [first, last] = [Math.min(index, anchor), Math.max(index, anchor)];
	if (range) return add(list.source.slice(first, last));
	const { path } = list.source.at(index);
	begin(index);
	set(has(path) ? all().filter((each) => each !== path) : [...paths, path]);
}
