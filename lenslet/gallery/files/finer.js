// Tiles that are stretched get a finer picture, once the list rests: a few at a time, and none with Save-Data.

import { tileUrl } from "./api.js";

const [STRETCH, AT_ONCE] = [1.3, 4]; // more screen pixels than the thumbnail has
let work; // of the last rest

export const stop = () => (work = undefined);

// Gives finer pictures to those of some tiles that are on the screen, the first ones first.
export function refine(tiles) {
	if (navigator.connection?.saveData) return;
	const mine = tiles.filter(isStretched).values();
	work = mine;
	const each = async () => {
		for (const tile of mine) {
			if (work !== mine) return;
			await replace(tile);
		}
	};
	for (let count = 0; count < AT_ONCE; count++) each();
}

function isStretched({ item, image, element, isFiner }) {
	const { top, bottom, width } = element.getBoundingClientRect();
	const pixels = image.naturalWidth;
	const isSeen = element.classList.contains("shown") && bottom > 0 && top < innerHeight;
	return !isFiner && isSeen && pixels < item.w && width * devicePixelRatio > STRETCH * pixels;
}

// The thumbnail stays where there is no other.
async function replace(tile) {
	const finer = new Image();
	finer.fetchPriority = "low";
	finer.src = tileUrl(tile.item);
	try {
		await finer.decode();
		tile.image.src = finer.src;
		tile.isFiner = true;
	} catch {} // it may come with the next rest
}
