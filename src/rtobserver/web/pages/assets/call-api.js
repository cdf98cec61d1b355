// Asks the API about one call. An entry's payload is kept as the text that was recorded: to decode it and write it
// anew would lose what JSON.parse does not keep (large numbers, keys that are there twice).

import { ask, signIn } from "./page.js";

const KEPT = 200;
const BEFORE = ',"payload":';
const BEHIND = '}],"next_cursor":';

/** The API's address of a call, or of what belongs to it. */
export function address(callId, rest = "") {
  return `/api/v1/calls/${encodeURIComponent(callId)}${rest}`;
}

export class CallApi {
  #entries = new Map();

  constructor(callId) {
    this.callId = callId;
  }

  timeline() {
    return ask(address(this.callId, "/timeline"));
  }

  /** A page of entries: {data, next_cursor}; `query` as the API has it. */
  page(query, signal) {
    return ask(address(this.callId, `/entries?${new URLSearchParams(query)}`), { signal });
  }

  /** The entry at a position, as the API gives it, and `raw`, its payload as it was recorded; null if there is none. */
  async entry(position, signal) {
    const known = this.#entries.get(position);
    if (known) return known;
    const [epoch, seq] = position.split(":").map(Number);
    const query = new URLSearchParams({ after: `${epoch}:${seq - 1}`, limit: "1", overlap: "include" });
    const answer = await fetch(address(this.callId, `/entries?${query}`), { signal });
    if (answer.status === 401) signIn();
    if (!answer.ok) throw new Error(`The entry could not be loaded (${answer.status}).`);
    const text = await answer.text();
    const [entry] = JSON.parse(text).data;
    if (entry?.position !== position) return null;
    const found = { ...entry, raw: rawPayload(text, entry) };
    this.#entries.set(position, found);
    if (this.#entries.size > KEPT) this.#entries.delete(this.#entries.keys().next().value);
    return found;
  }
}

/** Cut the payload out of a page with one entry. It is the last field, and in no text before it can its key stand bare. */
function rawPayload(text, entry) {
  if (!("payload" in entry)) return null;
  return text.slice(text.indexOf(BEFORE) + BEFORE.length, text.lastIndexOf(BEHIND));
}
