// <rto-entries call-id="..." count="..." live>: all entries of a call, of which only those in sight are elements.

import { CallApi } from "./call-api.js";
import { EntryDetail } from "./entry-detail.js";
import { EntryList } from "./entry-list.js";
import { clamp, clock } from "./timeline-scale.js";

const ROW = 28;
const AROUND = 8;
// fewer than a first page has: nothing competes with what is seen first
const AHEAD = 150;
const TYPING_MS = 300;
const RESTING_MS = 90;
const KINDS = [["", "All kinds"], ["event", "Events"], ["command", "Commands"], ["gap", "Gaps"]];
const TYPES = [
  ...["response.*", "*.done", "input_audio_buffer.*", "output_audio_buffer.*"],
  ...["conversation.item.*", "session.*", "error"],
];

export class Entries extends HTMLElement {
  #parts = null;
  #list = null;
  #detail = null;
  #shown = new Map();
  #spare = [];
  #chosen = -1;
  /** Whether the chosen row was not there yet when it was chosen. */
  #isAwaited = false;
  /** Who is on the way to the end; aborted where nobody is. */
  #going = new AbortController();
  #position = null;
  #frame = 0;
  #typing = 0;
  #resting = 0;

  connectedCallback() {
    if (this.#parts) return;
    this.#going.abort();
    const api = new CallApi(this.getAttribute("call-id"));
    this.#parts = this.#build();
    this.#detail = new EntryDetail(this.#parts.detail, api);
    this.#list = new EntryList(api, Number(this.getAttribute("count") ?? 0), this.getAttribute("last") ?? "");
    this.#list.addEventListener("change", () => this.#change());
    this.#detail.addEventListener("shown", ({ detail }) => {
      this.dispatchEvent(new CustomEvent("rto-entry", { detail }));
    });
    new ResizeObserver(() => this.#paint()).observe(this.#parts.list);
    this.#list.want(0, 1);
    addEventListener("hashchange", () => this.#openHash());
    this.#openHash();
  }

  /** The position of the entry that is open. */
  get position() {
    return this.#position;
  }

  /** Take an entry of the tail. */
  add(entry) {
    this.#list.add(entry);
  }

  /** Look for entries that the tail did not bring, or that could not be loaded. */
  lookAgain() {
    this.#list.lookAgain();
  }

  /** Open the entry at a position, and show where it stands; the page's address names it, unless `isQuiet`. */
  async open(position, { isFocused = false, isQuiet = false } = {}) {
    this.#going.abort();
    this.#note(position, isQuiet);
    const shown = this.#detail.show(position, { isQuiet });
    if (isFocused) this.#parts.detail.focus({ preventScroll: true });
    const index = await this.#list.reach(position);
    await shown;
    if (this.#position !== position) return;
    this.#chosen = index;
    this.#isAwaited = false;
    if (index >= 0) this.#scrollTo(index, true);
    this.#paint();
  }

  #openHash() {
    const [, position] = location.hash.match(/^#(\d{1,9}:\d{1,9})$/) ?? [];
    if (!position || position === this.#position) return;
    void this.open(position).then(() => this.#position === position && this.bringToView());
    this.bringToView();
  }

  /** Have the page show the entry that is open. */
  bringToView() {
    this.#parts.detail.scrollIntoView({ block: "nearest" });
  }

  #build() {
    const type = make("input");
    type.placeholder = "response.*";
    type.setAttribute("list", "entry-types");
    type.autocomplete = "off";
    type.spellcheck = false;
    const types = make("datalist");
    types.id = "entry-types";
    types.append(...TYPES.map((value) => new Option("", value)));
    const kind = make("select");
    kind.append(...KINDS.map(([value, text]) => new Option(text, value)));
    const count = make("span", "en-count");
    count.setAttribute("role", "status");
    const bar = make("div", "bar en-bar");
    bar.append(field("Type", type), types, field("Kind", kind), count);

    const list = make("div", "en-list");
    list.tabIndex = 0;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Entries");
    const space = make("div", "en-space");
    space.setAttribute("role", "presentation");
    list.append(space);
    const empty = make("div", "empty");
    empty.hidden = true;
    const words = make("p");
    const again = make("button", "", "Try again");
    again.type = "button";
    again.addEventListener("click", () => this.lookAgain());
    empty.append(words, again);
    const detail = make("div", "en-detail");
    detail.tabIndex = -1;
    detail.setAttribute("role", "group");
    detail.setAttribute("aria-label", "The entry");
    const body = make("div", "en-body");
    body.append(list, detail);
    this.replaceChildren(bar, empty, body);

    let applied = " ";
    const filter = () => {
      clearTimeout(this.#typing);
      // leaving the field says once more what was applied while somebody typed
      if (applied === `${kind.value} ${type.value.trim()}`) return;
      applied = `${kind.value} ${type.value.trim()}`;
      this.#going.abort();
      this.#chosen = -1;
      this.#isAwaited = false;
      list.scrollTop = 0;
      this.#list.filter(type.value.trim(), kind.value);
    };
    type.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(filter, TYPING_MS);
    });
    type.addEventListener("change", filter);
    kind.addEventListener("change", filter);
    list.addEventListener("scroll", () => this.#paint(), { passive: true });
    list.addEventListener("keydown", (event) => this.#press(event));
    list.addEventListener("click", ({ target }) => {
      const index = Number(target.closest("[data-index]")?.dataset.index ?? -1);
      if (index >= 0) this.#choose(index);
    });
    detail.addEventListener("keydown", (event) => event.key === "Escape" && list.focus());
    return { list, space, empty, words, again, detail, count, body };
  }

  #press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const index = event.key === "Enter" ? -1 : this.#aim(event.key);
    if (event.key === "Enter" && this.#chosen >= 0) this.#parts.detail.focus();
    else if (event.key === "End") void this.#toEnd();
    else if (index !== null && event.key !== "Enter") this.#choose(clamp(index, 0, this.#list.length - 1));
    else return;
    event.preventDefault();
  }

  /** The index that a key leads to: from the row that is chosen, or from where the view is; null for other keys. */
  #aim(key) {
    const { list } = this.#parts;
    const inView = Math.floor(list.clientHeight / ROW);
    const first = Math.ceil(list.scrollTop / ROW);
    const isInView = this.#chosen >= first && this.#chosen < first + inView;
    const page = Math.max(1, inView - 1);
    const from = isInView ? this.#chosen : first;
    switch (key) {
      case "ArrowDown":
        return this.#chosen < 0 ? first : this.#chosen + 1;
      case "ArrowUp":
        return this.#chosen < 0 ? first : this.#chosen - 1;
      case "PageDown":
        return from + page;
      case "PageUp":
        return from - page;
      case "Home":
        return 0;
      default:
        return null;
    }
  }

  async #toEnd() {
    this.#going.abort();
    const { signal } = (this.#going = new AbortController());
    this.#paint();
    const index = await this.#list.reachEnd(signal);
    if (signal.aborted) return;
    this.#going.abort();
    this.#choose(index);
  }

  #choose(index) {
    if (index < 0) return;
    this.#going.abort();
    this.#chosen = index;
    this.#scrollTo(index);
    this.#take();
    this.#paint();
  }

  /** Open the chosen row, now or once it is there. */
  #take() {
    clearTimeout(this.#resting);
    const row = this.#list.row(this.#chosen);
    this.#isAwaited = !row;
    if (!row) return;
    this.#note(row.position);
    // who holds a key down wants to get somewhere
    this.#resting = setTimeout(() => void this.#detail.show(row.position), RESTING_MS);
  }

  #change() {
    if (this.#chosen >= 0) {
      if (this.#isAwaited) {
        this.#chosen = Math.min(this.#chosen, this.#list.length - 1);
        this.#take();
      } else if (this.#list.row(this.#chosen)?.position !== this.#position) {
        // there are more rows before it than was known
        this.#chosen = this.#list.indexOf(this.#position);
      }
    }
    this.#paint();
  }

  #note(position, isQuiet = false) {
    this.#position = position;
    if (isQuiet || location.hash === `#${position}`) return;
    history.replaceState(history.state, "", `#${position}`);
  }

