// One photo, large: its thumbnail at once, then the preview, and the file itself when zoomed in.

import { fetchImage, fileUrl, previewUrl, thumbUrl } from "./api.js";
import { h, put, toast } from "./dom.js";
import { T } from "./strings.js";

const PREVIEW_EDGE = 1600;
const [ZOOM, MOST_ZOOM] = [1.6, 8];
const SMALLEST = 64; // pixels

let stage = h("div.stage"); // a new one for each photo, so that none shifts
export const area = h("div.area", { tabIndex: -1 }, stage);
let item, photo;
let sharp; // the photo that is the file itself, or becomes it
let zoom = 1;

export const isReady = () => Boolean(item?.error || photo?.complete);
export const isZoomed = () => zoom > 1;
export const zooms = { "+": () => zoomTo(zoom * ZOOM), "-": () => zoomTo(zoom / ZOOM), 0: () => zoomTo(1), 1: zoomWhole };

// Shows each pixel of the file as one of the screen, or a small photo larger.
function zoomWhole(point) {
	const full = whole();
	zoomTo(full > 1 ? full : ZOOM ** 2, point);
	toast(T.percent(zoom / full));
}

export function clear() {
	item = photo = undefined;
	put(stage);
}

// Shows a photo small, at once.
export function preview(other) {
	item = other;
	photo = undefined;
	stage = h("div.stage", !item.error && h("img", { alt: item.name, src: thumbUrl(item) }));
	put(area, stage);
	fit();
	zoomTo(1);
}

// Shows a photo whose preview is shown. Returns true once it is there, false if it cannot be shown or another is.
export async function show(other) {
	item = other;
	const mine = h("img.large", { alt: "", draggable: false }); // the thumbnail stays while it does not come
	const file = item.turn ? [] : [fileUrl(item)]; // where no previews can be made, it will do
	photo = mine;
	stage.append(mine);
	fit();
	const reason = await fetchImage(mine, () => photo === mine, previewUrl(item), ...file);
	if (photo !== mine) return false;
	if (reason) {
		put(stage, h("p.reason", h("b", T.notShown), " ", reason));
		return false;
	}
	fit();
	mine.alt = item.name;
	mine.classList.add("there");
	put(stage, mine);
	sharpen();
	return true;
}

// The photo follows a finger.
export function shift(across, down) {
	stage.style.translate = across || down ? `${across}px ${down}px` : "";
}

function fit() {
	const [width, height] = item.w ? [item.w, item.h] : [photo?.naturalWidth || 1, photo?.naturalHeight || 1];
	stage.style.setProperty("--shape", width / height);
	stage.style.setProperty("--most", `${Math.max(width, SMALLEST)}px`);
}

// The zoom that shows each pixel of the file as one of the screen.
const whole = () => ((item.w ?? 0) / devicePixelRatio / stage.getBoundingClientRect().width) * zoom;

// Zooms so that a point of the screen stays where it is, the middle unless one is given.
function zoomTo(wanted, { x, y } = {}) {
	const { left, top, width, height } = area.getBoundingClientRect();
	const before = stage.getBoundingClientRect();
	x ??= left + width / 2;
	y ??= top + height / 2;
	zoom = Math.min(Math.max(wanted, 1), Math.max(MOST_ZOOM, whole()));
	stage.style.setProperty("--zoom", zoom);
	area.classList.toggle("zoomed", zoom > 1);
	const after = stage.getBoundingClientRect();
	const grown = after.width / before.width;
	area.scrollBy(after.left + (x - before.left) * grown - x, after.top + (y - before.top) * grown - y);
	sharpen();
}

// Shows the file itself once the preview is not enough: zoomed in or, without Save-Data, on a fine screen. Not an odd one
// that browsers do not turn.
function sharpen() {
	if (!photo?.complete || sharp === photo || item.turn || Math.max(item.w, item.h) <= PREVIEW_EDGE) return;
	const { width, height } = stage.getBoundingClientRect();
	if (zoom <= 1 && (navigator.connection?.saveData || Math.max(width, height) * devicePixelRatio <= PREVIEW_EDGE)) return;
	const mine = photo;
	sharp = mine;
	const src = fileUrl(item);
	h("img", { src, onload: () => (mine.src = src) });
}

let spread = 0; // between two fingers
area.addEventListener(
	"touchmove",
	(event) => {
		if (event.touches.length < 2) return;
		event.preventDefault();
		const [{ clientX: x, clientY: y }, { clientX, clientY }] = event.touches;
		const now = Math.hypot(clientX - x, clientY - y);
		if (spread) zoomTo((zoom * now) / spread, { x: (x + clientX) / 2, y: (y + clientY) / 2 });
		spread = now;
	},
	{ passive: false },
);
area.addEventListener("touchend", () => (spread = 0));
// A trackpad's pinch is a wheel with Ctrl: as browsers zoom pages.
const zoomWheel = (event) => {
	event.preventDefault();
	zoomTo(zoom * Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 667)), event);
};
area.addEventListener("wheel", zoomWheel, { passive: false });
area.ondblclick = (event) => (zoom > 1 ? zoomTo(1) : zoomWhole(event));
area.onpointermove = ({ pointerType, buttons, movementX, movementY }) => {
	if (pointerType === "mouse" && buttons) area.scrollBy(-movementX, -movementY);
};
