// Parts that own something announce its changes to whoever listens: `address`, `list` (`opened`: another one), `selection`,
// `edit`, `stored` (tags, by path), `progress` (of the index), `indexed` (nothing is left), `trouble` (why the service does
// not answer), `searches` (that are saved), `positions`, `scrolled` and `rests` (of the grid), `sign-in`.

export const announce = (name, detail) => document.dispatchEvent(new CustomEvent(name, { detail }));
export const on = (name, act) => document.addEventListener(name, ({ detail }) => act(detail));
