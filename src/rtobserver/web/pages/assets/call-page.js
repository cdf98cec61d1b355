// The page of one call: its timeline, transcript and entries, bound to each other, and how they grow while it lives.

import { CallTail } from "./call-tail.js";
import { Parts } from "./call-parts.js";
import "./entries.js";
import { tell } from "./page.js";
import "./timeline.js";
import { bindTranscript } from "./transcript-sync.js";

const PAUSE_MS = 1000;

const timeline = document.querySelector("rto-timeline");
const entries = document.querySelector("rto-entries");
const transcript = document.querySelector("#transcript");

timeline.addEventListener("rto-open", ({ detail }) => {
  void entries?.open(detail.position, { isFocused: true });
  entries?.scrollIntoView({ block: "nearest" });
});
if (transcript) bindTranscript(timeline, transcript);
void begin();

async function begin() {
  timeline.state = "Loading";
  try {
    await timeline.load();
  } catch (error) {
    timeline.state = error.message;
    return;
  }
  timeline.state = "";
  if (timeline.live) follow(new CallTail(timeline.getAttribute("call-id"), timeline.document.after ?? "0:0"));
}

/** Grow with the call: what is new is fetched at most once a second, however much comes. */
function follow(tail) {
  const parts = new Parts();
  let [isDue, drawsDue, waiting, wasLast] = [false, false, 0, -Infinity];

  tail.addEventListener("words", ({ detail }) => { timeline.state = detail; });
  tail.addEventListener("entry", ({ detail }) => {
    entries?.add(detail);
    // a word more or less changes nothing on the timeline, but in the transcript
    plan(!detail.type?.endsWith(".delta"));
  });
  tail.addEventListener("missed", () => {
    entries?.lookAgain();
    plan(true);
  });
  tail.addEventListener("call", () => plan(true));
  tail.addEventListener("over", () => void finish());
  tail.open();

  function plan(draws) {
    isDue = true;
    drawsDue ||= draws;
    later();
  }

  function later() {
    if (!waiting) waiting = setTimeout(() => void refresh(), Math.max(0, wasLast + PAUSE_MS - performance.now()));
  }

  async function refresh() {
    const [isNew, draws] = [isDue, drawsDue];
    [isDue, drawsDue, wasLast] = [false, false, performance.now()];
    try {
      const [words] = await Promise.all([parts.refresh({ isNew }), draws && timeline.live ? timeline.load() : null]);
      if (words) tell(words);
    } catch (error) {
      tell(error.message);
    }
    if (waiting < 0) return;
    waiting = 0;
    // a part that is fetched seldom is not up to date yet, even if nothing more comes
    if (isDue || parts.isBehind) later();
  }

  async function finish() {
    clearTimeout(waiting);
    // nothing is planned any more: this is the last look
    waiting = -1;
    timeline.toggleAttribute("live", false);
    entries?.toggleAttribute("live", false);
    try {
      await Promise.all([timeline.load(), parts.refresh({ isLast: true })]);
      timeline.state = "The call has ended.";
    } catch (error) {
      timeline.state = error.message;
    }
  }
}
