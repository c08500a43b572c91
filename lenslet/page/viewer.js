// One photo, large: the thumbnail at once, then the preview, and the file itself when zoomed in.

import { fileUrl, pause, previewUrl, thumbUrl, whyNot } from "./api.js";
import { Details, FAVOURITE } from "./details.js";
import { button, h, icon, isTyping, put, toast } from "./dom.js";
import { T } from "./strings.js";

const PREVIEW_EDGE = 1600;
const SLIDE_MS = 5000;
const AGAIN_MS = 2000;
const MOST_ZOOM = 8;

export class Viewer {
  #pointers = new Map();
  #zoom = 1;
  #x = 0;
  #y = 0;
  #ahead = [];

  /** `actions`: go(index) shows another item, close(), saved(edit). */
  constructor(actions) {
    this.actions = actions;
    this.stage = h("div", { class: "stage" });
    this.position = h("span", { class: "position" });
    this.title = h("span", { class: "title" });
    this.details = new Details({ writable: actions.writable, saved: (edit) => this.#saved(edit) });
    this.star = button("star", T.favourite, () => this.#toggleStar(), { "aria-pressed": "false" });
    this.star.hidden = true;
    this.playing = button("play", T.play, () => this.#play(!this.timer));
    this.download = h("a", { class: "icon-button", title: T.download, "aria-label": T.download }, icon("download"));
    this.infoButton = button("info", T.info, () => this.#showDetails(this.details.element.hidden));
    this.previous = button("left", T.previous, () => this.step(-1), { class: "icon-button side left" });
    this.next = button("right", T.next, () => this.step(1), { class: "icon-button side right" });
    const bar = h(
      "header",
      {},
      button("close", T.close, () => this.element.close()),
      this.title,
      this.position,
      h(
        "span",
        { class: "buttons" },
        this.star,
        button("minus", T.zoomOut, () => this.#zoomTo(this.#zoom / 1.6)),
        button("plus", T.zoomIn, () => this.#zoomTo(this.#zoom * 1.6)),
        this.playing,
        button("full", T.fullScreen, () => this.#fullScreen()),
        this.download,
        button("link", T.copyLink, () => this.#copyLink()),
        this.infoButton,
      ),
    );
    const photo = h("div", { class: "photo-area" }, this.stage, this.previous, this.next);
    this.element = h("dialog", { class: "viewer", "aria-label": T.viewer }, bar, h("div", { class: "body" }, photo, this.details.element));
    this.element.addEventListener("close", () => this.#closed());
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.#watchPointers(photo);
    this.#showDetails(matchMedia("(min-width: 60rem)").matches && localStorage.getItem("details") !== "no", false);
    document.body.append(this.element);
  }

  /** Shows an item; `index` and `count` are -1 while its place in the list is not known. */
  show(item, index, source) {
    Object.assign(this, { index, source });
    if (!this.element.open) this.element.showModal();
    if (this.item?.path !== item.path || this.item?.rev !== item.rev) {
      this.item = item;
      this.star.hidden = true;
      this.download.href = fileUrl(item);
      this.download.download = item.name;
      put(this.title, item.name);
      this.#load();
      this.details.show(item);
    }
    const count = source?.total ?? source?.items.length ?? 0;
    put(this.position, index >= 0 && count ? T.position(index + 1, count) : "");
    this.previous.disabled = index <= 0;
    this.next.disabled = index < 0 || index >= count - 1;
    this.#preload();
  }

  async #load() {
    const { item } = this;
    this.#reset();
    const thumb = h("img", { class: "thumb", alt: "", src: thumbUrl(item), draggable: false });
    thumb.onerror = () => thumb.remove();
    const photo = h("img", { class: "large", alt: item.name, draggable: false });
    this.photo = photo;
    const fit = () => {
      const [w, h] = [item.w || photo.naturalWidth || 1, item.h || photo.naturalHeight || 1];
      this.stage.style.aspectRatio = `${w} / ${h}`;
      this.stage.style.setProperty("--shape", w / h);
      this.stage.style.setProperty("--most", `${Math.max(item.w || photo.naturalWidth, 256)}px`);
    };
    fit();
    put(this.stage, item.error ? null : thumb, photo);
    for (;;) {
      const shown = await new Promise((done) => {
        photo.onload = () => done(true);
        photo.onerror = () => done(false);
        photo.src = previewUrl(item);
      });
      if (this.item !== item) return;
      if (shown) break;
      const why = await whyNot(previewUrl(item));
      if (this.item !== item) return;
      if (why.status === 503 && (await this.#tryFile(photo))) break;
      if (why.status >= 400 && ![502, 503, 504].includes(why.status)) {
        put(this.stage, h("p", { class: "reason" }, h("b", {}, T.notShown), h("span", {}, why.message)));
        return;
      }
      await pause(AGAIN_MS);
      if (this.item !== item || !this.element.open) return;
    }
    fit();
    photo.classList.add("shown");
    thumb.remove();
    this.loaded = item.path;
  }

  /** Shows the file itself, where this host makes no previews. */
  #tryFile(photo) {
    return new Promise((done) => {
      photo.onload = () => done(true);
      photo.onerror = () => done(false);
      photo.src = fileUrl(this.item);
    });
  }

  #preload() {
    const near = [this.index + 1, this.index - 1].map((index) => this.source?.items[index]).filter((item) => item && !item.error);
    this.#ahead = this.index < 0 ? [] : near.map((item) => h("img", { src: previewUrl(item) }));
  }

  async step(by) {
    const index = this.index + by;
    if (this.index < 0) return;
    this.source.ensure(index, index + 1);
    const item = this.source.items[index];
    if (item) this.actions.go(item, index);
  }

  // Favourite and details

  #saved(edit) {
    if (edit.path !== this.item.path) return this.actions.saved(edit);
    this.star.hidden = !edit.writable;
    this.star.setAttribute("aria-pressed", String(edit.tags.includes(FAVOURITE)));
    this.actions.saved(edit);
  }

  #toggleStar() {
    const { edit } = this.details;
    if (!edit?.writable) return;
    const starred = edit.tags.includes(FAVOURITE);
    edit.tags = starred ? edit.tags.filter((tag) => tag !== FAVOURITE) : [...edit.tags, FAVOURITE];
    edit.save();
  }

  #showDetails(shown, keep = true) {
    this.details.element.hidden = !shown;
    this.infoButton.setAttribute("aria-pressed", String(shown));
    if (keep) localStorage.setItem("details", shown ? "yes" : "no");
  }

  // Slideshow, full screen, link

  #play(on) {
    clearInterval(this.timer);
    this.timer = on ? setInterval(() => this.#slide(), SLIDE_MS) : null;
    const label = on ? T.pause : T.play;
    put(this.playing, icon(on ? "pause" : "play"));
    this.playing.title = label;
    this.playing.setAttribute("aria-label", label);
    this.element.classList.toggle("playing", on);
  }

  #slide() {
    if (this.loaded !== this.item.path && !this.item.error) return;
    if (this.next.disabled) this.#play(false);
    else this.step(1);
  }

  #fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.element.requestFullscreen?.();
  }

  async #copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      toast(T.copied);
    } catch {
      toast(T.notCopied, "problem");
    }
  }

  #closed() {
    this.#play(false);
    this.details.notes?.blur();
    if (document.fullscreenElement) document.exitFullscreen();
    this.item = null;
    this.#ahead = [];
    put(this.stage);
    this.actions.close(this.index);
  }

  #key(event) {
    if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "Escape" && isTyping(event.target)) {
        event.preventDefault();
        event.target.blur();
      }
      return;
    }
    const zoomed = this.#zoom > 1;
    const action = {
      ArrowLeft: () => (zoomed ? this.#move(80, 0) : this.step(-1)),
      ArrowRight: () => (zoomed ? this.#move(-80, 0) : this.step(1)),
      ArrowUp: () => zoomed && this.#move(0, 80),
      ArrowDown: () => zoomed && this.#move(0, -80),
      Home: () => this.source?.items[0] && this.actions.go(this.source.items[0], 0),
      "+": () => this.#zoomTo(this.#zoom * 1.6),
      "=": () => this.#zoomTo(this.#zoom * 1.6),
      "-": () => this.#zoomTo(this.#zoom / 1.6),
      0: () => this.#zoomTo(1),
      f: () => this.#toggleStar(),
      i: () => this.#showDetails(this.details.element.hidden),
      p: () => this.#play(!this.timer),
      s: () => this.#fullScreen(),
      d: () => this.download.click(),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  // Zoom and pan

  #reset() {
    [this.#zoom, this.#x, this.#y] = [1, 0, 0];
    this.#draw();
  }

  #draw() {
    this.stage.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#zoom})`;
    this.stage.classList.toggle("zoomed", this.#zoom > 1);
  }

  /** Zooms so that a point, measured from the middle of the stage, stays where it is. */
  #zoomTo(zoom, x = 0, y = 0) {
    const now = Math.min(Math.max(zoom, 1), MOST_ZOOM);
    const factor = now / this.#zoom;
    [this.#x, this.#y] = [x - (x - this.#x) * factor, y - (y - this.#y) * factor];
    this.#zoom = now;
    this.#move(0, 0);
    const large = Math.max(this.item?.w ?? 0, this.item?.h ?? 0) > PREVIEW_EDGE;
    if (now > 1 && large && this.loaded === this.item.path && this.photo.dataset.full !== this.item.path) {
      this.photo.dataset.full = this.item.path;
      const [photo, file] = [this.photo, h("img", { src: fileUrl(this.item) })];
      file.decode().then(() => photo === this.photo && (photo.src = file.src), () => {});
    }
  }

  #move(x, y) {
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    const most = (size) => (size * (this.#zoom - 1)) / 2;
    const within = (value, limit) => Math.min(Math.max(value, -limit), limit);
    [this.#x, this.#y] = [within(this.#x + x, most(width)), within(this.#y + y, most(height))];
    this.#draw();
  }

  #middle(event) {
    const area = this.stage.parentElement.getBoundingClientRect();
    return [event.clientX - area.left - area.width / 2, event.clientY - area.top - area.height / 2];
  }

  #watchPointers(area) {
    const pointers = this.#pointers;
    area.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.#zoomTo(this.#zoom * 1.0015 ** -event.deltaY, ...this.#middle(event));
      },
      { passive: false },
    );
    area.addEventListener("dblclick", (event) => {
      if (!event.target.closest("button")) this.#zoomTo(this.#zoom > 1 ? 1 : 2.5, ...this.#middle(event));
    });
    area.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) return;
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, startX: event.clientX, startY: event.clientY, touch: event.pointerType === "touch" });
      area.setPointerCapture(event.pointerId);
      this.swipes = pointers.size === 1 && this.#zoom === 1;
    });
    area.addEventListener("pointermove", (event) => {
      const pointer = pointers.get(event.pointerId);
      if (!pointer) return;
      const [x, y] = [event.clientX - pointer.x, event.clientY - pointer.y];
      if (pointers.size === 2) {
        const [other] = [...pointers.values()].filter((each) => each !== pointer);
        const far = (one) => Math.hypot(one.x - other.x, one.y - other.y) || 1;
        const now = { x: event.clientX, y: event.clientY };
        const [mx, my] = this.#middle({ clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 });
        this.#zoomTo((this.#zoom * far(now)) / far(pointer), mx, my);
      } else if (this.#zoom > 1) this.#move(x, y);
      [pointer.x, pointer.y] = [event.clientX, event.clientY];
    });
    const end = (event) => {
      const pointer = pointers.get(event.pointerId);
      pointers.delete(event.pointerId);
      if (!pointer || !this.swipes || !pointer.touch || pointers.size || this.#zoom > 1) return;
      const [x, y] = [event.clientX - pointer.startX, event.clientY - pointer.startY];
      if (Math.abs(x) > 50 && Math.abs(x) > 1.5 * Math.abs(y)) this.step(x < 0 ? 1 : -1);
      else if (y > 90 && y > 1.5 * Math.abs(x)) this.element.close();
    };
    area.addEventListener("pointerup", end);
    area.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  }
}
