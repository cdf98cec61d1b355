// Fetches the parts of the page that grow with a live call (`data-part="URL"`), each at most once a second, or every
// so many seconds (`data-part-every`).

import { reconcile } from "./reconcile.js";

const END = 32;

export class Parts {
  #fetched = new Map();
  #busy = new Set();

  /** Fetch what is due; all of it if `isLast`. Gives words of what went wrong, or "". */
  async refresh({ isLast = false } = {}) {
    const told = [...document.querySelectorAll("[data-part]")].map((part) => this.#fetch(part, isLast));
    return (await Promise.all(told)).find(Boolean) ?? "";
  }

  async #fetch(part, isLast) {
    const url = part.dataset.part;
    const everyMs = Number(part.dataset.partEvery ?? 1) * 1000;
    const isDue = performance.now() - (this.#fetched.get(url) ?? -Infinity) >= everyMs - 50;
    if (!isLast && (!isDue || this.#busy.has(url))) return "";
    this.#fetched.set(url, performance.now());
    this.#busy.add(url);
    try {
      const fragment = await load(url);
      if (fragment && part.isConnected) keepAtEnd(part, () => reconcile(part, fragment));
      return "";
    } catch (error) {
      return error.message;
    } finally {
      this.#busy.delete(url);
    }
  }
}

/** Get HTML as a document of its own: to parse a text of it is what the page's policy is there to forbid. */
function load(url) {
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
