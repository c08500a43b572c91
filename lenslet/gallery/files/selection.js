// The photos that are selected: their paths. A range begins where the last photo was selected alone.

import { toast } from "./dom.js";
import { announce } from "./events.js";
import * as list from "./list.js";
import { T } from "./strings.js";

let paths = new Set();
let anchor = 0; // the index of the photo where a range begins
let growing; // a range of which a part is still being loaded: a promise

export const has = (path) => paths.has(path);
export const hasAll = (items) => items.every(({ path }) => has(path));
export const size = () => paths.size;
export const isGrowing = () => growing !== undefined;
export const begin = (index) => (anchor = index);

// Returns the paths once all of a range are known.
export async function all() {
	await growing;
	return [...paths];
}

function add(items) {
	for (const { path } of items) paths.add(path);
	announce("selection");
}

function set(wanted) {
	paths = new Set(wanted);
	growing = undefined;
	announce("selection");
}

export const clear = () => set([]);

// Selects photos, or none of them if all are.
export function toggleAll(items) {
	if (!hasAll(items)) return add(items);
	for (const { path } of items) paths.delete(path);
	announce("selection");
}

// Selects a range, also what of it is not loaded yet, until the selection is cleared.
export function range(first, last) {
	const mine = paths;
	const take = (items) => {
		if (mine === paths) add(items);
		return mine === paths;
	};
	const loading = list.source.each(first, last, take).catch(({ message }) => mine === paths && toast(T.notSelected(message)));
	const all = Promise.all([growing, loading]).finally(() => {
		if (growing !== all) return;
		growing = undefined;
		announce("selection");
	});
	growing = all;
}

export const everything = () => range(0, list.source.count - 1);

let dragged; // what a finger selects: where it `began`, and is (`to`); what was selected `before`; whether it takes away (`clears`)

// Begins to select photos from one on, or to take them away if that is selected.
export function drag(index) {
	dragged = { began: index, before: paths, clears: has(list.source.at(index).path) };
	dragTo(index);
}

// Selects up to a photo, and no longer what was beyond it.
export function dragTo(index) {
	const { began, before, clears, to } = dragged;
	if (index === to) return;
	dragged.to = index;
	const items = list.source.slice(Math.min(began, index), Math.max(began, index));
	const passed = new Set(items.map(({ path }) => path));
	set(clears ? before.difference(passed) : before.union(passed));
}

// Selects a photo, or no longer; `isRange`: selects all from where a range begins to it.
export function toggle(index, isRange) {
	if (isRange) return range(Math.min(index, anchor), Math.max(index, anchor));
	begin(index);
	toggleAll([list.source.at(index)]);
}
