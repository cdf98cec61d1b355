// Follows a live call: tells of its entries and of its row, and says in words whether it is connected.

import { address } from "./call-api.js";
import { signIn } from "./page.js";

const LIVE = new Set(["connecting", "live"]);
const AGAIN_MS = [1000, 2000, 5000, 10_000];

/** Events: `open`, `entry` (detail: the entry), `call` (detail: the call), `missed`, `over`, `words` (detail: what to say). */
export class CallTail extends EventTarget {
  #callId;
  #after;
  #source = null;
  #tries = 0;
  #waiting = 0;

  /** `after` is the position behind which the page knows nothing yet. */
  constructor(callId, after) {
    super();
    this.#callId = callId;
    this.#after = after;
  }

  open() {
    this.#say(this.#tries ? "Connecting again" : "Connecting");
    const source = (this.#source = new EventSource(address(this.#callId, `/tail?after=${this.#after}`)));
    source.addEventListener("open", () => {
      this.#tries = 0;
      this.#say("Live");
      this.#tell("open");
    });
    source.addEventListener("entry", ({ data, lastEventId }) => {
      this.#after = lastEventId || this.#after;
      this.#tell("entry", JSON.parse(data));
    });
    source.addEventListener("missed", () => this.#tell("missed"));
    source.addEventListener("call", ({ data }) => {
      const call = JSON.parse(data);
      this.#tell("call", call);
      if (!LIVE.has(call.status)) this.#end();
    });
    source.addEventListener("error", () => this.#fail(source));
  }

  close() {
    clearTimeout(this.#waiting);
    this.#source?.close();
  }

  #end() {
    this.close();
    this.#say("");
    this.#tell("over");
  }

  /** The browser connects again by itself unless it was refused; then we do, more and more seldom. */
  #fail(source) {
    if (source !== this.#source) return;
    this.#say("The connection was lost. Trying again");
    if (source.readyState !== EventSource.CLOSED) return;
    const pause = AGAIN_MS[Math.min(this.#tries, AGAIN_MS.length - 1)];
    this.#tries += 1;
    this.#waiting = setTimeout(() => void this.#tryAgain(), pause);
  }

  async #tryAgain() {
    const answer = await fetch(address(this.#callId)).catch(() => null);
    if (answer?.status === 401) {
      signIn();
      return;
    }
    if (answer?.status === 410 || answer?.status === 404) {
      this.#say("This call was erased.");
      return;
    }
    this.open();
  }

  #say(words) {
    this.#tell("words", words);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
