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
  #position = null;
  #frame = 0;
  #typing = 0;
  #resting = 0;

  connectedCallback() {
    if (this.#parts) return;
    const api = new CallApi(this.getAttribute("call-id"));
    this.#parts = this.#build();
    this.#detail = new EntryDetail(this.#parts.detail, api);
    this.#list = new EntryList(api, Number(this.getAttribute("count") ?? 0));
    this.#list.addEventListener("change", () => this.#paint());
    new ResizeObserver(() => this.#paint()).observe(this.#parts.list);
    this.#list.want(1);
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

  /** Open the entry at a position, and show where it stands. */
  async open(position, { isFocused = false } = {}) {
    this.#note(position);
    void this.#detail.show(position);
    if (isFocused) this.#parts.detail.focus({ preventScroll: true });
    const index = await this.#list.reach(position);
    if (this.#position !== position) return;
    this.#chosen = index;
    if (index >= 0) this.#scrollTo(index, true);
    this.#paint();
  }

  #openHash() {
    const [, position] = location.hash.match(/^#(\d{1,9}:\d{1,9})$/) ?? [];
    if (!position || position === this.#position) return;
    void this.open(position);
    this.scrollIntoView({ block: "nearest" });
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
      this.#chosen = -1;
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
    const page = Math.max(1, Math.floor(this.#parts.list.clientHeight / ROW) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter" && this.#chosen >= 0) this.#parts.detail.focus();
    else if (by && !event.ctrlKey && !event.altKey && !event.metaKey) {
      const last = this.#list.rows.length - 1;
      this.#choose(clamp(this.#chosen < 0 ? 0 : this.#chosen + by, 0, last));
    } else return;
    event.preventDefault();
  }

  #choose(index) {
    const row = this.#list.rows[index];
    if (!row) return;
    this.#chosen = index;
    this.#note(row.position);
    this.#scrollTo(index);
    clearTimeout(this.#resting);
    // who holds a key down wants to get somewhere
    this.#resting = setTimeout(() => void this.#detail.show(row.position), RESTING_MS);
    this.#paint();
  }

  #note(position) {
    this.#position = position;
    if (location.hash !== `#${position}`) history.replaceState(history.state, "", `#${position}`);
    this.dispatchEvent(new CustomEvent("rto-entry", { detail: { position } }));
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
    for (let index = first; index < last; index += 1) this.#row(index);
    for (const shown of this.#spare.splice(0)) shown.element.remove();
    const active = this.#shown.get(this.#chosen)?.element.id ?? "";
    if (active) list.setAttribute("aria-activedescendant", active);
    else list.removeAttribute("aria-activedescendant");
    this.#list.want(last + AHEAD);

    const { problem } = this.#list;
    const isEmpty = this.#list.isComplete && length === 0;
    empty.hidden = !isEmpty && !problem;
    again.hidden = !problem;
    const nothing = this.#list.isFiltered ? "No entry is like that. Change the filter." : "Nothing was recorded of this call.";
    words.textContent = problem ?? nothing;
    body.hidden = isEmpty;
    const isAll = this.#list.isFiltered || this.#list.isComplete;
    const told = counted(isAll ? this.#list.rows.length : length, isAll && !this.#list.isComplete);
    if (count.textContent !== told) count.textContent = told;
  }

  #row(index) {
    const row = this.#list.rows[index];
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
    const size = String(this.#list.isComplete ? this.#list.rows.length : -1);
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
