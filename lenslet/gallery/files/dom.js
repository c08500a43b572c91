// Elements without HTML in strings: whatever a name or a note holds is shown as text.

import { T } from "./strings.js";

const ICONS = {
	menu: "M3 6h18M3 12h18M3 18h18",
	close: "M5 5l14 14M19 5L5 19",
	left: "M15 4l-8 8 8 8",
	right: "M9 4l8 8-8 8",
	star: "M12 3l2.7 5.8 6.3.8-4.6 4.3 1.2 6.3L12 17.1l-5.6 3.1 1.2-6.3L3 9.6l6.3-.8z",
	info: "M12 11v6M12 7.5v.1M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0z",
	download: "M12 3v12M7 11l5 5 5-5M4 21h16",
	full: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
	play: "M7 4l13 8-13 8z",
	pause: "M8 4v16M16 4v16",
	more: "M12 5h.1M12 12h.1M12 19h.1",
	folder: "M3 6h6l2 3h10v10H3z",
	tag: "M3 12V4h8l10 10-8 8zM7.5 8v.1",
	filter: "M3 6h18M6 12h12M10 18h4",
	share: "M12 3v12M7 8l5-5 5 5M5 12v8h14v-8",
};

// Makes an element such as `h("p.quiet", { title, onclick }, "text")`; texts become attributes.
export function h(tag, ...children) {
	const [name, ...classes] = tag.split(".");
	const element = document.createElement(name);
	element.classList.add(...classes);
	const properties = children[0]?.constructor === Object ? children.shift() : {};
	for (const [key, value] of Object.entries(properties)) {
		if (typeof value === "string") element.setAttribute(key, value);
		else if (value !== undefined) element[key] = value;
	}
	return put(element, ...children);
}

// Puts other children into an element. If one that had the focus goes, what comes in its place gets it.
export function put(element, ...children) {
	const all = () => [...element.querySelectorAll("a, button, input")];
	const { activeElement: had } = document;
	const at = all().indexOf(had);
	element.replaceChildren(...children.flat(9).filter((child) => child));
	if (at < 0 || had.isConnected) return element;
	const now = all();
	(now.find((each) => each.isEqualNode(had)) ?? now[at] ?? now.at(-1))?.focus();
	return element;
}

function svg(tag, attributes) {
	const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
	for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
	return element;
}

export const icon = (name) =>
	put(svg("svg", { viewBox: "0 0 24 24", class: `icon i-${name}`, "aria-hidden": "true" }), svg("path", { d: ICONS[name] }));

// What a button does; it says why that failed.
const doing = (act) => async (event) => {
	try {
		await act?.(event);
	} catch ({ message }) {
		toast(message);
	}
};
export const button = (name, label, act, props) =>
	h("button.icon-button", { type: "button", title: label, onclick: doing(act), ...props }, icon(name));

export const download = (href, name = "") => h("a", { href, download: name, target: "_blank" }).click();

export const textButton = (label, act) => h("button", { type: "button", onclick: doing(act) }, label);

export const again = () => textButton(T.retry, () => location.reload());

// Where messages stand: at the bottom of the page, of the viewer and of each dialog.
export const messages = () => h("div.messages", { role: "status" });
// Returns an element of the topmost dialog or, without one, of the page.
export function topmost(kind) {
	const boxes = ["dialog.sheet[open]", "dialog[open]", "body > :not(dialog)"].map((each) => document.querySelector(`${each} ${kind}`));
	return boxes.find((each) => each);
}
export const focusTopmost = () => topmost(":is(.sheet > header button, .area, main:not([hidden]))")?.focus({ preventScroll: true });

// Says something for a while; `action` is a button that ends it. There is one message at a time, and one with a button:
// what is new takes the place of what is old. Returns it.
export function toast(text, action) {
	for (const old of document.querySelectorAll(".toast")) if (!old.querySelector("button") === !action) old.remove();
	const box = h("p.toast", text, action);
	if (action) action.addEventListener("click", () => box.remove());
	topmost(".messages").append(box);
	setTimeout(() => box.remove(), action ? 30000 : 5000);
	return box;
}

// Keeps an element in one place on a phone, as the style sheet knows it, and in another elsewhere: `put(isPhone)` does that.
export function onPhone(put) {
	let before;
	const look = () => {
		const isPhone = getComputedStyle(document.documentElement).getPropertyValue("--phone") !== "";
		if (isPhone !== before) put(isPhone);
		before = isPhone;
	};
	look();
	addEventListener("resize", look);
}

// A choice of some values, with their texts.
export function select(name, texts, chosen) {
	const option = ([value, text]) => h("option", { value, selected: value === chosen }, text);
	return h("select", { name }, Object.entries(texts).map(option));
}

export function dialog(title, ...content) {
	if (document.querySelector("dialog.sheet")) return;
	const close = button("close", T.close, () => box.close());
	const box = h("dialog.sheet", { "aria-label": title }, h("header", h("h2", title), close), content, messages());
	box.onclose = () => box.remove();
	document.body.append(box);
	box.showModal();
}

// A form whose values, by name, `submit` sends; then its dialog closes, and what `submit` returns is said. It says why that
// failed.
export function form(submit, action, ...fields) {
	const wrong = h("p.problem", { role: "alert" });
	const onsubmit = async (event) => {
		event.preventDefault();
		try {
			const said = await submit(Object.fromEntries(new FormData(event.target)));
			event.target.closest("dialog")?.close();
			if (said) toast(said);
		} catch (problem) {
			put(wrong, problem.message);
		}
	};
	const made = h("form", { onsubmit }, fields, wrong, h("button", action));
	made.querySelector("input").autofocus = true;
	return made;
}
