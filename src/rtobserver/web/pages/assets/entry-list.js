// The entries of a call, page by page, as far as somebody looked. Of each one only a line is kept; what is behind it is
// asked for when it is opened, so that a call of any length fits.

import { visible } from "./json-view.js";

const FIRST = 200;
const PAGE = 1000;
const LONGEST_LINE = 160;
const LONGEST_TYPE = 120;

export class EntryList extends EventTarget {
  rows = [];
  isComplete = false;
  problem = null;
  #api;
  #filter = { type: "", kind: "" };
  #pattern = null;
  #count;
  #loading = null;
  #wanted = 0;
  #newest = null;

  /** `count` is how many entries the call has by now. */
  constructor(api, count) {
    super();
    this.#api = api;
    this.#count = count;
  }

  get isFiltered() {
    return Boolean(this.#filter.type || this.#filter.kind);
  }

  /** How many rows there are to scroll through; of a filtered list nobody knows before its end. */
  get length() {
    if (this.isComplete) return this.rows.length;
    return this.isFiltered ? this.rows.length + 1 : Math.max(this.rows.length + 1, this.#count);
  }

  /** Begin anew with entries of a type (a pattern with * and ?) and kind only. */
  filter(type, kind) {
    this.#loading?.abort();
    this.#loading = null;
    this.#filter = { type, kind };
    this.#pattern = type ? globbed(type) : null;
    this.rows = [];
    this.isComplete = false;
    this.problem = null;
    this.#wanted = 0;
    this.want(1);
  }

  /** See to it that so many rows are there, or all. */
  want(count) {
    this.#wanted = Math.max(this.#wanted, count);
    if (this.#loading || this.isComplete || this.problem || this.rows.length >= this.#wanted) return;
    void this.#load();
  }

  /** Load up to a position; gives its index, or -1 if it is not in the list. */
  async reach(position) {
    while (!this.isComplete && !this.problem && (!this.rows.length || isBefore(this.rows.at(-1).position, position))) {
      this.want(this.rows.length + PAGE);
      await new Promise((done) => this.addEventListener("change", done, { once: true }));
    }
    return this.indexOf(position);
  }

  indexOf(position) {
    let [low, high] = [0, this.rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(this.rows[middle].position, position)) low = middle + 1;
      else high = middle;
    }
    return this.rows[low]?.position === position ? low : -1;
  }

  /** Take an entry that was recorded just now. */
  add(entry) {
    if (this.#newest && !isBefore(this.#newest, entry.position)) return;
    this.#newest = entry.position;
    this.#count += 1;
    const last = this.rows.at(-1);
    // while a page is on its way, it may have this entry or not: it is asked for again behind that page
    if (this.isComplete && !this.#loading && this.#matches(entry) && (!last || isBefore(last.position, entry.position))) {
      this.rows.push(row(entry));
    }
    this.#tell();
  }

  /** Look for entries that nobody told of, or that could not be loaded before. */
  lookAgain() {
    this.problem = null;
    this.isComplete = false;
    this.want(this.rows.length + 1);
  }

  async #load() {
    const asked = (this.#loading = new AbortController());
    const limit = this.rows.length ? PAGE : FIRST;
    const query = { after: this.rows.at(-1)?.position ?? "0:0", limit, overlap: "include" };
    for (const [name, value] of Object.entries(this.#filter)) if (value) query[name] = value;
    const newest = this.#newest;
    try {
      const page = await this.#api.page(query, asked.signal);
      if (asked.signal.aborted) return;
      for (const entry of page.data) this.rows.push(row(entry));
      // what came meanwhile stands behind this page
      this.isComplete = page.next_cursor === null && newest === this.#newest;
    } catch (error) {
      if (asked.signal.aborted) return;
      this.problem = error.message;
    }
    this.#loading = null;
    this.#tell();
    this.want(this.#wanted);
  }

  #matches({ type, kind }) {
    if (this.#filter.kind && kind !== this.#filter.kind) return false;
    return !this.#pattern || this.#pattern.test(type ?? "");
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Whether a position stands before another. */
export function isBefore(one, other) {
  const [[epoch, seq], [otherEpoch, otherSeq]] = [one, other].map((position) => position.split(":").map(Number));
  return epoch < otherEpoch || (epoch === otherEpoch && seq < otherSeq);
}

function row({ position, offset_ms: offsetMs, kind, type, payload }) {
  return { position, offsetMs, kind, type: visible((type ?? "").slice(0, LONGEST_TYPE)), line: line(payload) };
}

/** What says most in one line: words first, without what the row tells anyway. */
function line(payload) {
  if (payload === undefined) return "(not JSON)";
  if (payload === null || typeof payload !== "object") return short(JSON.stringify(payload));
  const { transcript, delta, text, error, arguments: given, reason } = payload;
  const words = transcript ?? delta ?? text ?? error?.message ?? given ?? reason;
  if (typeof words === "string" && words) return short(words);
  const { type: _type, event_id: _id, ...rest } = payload;
  return Object.keys(rest).length ? short(JSON.stringify(rest)) : "";
}

function short(text) {
  return visible(text.slice(0, LONGEST_LINE).replaceAll(/\s+/g, " "));
}

function globbed(type) {
  const parts = type.replaceAll(/[\\^$.|+()[\]{}]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  return new RegExp(`^${parts}$`, "s");
}
