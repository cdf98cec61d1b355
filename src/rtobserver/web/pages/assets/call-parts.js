// Fetches the parts of the page that grow with a live call (`data-part="URL"`), each at most once a second, or every
// so many seconds (`data-part-every`).

import { reconcile } from "./reconcile.js";

const END = 32;

export class Parts {
  #fetched = new Map();
  #busy = new Set();
  /** Parts that were passed over when there was something new: they have to be fetched once it is their time. */
  #behind = new Set();

  get isBehind() {
    return this.#behind.size > 0;
  }

  /**
   * Fetch what is due: of all parts if something is new (`isNew`), else of those that were passed over; everything if
   * `isLast`. Gives words of what went wrong, or "".
   */
  async refresh({ isNew = true, isLast = false } = {}) {
    const parts = [...document.querySelectorAll("[data-part]")];
    const wanted = parts.filter(({ dataset }) => isNew || isLast || this.#behind.has(dataset.part));
    return (await Promise.all(wanted.map((part) => this.#fetch(part, isLast)))).find(Boolean) ?? "";
  }

  async #fetch(part, isLast) {
    const url = part.dataset.part;
    const everyMs = Number(part.dataset.partEvery ?? 1) * 1000;
    const isDue = performance.now() - (this.#fetched.get(url) ?? -Infinity) >= everyMs - 50;
    if (!isLast && (!isDue || this.#busy.has(url))) {
      this.#behind.add(url);
      return "";
    }
    this.#behind.delete(url);
    const askedMs = performance.now();
    this.#fetched.set(url, askedMs);
    this.#busy.add(url);
    try {
      const fragment = await load(url);
      const isNewest = this.#fetched.get(url) === askedMs;
      const isAsked = isNewest && part.isConnected && part.dataset.part === url;
      if (fragment && isAsked) keepAtEnd(part, () => reconcile(part, fragment));
      return "";
    } catch (error) {
      return error.message;
    } finally {
      this.#busy.delete(url);
    }
  }
}

/** Get HTML as a document of its own: to parse a text of it is what the page's policy is there to forbid. */
export function load(url) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.setRequestHeader("HX-Request", "true");
    request.addEventListener("load", () => {
      if (request.status === 200) done(request.response?.body);
      else fail(new Error(`This page could not be brought up to date (${request.status}).`));
    });
    request.addEventListener("error", () => fail(new Error("The server did not answer.")));
    request.send();
  });
}

function keepAtEnd(part, change) {
  const canScroll = part.scrollHeight > part.clientHeight + 1;
  const wasAtEnd = part.scrollHeight - part.scrollTop - part.clientHeight < END;
  // a call that begins to fill its box is followed from there on
  const didFit = !canScroll && getComputedStyle(part).overflowY !== "visible";
  change();
  if ((canScroll && wasAtEnd) || didFit) part.scrollTop = part.scrollHeight;
}
