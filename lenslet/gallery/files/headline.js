// What stands at the top of the screen while one scrolls: the month, or the name of the folder; on a phone below the
// header, which hides from who scrolls down.

import { titleOf } from "./address.js";
import { h, put } from "./dom.js";
import { source } from "./list.js";
import * as positions from "./positions.js";
import * as scroller from "./scroller.js";

const DOWN = 40; // pixels that hide the header, or show it

export const headline = h("h2.month.now", { "aria-hidden": "true" });
let turned = 0; // where one last went the other way

export function update() {
	const at = scroller.top();
	hideHeader(at);
	const passed = at + (parseFloat(getComputedStyle(headline).top) || 0);
	const block = at > 0 && positions.blockAt(passed);
	headline.hidden = !block;
	const text = block && (block.name ?? titleOf(source.path));
	if (block && headline.textContent !== text) put(headline, text);
}

function hideHeader(at) {
	if (Math.abs(at - turned) < DOWN && at > DOWN) return;
	document.body.classList.toggle("low", at > turned && at > DOWN);
	turned = at;
}
