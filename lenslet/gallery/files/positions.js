// Where everything is in the list, in whole pixels from its top. A block gets its `top`, its `height` and, once it is
// loaded, its `rows`.

import { between, guess, lastAt, layOut } from "./layout.js";
import { source } from "./list.js";

let width = 0; // of the list; 0 until its positions are known
let height = 0; // of the whole list

export const isKnown = () => width > 0;
export const total = () => height;

export function forget() {
	width = 0;
}

// Computes all positions for a list so many pixels wide.
export function compute(wide) {
	[width, height] = [wide, 0];
	for (const block of source.blocks) {
		fit(block);
		block.top = height;
		height += block.height;
	}
}

// Lays out a block if its photos or the width are others now.
function fit(block) {
	const { days } = source;
	const isOther = block.width !== width;
	if (block.items && (isOther || block.laid !== block.items)) {
		Object.assign(block, layOut(block, width, { days }), { laid: block.items });
	} else if (!block.items && isOther) {
		block.height = guess(block, width, { days });
	}
	block.width = width;
}

export const blockAt = (position) => source.blocks[lastAt(source.blocks, "top", position)];

// Returns a position as a place: the index of a photo, and how far below its row's top that is.
export function placeAt(position) {
	const block = blockAt(position);
	const row = block?.rows?.[lastAt(block.rows, "top", position - block.top)];
	return block && { index: row?.first ?? block.first, by: position - block.top - (row?.top ?? 0) };
}

export function positionOf({ index, by }) {
	const { block, row } = rowOf(index);
	return block.top + (row?.top ?? 0) + by;
}

// Returns the block of a photo and, if that is loaded, its row.
export function rowOf(index) {
	const block = source.blockOf(index);
	return { block, row: block?.rows?.[lastAt(block.rows, "first", index)] };
}

export const blocksBetween = (from, until) => between(source.blocks, "top", from, until);

// Returns the rows between two positions, each with its block and a key; a heading has no `row`.
export function rowsBetween(from, until) {
	const found = [];
	for (const block of blocksBetween(from, until)) {
		const { rows = [], top } = block;
		if (block.heading) found.push({ key: `heading ${block.first}`, block });
		for (const row of between(rows, "top", from - top, until - top)) found.push({ key: `row ${row.first}`, block, row });
	}
	return found;
}

// Returns the index of the photo above another (`way`: -1) or below it (1), or one there that is not loaded yet.
export function neighbour(index, way) {
	const { row } = rowOf(index);
	const { left, width: wide } = row.cells[index - row.first];
	const beyond = way > 0 ? row.first + row.cells.length : row.first - 1;
	const { row: next } = rowOf(beyond);
	return next ? next.cells[lastAt(next.cells, "left", left + wide / 2)].index : beyond;
}
