// Every text that the page shows, in English. A translation is one more file like this.

export const number = (value) => value.toLocaleString();
const many = (count) => `${number(count)} ${count === 1 ? "photo" : "photos"}`;
const either = (names) => new Intl.ListFormat("en", { type: "disjunction" }).format(names);

const month = new Intl.DateTimeFormat([], { month: "long", year: "numeric" });

// Times as people type them: today, yesterday, last week, last summer, July 2026, spring 2019. Not in quotes.
const TIMES = /"[^"]*"?|(?<=^-?|\s-?)(?:(today|yesterday)|(last) ([a-z]+)|([a-z]+) (\d{4}))(?=\s|$)/gi;
const MONTHS = Array.from({ length: 12 }, (_, at) => new Date(2000, at).toLocaleDateString("en", { month: "long" }).toLowerCase());
const SEASONS = { spring: 3, summer: 6, autumn: 9, fall: 9, winter: 12 }; // the first of three months
const isoDay = (date) => date.toLocaleDateString("sv");
const daysAgo = (count) => isoDay(new Date(new Date().setDate(new Date().getDate() - count)));

// Returns some months as a search for them; without a year, the last ones that have begun and ended.
function timeOf(name, year) {
	const [now, count] = [new Date(), SEASONS[name] ? 3 : 1];
	const first = SEASONS[name] ?? MONTHS.findIndex((each) => name.length > 2 && each.startsWith(name)) + 1;
	if (!first) return;
	year ??= now.getFullYear() - (new Date(now.getFullYear(), first - 1 + count) > now);
	const [from, until] = [0, count - 1].map((more) => isoDay(new Date(year, first - 1 + more)).slice(0, 7));
	return count > 1 ? `${from}..${until}` : from;
}

function time(day, last, unit, name, year) {
	if (day) return daysAgo(day === "today" ? 0 : 1);
	if (name) return timeOf(name, year);
	if (unit === "week") return `${daysAgo(7)}..${daysAgo(0)}`;
	if (unit === "month") return timeOf(MONTHS.at(new Date().getMonth() - 1));
	return unit === "year" ? `${new Date().getFullYear() - 1}` : unit && timeOf(unit);
}

