// The card beside an element of a timeline: what it is, when it was, and the entry behind it.

import { visible } from "./hostile.js";
import { bytesView, jsonView } from "./json-view.js";
import { inks } from "./timeline-palette.js";
import { times, title } from "./timeline-words.js";

/** Long enough that a pointer on its way past asks the server for nothing. */
const REST_MS = 160;
const LEAVE_MS = 220;
const MARGIN = 8;

export class Card {
  #api;
  #waiting = 0;
  #leaving = 0;
  #asked = null;
  #shown = null;

  /** `host` is positioned; the card floats in it. */
  constructor(host, api) {
    this.#api = api;
    this.element = make("div", "tl-card");
    this.element.hidden = true;
    // it can be read with the pointer on it, and its words be marked
    this.element.addEventListener("pointerenter", () => clearTimeout(this.#leaving));
    this.element.addEventListener("pointerleave", () => this.hide(LEAVE_MS));
    host.append(this.element);
    this.host = host;
  }

  get isShown() {
    return !this.element.hidden;
  }

  /** Show an element below its box, or above where there is more room; the box is in the host's own pixels. */
  show(element, box, palette) {
    clearTimeout(this.#leaving);
    if (this.#shown === element.id && this.isShown) {
      this.#stand(box);
      return;
    }
    this.#stop();
    this.#shown = element.id;
    const head = make("p", "tl-card-title", title(element).slice(0, 400));
    head.style.borderColor = inks(element.lane, palette)[0];
    const facts = make("p", "tl-card-times");
    facts.append(times(element));
    if (element.isInterrupted) facts.append(" ", make("span", "badge bad", "interrupted"));
    if (element.status) facts.append(" ", make("span", "badge", element.status.replaceAll("_", " ")));
    this.element.replaceChildren(head, facts);
    if (element.position) this.#ask(element.position);
    this.element.hidden = false;
    this.#stand(box);
  }

  hide(afterMs = 0) {
    clearTimeout(this.#leaving);
    const gone = () => {
      this.#stop();
      this.#shown = null;
      this.element.hidden = true;
    };
    if (afterMs) this.#leaving = setTimeout(gone, afterMs);
    else gone();
  }

  #stop() {
    clearTimeout(this.#waiting);
    this.#asked?.abort();
  }

  #ask(position) {
    const behind = make("p", "tl-card-entry");
    const link = make("a", "", position);
    link.href = `#${position}`;
    behind.append("Entry ", link);
    const payload = make("pre", "json", "…");
    this.element.append(behind, payload);
    const asked = (this.#asked = new AbortController());
    this.#waiting = setTimeout(() => void this.#fill(position, behind, payload, asked.signal), REST_MS);
  }

  async #fill(position, behind, payload, signal) {
    try {
      const entry = await this.#api.entry(position, signal);
      if (signal.aborted) return;
      if (!entry) {
        payload.textContent = "This entry is not there any more.";
        return;
      }
      behind.append(" · ", make("code", "", entry.type ?? entry.kind));
      if (entry.raw === null) payload.textContent = bytesView(entry.payload_base64).text;
      else payload.replaceChildren(jsonView(entry.raw));
    } catch (error) {
      if (!signal.aborted) payload.textContent = error.message;
    }
  }

  /** Stand below the box, or above it where there is more room; never beyond the sides. */
  #stand(box) {
    const { element, host } = this;
    const width = Math.min(420, host.clientWidth - 2 * MARGIN);
    element.style.width = `${width}px`;
    element.style.left = `${Math.min(Math.max(MARGIN, box.x), host.clientWidth - width - MARGIN)}px`;
    const onScreen = host.getBoundingClientRect().top;
    const below = innerHeight - onScreen - box.y - box.height;
    const above = onScreen + box.y;
    const isBelow = below >= 260 || below >= above;
    element.style.maxHeight = `${Math.max(140, Math.min(360, (isBelow ? below : above) - 2 * MARGIN))}px`;
    element.style.top = isBelow ? `${box.y + box.height + MARGIN}px` : "auto";
    element.style.bottom = isBelow ? "auto" : `${host.clientHeight - box.y + MARGIN}px`;
  }
}

function make(tag, name, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = visible(text);
  return made;
}
