// The pane of one entry: its place, its times, and its payload as it was recorded.

import { visible } from "./hostile.js";
import { bytesView, jsonView } from "./json-view.js";
import { clock } from "./timeline-scale.js";
import { local } from "./times.js";

const COPIED_MS = 2500;

export class EntryDetail extends EventTarget {
  #api;
  #asked = null;
  #entry = null;

  constructor(element, api) {
    super();
    this.element = element;
    this.#api = api;
    this.empty();
  }

  empty() {
    this.#asked?.abort();
    this.#entry = null;
    this.element.replaceChildren(make("p", "empty", "Choose an entry to see what was recorded."));
  }

  /** Show the entry at a position, and tell of it (`shown`, with what it is about) unless `isQuiet`. */
  async show(position, { isQuiet = false } = {}) {
    this.#asked?.abort();
    const asked = (this.#asked = new AbortController());
    try {
      const entry = await this.#api.entry(position, asked.signal);
      if (asked.signal.aborted) return;
      if (!entry) {
        this.element.replaceChildren(make("p", "empty", `There is no entry ${position} in this call.`));
        return;
      }
      this.#fill(entry);
      if (!isQuiet) this.dispatchEvent(new CustomEvent("shown", { detail: about(entry) }));
    } catch (error) {
      if (!asked.signal.aborted) this.element.replaceChildren(make("p", "alert", error.message));
    }
  }

  #fill(entry) {
    this.#entry = entry;
    const head = make("h3", "en-title", entry.type ?? entry.kind);
    const facts = make("dl", "facts");
    const link = make("a", "", entry.position);
    link.href = `#${entry.position}`;
    const at = make("time", "", local(entry.at));
    at.dateTime = entry.at;
    at.title = `${entry.at.replace("T", " ").replace("Z", "")} UTC`;
    at.dataset.turned = entry.at;
    for (const [name, value] of [
      ["Position", link],
      ["Received", at],
      ["Into the call", clock(entry.offset_ms, 3)],
      ["Kind", entry.kind],
      ["Event id", entry.event_id],
    ]) {
      if (value === null) continue;
      const shown = make("dd");
      shown.append(value);
      facts.append(make("dt", "", name), shown);
    }
    const notes = make("p", "en-notes");
    if (entry.stripped) notes.append(make("span", "badge", "audio left out"), " ");
    if (entry.overlap) notes.append(make("span", "badge warn", "received after a takeover"), " ");
    const payload = make("pre", "json");
    payload.tabIndex = 0;
    payload.setAttribute("aria-label", "Payload");
    if (entry.raw === null) {
      const { count, text } = bytesView(entry.payload_base64);
      const words = `These ${count} bytes are no JSON that could be shown as it was sent. They stand here as they were recorded.`;
      notes.append(make("span", "muted", words));
      payload.textContent = text;
    } else payload.append(jsonView(entry.raw));
    const buttons = make("p", "en-buttons");
    const said = make("span", "muted");
    said.setAttribute("role", "status");
    const copied = entry.raw ?? entry.payload_base64;
    buttons.append(
      button(entry.raw === null ? "Copy as base64" : "Copy JSON", () => void copy(copied, said)),
      button("Copy link", () => void copy(new URL(`#${entry.position}`, location.href).href, said)),
      said,
    );
    this.element.replaceChildren(head, facts, ...(notes.childNodes.length ? [notes] : []), buttons, payload);
    this.element.scrollTop = 0;
  }
}

async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "Copied.";
  } catch {
    said.textContent = "The browser does not let us: select it and copy.";
  }
  setTimeout(() => { said.textContent = ""; }, COPIED_MS);
}

/** What an entry is about: {position, itemId, responseId, fromMs}. */
function about({ position, offset_ms: fromMs, payload }) {
  const named = (name) => {
    const id = payload?.[`${name}_id`] ?? payload?.[name]?.id;
    return typeof id === "string" ? id : null;
  };
  return { position, fromMs, itemId: named("item"), responseId: named("response") };
}

function button(text, click) {
  const made = make("button", "", text);
  made.type = "button";
  made.addEventListener("click", click);
  return made;
}

function make(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = visible(text);
  return made;
}