  #scrollTo(index, isCentred = false) {
    const { list, space } = this.#parts;
    space.style.height = `${this.#list.length * ROW}px`;
    const [top, bottom] = [index * ROW, (index + 1) * ROW];
    if (top >= list.scrollTop && bottom <= list.scrollTop + list.clientHeight) return;
    if (isCentred) list.scrollTop = top - list.clientHeight / 2;
    else if (top < list.scrollTop) list.scrollTop = top;
    else list.scrollTop = bottom - list.clientHeight;
  }

  #paint() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paintNow();
    });
  }

  #paintNow() {
    const { list, space, count, empty, words, again, body } = this.#parts;
    const length = this.#list.length;
    const height = length * ROW;
    const wasAtEnd = list.scrollTop > 0 && list.scrollTop + list.clientHeight >= space.offsetHeight - ROW;
    if (space.offsetHeight !== height) {
      space.style.height = `${height}px`;
      // who looks at the end of a live call goes on looking at its end
      if (wasAtEnd && this.hasAttribute("live")) list.scrollTop = height;
    }
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - AROUND);
    const last = Math.min(length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + AROUND);
    for (const [index, shown] of this.#shown) {
      if (index >= first && index < last) continue;
      this.#spare.push(shown);
      this.#shown.delete(index);
    }
    for (let index = first; index < last; index += 1) this.#row(index, length);
    for (const shown of this.#spare.splice(0)) shown.element.remove();
    const active = this.#shown.get(this.#chosen)?.element.id ?? "";
    if (active) list.setAttribute("aria-activedescendant", active);
    else list.removeAttribute("aria-activedescendant");
    this.#list.want(Math.max(0, first - AHEAD), last + AHEAD);

    const { problem } = this.#list;
    const isEmpty = this.#list.isComplete && length === 0;
    empty.hidden = !isEmpty && !problem;
    again.hidden = !problem;
    const nothing = this.#list.isFiltered ? "No entry is like that. Change the filter." : "Nothing was recorded of this call.";
    words.textContent = problem ?? nothing;
    body.hidden = isEmpty;
    const number = counted(this.#list.count, this.#list.isFiltered && !this.#list.isComplete);
    const isOnTheWay = !this.#going.signal.aborted && !this.#list.isComplete;
    const told = isOnTheWay ? `On the way to the end: ${number}` : number;
    if (count.textContent !== told) count.textContent = told;
  }

  #row(index, length) {
    const row = this.#list.row(index);
    let shown = this.#shown.get(index);
    if (!shown) {
      shown = this.#spare.pop() ?? this.#made();
      this.#shown.set(index, shown);
      shown.element.id = `entry-${index}`;
      shown.element.dataset.index = index;
      shown.element.style.transform = `translateY(${index * ROW}px)`;
      shown.element.ariaPosInSet = String(index + 1);
      shown.row = undefined;
    }
    if (shown.row !== row) fill(shown, row);
    shown.row = row ?? null;
    const size = String(this.#list.isFiltered && !this.#list.isComplete ? -1 : length);
    if (shown.element.ariaSetSize !== size) shown.element.ariaSetSize = size;
    const isSelected = String(index === this.#chosen);
    if (shown.element.ariaSelected !== isSelected) shown.element.ariaSelected = isSelected;
  }

  #made() {
    const element = make("div", "en-row");
    element.setAttribute("role", "option");
    const [at, kind, type, line] = ["at", "kind", "type", "line"].map((name) => make("span", `en-${name}`));
    element.append(at, kind, type, line);
    this.#parts.space.append(element);
    return { element, at, kind, type, line };
  }
}

function fill({ element, at, kind, type, line }, row) {
  element.dataset.kind = row?.kind ?? "";
  element.dataset.position = row?.position ?? "";
  at.textContent = row ? clock(row.offsetMs, 3) : "…";
  kind.textContent = row && row.kind !== "event" ? row.kind : "";
  type.textContent = row?.type ?? "";
  line.textContent = row?.line ?? "";
}

function counted(number, hasMore) {
  return `${number.toLocaleString("en")}${hasMore ? "+" : ""} ${number === 1 && !hasMore ? "entry" : "entries"}`;
}

function field(name, control) {
  const label = make("label", "field", name);
  label.append(control);
  return label;
}

function make(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

customElements.define("rto-entries", Entries);
