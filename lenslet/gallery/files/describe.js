// What people say of a folder: its title, description and order.

import { here, nameOf } from "./address.js";
import { send } from "./api.js";
import { form, h } from "./dom.js";
import { renewSoon, source } from "./list.js";
import { T } from "./strings.js";

export function describe() {
	const { title = "", description = "", order = "" } = source.about ?? {};
	const name = h("input", { value: title, placeholder: nameOf(here.folder), maxLength: 200 });
	const text = h("textarea", { value: description, rows: 3, maxLength: 10000 });
	const option = ([value, label]) => h("option", { value, selected: value === order }, label);
	const choice = h("select", Object.entries(T.folderOrders).map(option));
	const submit = async () => {
		await send("PUT", "folders", { path: here.folder }, { body: { title: name.value, description: text.value, order: choice.value } });
		renewSoon();
	};
	form(T.describe, submit, h("label", T.title, name), h("label", T.description, text), h("label", T.order, choice));
}
