// The entries of a call, page by page, from both its ends, as far as somebody looked. Of each one only a line is kept;
// what is behind it is asked for when it is opened, so that a call of any length fits.

import { visible } from "./json-view.js";

const FIRST = 200;
const PAGE = 1000;
const LONGEST_LINE = 160;
const LONGEST_TYPE = 120;
const LAST_SEQ = 999_999_999;

export class EntryList extends EventTarget {
  isComplete = false;
  problem = null;
  /** Rows from the first one on, and, until both meet, those that lead up to the last one. */
  #head = [];
  #tail = [];
  #tailFrom = 0;
  #api;
  #filter = { type: "", kind: "" };
  #pattern = null;
  #base;
  #came = 0;
  #loading = null;
  #wanted = [0, 0];
  #newest;
  /** Whether what stands before the tail's first row is in an earlier epoch: where that ends, nobody knows. */
  #isTailWhole = false;
  /** Whether the tail may lack entries behind its last row. */
  #isTailBehind = true;
  /** Whether somebody has to look whether more came than was told of. */
  #isDue = false;

  /** `count` is how many entries the call had when `last` was the last one's position, "" if it had none. */
  constructor(api, count, last) {
    super();
    this.#api = api;
    this.#base = { count, last };
    this.#newest = last;
  }