export const T = {
	photos: "Photos",
	folders: "Folders",
	views: "Views",
	path: "Path",
	byDate: "All below, by date",
	asFolder: "As folders",
	count: many,
	timeline: "Timeline",
	toCome: "To come",
	noDate: "No date",
	selectDay: "Select this day",
	fresh: (count) => `${number(count)} new`,
	close: "Close",
	retry: "Try again",
	tree: "Folder tree",
	menu: "Menu",
	orders: { date: ["Oldest first", "Newest first"], name: ["From Z to A", "From A to Z"] },
	added: "Recently added",
	favourites: "Favourites",
	loading: "Loading…",
	waiting: ["Waiting for Lenslet", "This page tries again by itself."],

	// Folders and the grid
	expand: (name) => `Subfolders of ${name}`,
	emptyFolder: (types) => ["No photos here yet", `Files that end in ${either(types)} appear here by themselves.`],
	noFolder: ["This folder does not exist", "It may have been renamed or removed."],
	day: (date) => {
		if (date.length < 10) return T.date(date);
		return new Date(`${date}T12:00`).toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" });
	},
	// A year, a month or a day, as precisely as it is known: `1932`, `1932-00` (a month that is not), `1932-07`, `1932-07-14`.
	date: (text) => {
		if (text.length === 10) return new Date(`${text}T12:00`).toLocaleDateString([], { dateStyle: "long" });
		return /^\d+(-00)?$/.test(text) ? text.slice(0, 4) : month.format(new Date(`${text}-15T12:00`));
	},
	select: (name) => `Select ${name}`,

	// Sharing
	share: "Share",
	label: "Name that guests see",
	ends: "Ends after",
	days: { 1: "a day", 7: "a week", 30: "30 days", 365: "a year" },
	guests: {
		download: ["files", "Guests may download the files, with all that is in them, also where they were taken"],
		words: ["tags and notes", "Guests see tags, notes and captions"],
		position: ["places", "Guests see where photos were taken"],
		preview: ["preview", "Messengers show the name and a photo to whoever has the address"],
	},
	wholeLibrary: "This shows the whole library.",
	makeLink: "Make a link",
	link: "Link",
	links: "Links",
	copy: "Copy the address",
	copied: "Copied",
	linkOf: ({ path, q, photos, ends, ...link }) => {
		const what = q || (photos > 1 ? T.count(photos) : `/${path}`);
		const shown = Object.entries(T.guests).map(([key, [name]]) => link[key] && name);
		return [what, ...shown, `until ${new Date(ends).toLocaleDateString()}`].filter(Boolean).join(" · ");
	},
	takenBack: (label) => `“${label}” shows nothing any more`,
	onlyHere: "Copy it now: it is shown only once.",
	folderNames: "Guests see the names of the folders that photos are in.",
	ownLink: "You are signed in, so you see everything.",
	noLink: "This link has ended or was taken back, or only a part of its address is here.",
	askForLink: "Ask whoever sent it for the whole address, or for a new link.",
	closeLink: "Close this link",
	takeBack: "Take back",
	noLinks: "There are no links.",
	openService: "Only people in the same network can open it.",

	// A folder's own
	describe: "Title and order",
	title: "Title",
	description: "Description",
	order: "Order of photos",
	folderOrders: { "": "By name", date: "Oldest first", "-date": "Newest first" },
	asCover: "Use as the cover",
	fromFile: "Keywords in the file",
	save: "Save",
	saved: "Saved",

	// Several photos
	selected: (count, more) => `${number(count)}${more ? "…" : ""} selected`,
	all: "All",
	renameTag: (tag) => `Rename the tag “${tag}”`,
	newName: "New name, in all photos",
	notSelected: (reason) => `Not all are selected: ${reason}`,
	listChanged: "the list has changed; select them again",
	addTag: "Add a tag",
	removeTag: "Remove a tag",
	clearSelection: "Clear the selection",
	undo: "Undo",
	undone: (count) => `${many(count)} as before`,
	tagged: (count) => (count ? `${many(count)} changed` : "Nothing to change; keywords in the files stay"),
	notTagged: (count, reason) => `${many(count)} not changed: ${reason}`,

	// One photo
	viewer: "Photo",
	previous: "Previous photo",
	next: "Next photo",
	percent: (share) => `${number(Math.round(100 * share))} %`,
	fullScreen: "Full screen",
	play: "Slideshow",
	download: "Download",
	favourite: "Favourite",
	unstarred: "No favourite any more",
	position: (at, all) => `${number(at)} of ${number(all)}`,
	notShown: "This photo cannot be shown:",
	details: "Details",
	tags: "Tags",
	notes: "Notes",
	facts: {
		taken: "Taken",
		place: "Place",
		camera: "Camera",
		lens: "Lens",
		exposure: "Exposure",
		size: "Size",
		warning: "Damaged",
		file: "File",
		edited: "Last edit",
	},
	moreFacts: "More",
	exposure: ({ FNumber, ExposureTime, ISOSpeedRatings, FocalLength }) => [
		FNumber && `ƒ/${number(FNumber)}`,
		ExposureTime && (ExposureTime < 0.3 ? `1/${Math.round(1 / ExposureTime)} s` : `${number(ExposureTime)} s`),
		ISOSpeedRatings && `ISO ${ISOSpeedRatings}`,
		FocalLength > 0 && `${number(Math.round(FocalLength * 10) / 10)} mm`,
	],
	by: (date, user) => `${date} by ${user}`,
	// As the camera's clock showed it, wherever one is now.
	taken: (text) => text && (text.length > 10 ? T.moment(text.slice(0, 19)) : T.date(text)),
	moment: (text) => text && new Date(text).toLocaleString([], { dateStyle: "long", timeStyle: "short" }),
	warnings: { truncated: "The end of the file is missing", damaged: "A part cannot be decoded" },
	bytes: (count) => (count < 1e6 ? `${number(Math.ceil(count / 1000))} kB` : `${number(Math.round(count / 1e5) / 10)} MB`),
	removeThisTag: (tag) => `Remove the tag ${tag}`,
	statuses: { saving: "Saving…", saved: "Saved" },
	unsaved: "A change is not saved yet.",
	notSaved: (reason) => `Not saved: ${reason}`,
	readonly: "Tags and notes cannot be changed here.",
	conflict: "The notes have changed meanwhile",
	keep: ["Keep yours", "Keep theirs", "Keep both"],

	// Search
	search: "Search photos",
	searchHint: 'Search for words, "two words", tag:portrait, date:2024-07, -without',
	searchIn: (name) => `Search in ${name}`,
	everywhere: "Everywhere",
	times: (query) =>
		query.replace(TIMES, (text, ...words) => {
			const found = time(...words.slice(0, 5).map((word) => word?.toLowerCase()));
			return found ? `date:${found}` : text;
		}),
	filters: "Filters",
	fields: { tag: "Tag", name: "Name", notes: "Notes", path: "Folder", date: "Taken", camera: "Camera", lens: "Lens" },
	term: ({ not, field, word }) => {
		const text = field === "date" && /^\d{4}(-\d\d){0,2}$/.test(word) ? T.date(word) : word;
		return `${not ? "Without " : ""}${field ? `${T.fields[field]}: ` : ""}${text}`;
	},
	turn: ({ not, word }) => (not ? `With “${word}”` : `Without “${word}”`),
	leaveOut: (text) => `Search without “${text}”`,
	onThisDay: "On this day",
	thisDay: () => `date:*-${daysAgo(0).slice(5)}`,
	skip: "To the photos",
	nothingFound: ["Nothing found", "No photo here has each of these words."],
	results: "Search",
	saveSearch: "Save this search",
	searchName: "Name above the folders",
	forget: "Forget this search",

	// Health
	health: "Health",
	healthNoted: "Lenslet works; some files need a look",
	healthOf: { ok: "All is well", degraded: "Something needs attention", down: "The library cannot be read" },
	library: "Library",
	indexing: "Index process",
	counts: { folders: "Folders", items: "Photos", sidecars: "Photos with tags or notes" },
	thumbnails: (made, all, never) => `Thumbnails: ${number(made)} of ${number(all)}${never ? `; ${many(never)} cannot be shown` : ""}`,
	unsupported: (counts) => {
		const found = Object.entries(counts).map(([type, count]) => `${number(count)} ${type}`);
		return `Not shown: ${found.join(", ")}`;
	},
	progress: ({ backlog, progress }) => (backlog ? `Indexing: ${progress}` : "Nothing to do"),
	problems: "Problems and notes",
	more: (count) => `… and ${number(count)} more`,

	// Getting in, and getting through
	signIn: "Sign in",
	signOut: "Sign out",
	password: "Password",
	offline: "Lenslet does not answer. Trying again…",
	failed: "This did not work",

	help: "Keys",
	keys: {
		"← → ↑ ↓": "Move between photos",
		"+ − 0 1": "Zoom in, out, to the window, to 100 %",
	},
	keysOfEditors: {
		Space: "Select it; with Shift, all up to it",
		"Ctrl A": "Select all",
		"Ctrl Z": "Undo the last change of several photos",
	},
};
