// Tags as tokens in a field, and a list of suggestions below any field.

import { read } from "./api.js";
import { button, h, put } from "./dom.js";
import { number, T } from "./strings.js";

const TYPING_MS = 120;
let lists = 0;

/**
 * Shows suggestions below a field while one types (the combobox pattern of WAI-ARIA).
 * `word()` is the text to complete, `pick(suggestion)` takes what was chosen, `only` is a kind.
 */
export function suggest(input, { word, pick, only }) {
  const list = h("ul", { class: "suggestions", role: "listbox", id: `suggestions-${++lists}`, "aria-label": T.suggestions });
  list.hidden = true;
  let found = [];
  let at = -1;
  let timer;
  const mark = (index) => {
    at = index;
    [...list.children].forEach((each, number) => each.setAttribute("aria-selected", number === at));
    if (at >= 0) input.setAttribute("aria-activedescendant", list.children[at].id);
    else input.removeAttribute("aria-activedescendant");
  };
  const show = (suggestions) => {
    found = suggestions;
    const rows = found.map((each, index) =>
      h(
        "li",
        {
          role: "option",
          id: `${list.id}-${index}`,
          onpointerdown: (event) => (event.preventDefault(), choose(index)),
        },
        h("span", {}, each.text),
        h("small", {}, number(each.count)),
      ),
    );
    put(list, rows);
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    mark(-1);
  };
  const choose = (index) => {
    pick(found[index]);
    show([]);
  };
  const look = async () => {
    const text = word();
    if (!text) return show([]);
    try {
      const { suggestions } = (await read("search/suggest", { q: text, limit: 20 })).data;
      if (word() === text && document.activeElement === input) {
        show(suggestions.filter((each) => !only || each.kind === only).slice(0, 8));
      }
    } catch {
      show([]);
    }
  };
  for (const [name, value] of Object.entries({ role: "combobox", autocomplete: "off", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id })) {
    input.setAttribute(name, value);
  }
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPING_MS);
  });
  input.addEventListener("blur", () => show([]));
  input.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) mark(((at + step + found.length + 2) % (found.length + 1)) - (at + step < -1 || at + step >= found.length ? 1 : 0));
    else if (event.key === "Enter" && at >= 0) choose(at);
    else if (event.key === "Escape") show([]);
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  });
  return list;
}

/** A field with tags as tokens. `change(tags)` is called with every new list. */
export class TagField {
  #tags = [];

  constructor(label, change, readonly = false) {
    this.change = change;
    this.readonly = readonly;
    this.tokens = h("ul", { class: "tokens", "aria-label": label });
    this.input = h("input", { type: "text", "aria-label": T.addTag, placeholder: T.addTag, maxLength: 200 });
    const pick = ({ text }) => this.#add(text);
    const list = suggest(this.input, { word: () => this.input.value.trim(), pick, only: "tag" });
    this.input.addEventListener("keydown", (event) => {
      if ((event.key === "Enter" || event.key === ",") && this.input.value.trim()) {
        event.preventDefault();
        this.#add(this.input.value);
      } else if (event.key === "Backspace" && !this.input.value && this.#tags.length) {
        this.#set(this.#tags.slice(0, -1));
      }
    });
    this.input.addEventListener("blur", () => this.input.value.trim() && this.#add(this.input.value));
    this.element = h("div", { class: "tag-field" }, this.tokens, readonly ? null : h("div", { class: "combo" }, this.input, list));
  }

  get tags() {
    return this.#tags;
  }

  set tags(tags) {
    this.#tags = [...tags];
    const token = (tag) =>
      h(
        "li",
        {},
        h("a", { href: `#/?${new URLSearchParams({ q: `tag:"${tag}"` })}` }, tag),
        this.readonly ? null : button("close", T.removeThisTag(tag), () => this.#set(this.#tags.filter((each) => each !== tag))),
      );
    put(this.tokens, this.#tags.map(token));
  }

  #add(text) {
    this.input.value = "";
    const tag = text.trim();
    if (tag && !this.#tags.includes(tag)) this.#set([...this.#tags, tag]);
  }

  #set(tags) {
    this.tags = tags;
    this.change(this.#tags);
  }
}