  get isFiltered() {
    return Boolean(this.#filter.type || this.#filter.kind);
  }

  /** How many rows there are to scroll through; of a filtered list nobody knows before its end. */
  get length() {
    if (this.isComplete) return this.#head.length;
    if (this.isFiltered) return this.#head.length + 1;
    return Math.max(this.#head.length + this.#tail.length + 1, this.count);
  }

  /** How many entries are known to be in the list. */
  get count() {
    return this.isComplete || this.isFiltered ? this.loaded : Math.max(this.loaded, this.#base.count + this.#came);
  }

  /** How many rows are there. */
  get loaded() {
    return this.#head.length + this.#tail.length;
  }

  /** The row at an index, if it is there. */
  row(index) {
    return this.#head[index] ?? this.#tail[index - this.#tailFrom];
  }

  /** Begin anew with entries of a type (a pattern with * and ?) and kind only. */
  filter(type, kind) {
    this.#loading?.abort();
    this.#loading = null;
    this.#filter = { type, kind };
    this.#pattern = type ? globbed(type) : null;
    [this.#head, this.#tail] = [[], []];
    this.isComplete = false;
    this.problem = null;
    this.#isTailWhole = false;
    this.#isTailBehind = true;
    this.#isDue = true;
    this.want(0, 1);
  }

  /** See to it that the rows of these indices are there, or all. */
  want(first, last) {
    this.#wanted = [first, last];
    this.#next();
  }

  /** Load what leads to a position; gives its index, or -1 if it is not in the list. */
  async reach(position) {
    const isMissing = () => {
      if (this.isComplete || this.problem) return false;
      const isBehindHead = !this.#head.length || isBefore(this.#head.at(-1).position, position);
      return isBehindHead && (!this.#tail.length || isBefore(position, this.#tail[0].position));
    };
    while (isMissing()) {
      if (!this.#loading) void this.#load(this.#isNearTail(position));
      await this.#changed();
    }
    return this.indexOf(position);
  }

  /** Load the last row, and with a filter all that stand before it; gives its index, or -1 if there is none. */
  async reachEnd(signal) {
    while (!this.isComplete && !this.problem && !signal.aborted && (this.isFiltered || !this.row(this.length - 1))) {
      if (!this.#loading) void this.#load(this.#tail.length > 0 || this.#isFar);
      await this.#changed();
    }
    return (this.isComplete || !this.isFiltered ? this.length : this.loaded) - 1;
  }

  indexOf(position) {
    const inHead = found(this.#head, position);
    if (inHead >= 0) return inHead;
    const inTail = found(this.#tail, position);
    return inTail < 0 ? -1 : this.#tailFrom + inTail;
  }

  /** Take an entry that was recorded just now. */
  add(entry) {
    if (this.#newest && !isBefore(this.#newest, entry.position)) return;
    this.#newest = entry.position;
    this.#came += 1;
    const isOurs = this.#matches(entry);
    // while a page is on its way, it may have this entry or not: it is asked for again behind that page
    if (this.isComplete && !this.#loading) {
      const last = this.#head.at(-1);
      if (isOurs && (!last || isBefore(last.position, entry.position))) this.#head.push(row(entry));
    } else if (this.#tail.length) {
      if (this.#isTailBehind || this.#loading) this.#isTailBehind = true;
      else this.#tail.push(row(entry));
    }
    this.#tell();
  }

  /** Look for entries that nobody told of, or that could not be loaded before. */
  lookAgain() {
    this.problem = null;
    this.isComplete = false;
    this.#isTailBehind = true;
    this.#isDue = true;
    this.#next();
  }

  #changed() {
    return new Promise((done) => this.addEventListener("change", done, { once: true }));
  }

  /** Whether the end is so far away that what comes there is better asked for from the end. */
  get #isFar() {
    return !this.isFiltered && Boolean(this.#base.last) && this.#base.count > this.#head.length + PAGE;
  }

  #next() {
    if (this.#loading || this.isComplete || this.problem) return;
    const [first, last] = this.#wanted;
    const end = this.#tail.length ? this.#tailFrom : this.length;
    const [from, to] = [Math.max(first, this.#head.length), Math.min(last, end)];
    const isBehind = this.#tail.length > 0 && this.#isTailBehind;
    if (this.#isDue && this.#head.length) {
      this.#isDue = false;
      void this.#load(isBehind || this.#isFar);
    } else if (from < to || isBehind) {
      void this.#load(isBehind || (this.#isFar && to - this.#head.length > end - from));
    }
  }

  #isNearTail(position) {
    if (!this.#isFar) return false;
    const [to, from] = [this.#tail[0]?.position ?? this.#newest, this.#head.at(-1)?.position ?? "1:0"].map(parsed);
    const [epoch, seq] = parsed(position);
    if (epoch !== to[0]) return false;
    return from[0] !== epoch || to[1] - seq < seq - from[1];
  }

  /** Load a page: behind the head, or, at the tail, first what came behind it and then what stands before it. */
  async #load(isAtTail) {
    const asked = (this.#loading = new AbortController());
    const newest = this.#newest;
    try {
      if (isAtTail && this.#tail.length && this.#isTailBehind) await this.#loadBehind(asked.signal, newest);
      else if (isAtTail && !this.#isTailWhole) await this.#loadBefore(asked.signal);
      else await this.#loadHead(asked.signal, newest);
    } catch (error) {
      if (asked.signal.aborted) return;
      this.problem = error.message;
    }
    if (asked.signal.aborted) return;
    this.#join();
    this.#loading = null;
    this.#tell();
    this.#next();
  }

  async #loadHead(signal, newest) {
    const limit = this.#head.length ? PAGE : FIRST;
    const page = await this.#page(this.#head.at(-1)?.position ?? "0:0", limit, signal);
    this.#head.push(...page.rows);
    // what came meanwhile stands behind this page
    if (!page.hasMore && newest === this.#newest) this.#complete();
  }

  async #loadBehind(signal, newest) {
    const page = await this.#page(this.#tail.at(-1).position, PAGE, signal);
    this.#tail.push(...page.rows);
    this.#isTailBehind = page.hasMore || newest !== this.#newest;
    if (!this.#isTailBehind) this.#settle();
  }

  /** Of an epoch's positions each is one entry's or nobody's: so many of them are one page at most. */
  async #loadBefore(signal) {
    const isFirst = !this.#tail.length;
    const { count, last } = this.#base;
    const to = isFirst ? last : this.#tail[0].position;
    const [epoch, seq] = parsed(to);
    const limit = isFirst ? FIRST : PAGE;
    const from = seq - limit;
    const page = await this.#page(from < 0 ? `${epoch - 1}:${LAST_SEQ}` : `${epoch}:${from}`, limit, signal);
    const rows = page.rows.filter(({ position }) => isBefore(position, to) || (isFirst && position === to));
    this.#tail.unshift(...rows);
    this.#tailFrom = (isFirst ? count : this.#tailFrom) - rows.length;
    this.#isTailWhole = from < 0 || !this.#tail.length;
  }

  async #page(after, limit, signal) {
    const query = { after, limit, overlap: "include" };
    for (const [name, value] of Object.entries(this.#filter)) if (value) query[name] = value;
    const page = await this.#api.page(query, signal);
    signal.throwIfAborted();
    return { rows: page.data.map(row), hasMore: page.next_cursor !== null };
  }

  /** Once both ends meet, or have rows in common, all is one. */
  #join() {
    const [last, first] = [this.#head.at(-1)?.position, this.#tail[0]?.position];
    if (!last || !first || isBefore(last, first)) return;
    const isAll = !this.#isTailBehind;
    this.#head.push(...this.#tail.filter(({ position }) => isBefore(last, position)));
    if (isAll) this.#complete();
    else this.#tail = [];
  }

  #complete() {
    this.isComplete = true;
    this.#tail = [];
    if (!this.isFiltered) this.#count(this.#head);
  }

  /** Count anew: so many there are, and none comes behind the last of these rows that was not told of. */
  #settle() {
    const known = found(this.#tail, this.#base.last);
    if (known < 0) return;
    this.#count(this.#tail.slice(known + 1), this.#base.count);
  }

  #count(rows, before = 0) {
    const last = rows.at(-1)?.position;
    if (last) this.#base = { count: before + rows.length, last };
    else if (!before) this.#base.count = 0;
    this.#came = 0;
  }

  #matches({ type, kind }) {
    if (this.#filter.kind && kind !== this.#filter.kind) return false;
    return !this.#pattern || this.#pattern.test(type ?? "");
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Find the index of a position among rows; -1 if it is not there. */
function found(rows, position) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(rows[middle].position, position)) low = middle + 1;
    else high = middle;
  }
  return rows[low]?.position === position ? low : -1;
}

function parsed(position) {
  return position.split(":").map(Number);
}

/** Whether a position stands before another. */
export function isBefore(one, other) {
  const [[epoch, seq], [otherEpoch, otherSeq]] = [one, other].map(parsed);
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
