// The page of one call: its timeline, transcript and entries, bound to each other, and how they grow while it lives.

import { CallTail } from "./call-tail.js";
import { Parts } from "./call-parts.js";
import "./entries.js";
import { tell } from "./page.js";
import "./timeline.js";
import { bindTranscript } from "./transcript-sync.js";

const PAUSE_MS = 1000;
/** What took long to fetch is fetched more seldom: a viewer has no more than a quarter of the server's time. */
const SHARE = 4;

const timeline = document.querySelector("rto-timeline");
const entries = document.querySelector("rto-entries");
const transcript = document.querySelector("#transcript");

timeline.addEventListener("rto-open", ({ detail }) => {
  void entries?.open(detail.position, { isFocused: true }).then(() => entries.bringToView());
  entries?.bringToView();
});
const sync = transcript ? bindTranscript(timeline, transcript, entries) : null;
void begin();

async function begin() {
  timeline.state = "Loading";
  try {
    await timeline.load();
    timeline.state = "";
  } catch (error) {
    timeline.state = error.message;
    return;
  } finally {
    land();
  }
  if (timeline.live) follow(new CallTail(timeline.getAttribute("call-id"), timeline.document.after ?? "0:0"));
}

/** Show what the page's address names, now that nothing above it grows any more. */
function land() {
  const line = transcript?.querySelector("#line");
  const isEntry = Boolean(entries?.position);
  if (!line) {
    if (isEntry) entries.bringToView();
    return;
  }
  sync.land(line);
  // the address goes on naming the line
  if (!isEntry) void entries?.open(line.dataset.position, { isQuiet: true });
}

/** Grow with the call: what is new is fetched at most once a second, however much comes. */
function follow(tail) {
  const parts = new Parts();
  let [isDue, drawsDue, waiting, nextMs] = [false, false, 0, -Infinity];

  tail.addEventListener("words", ({ detail }) => { timeline.state = detail; });
  tail.addEventListener("entry", ({ detail }) => {
    entries?.add(detail);
    // a word more or less changes nothing on the timeline, but in the transcript
    plan(!detail.type?.endsWith(".delta"));
  });
  // what was asked for while there was no connection was not answered
  for (const name of ["open", "missed"]) {
    tail.addEventListener(name, () => {
      entries?.lookAgain();
      plan(true);
    });
  }
  tail.addEventListener("call", () => plan(true));
  tail.addEventListener("over", () => void finish());
  tail.open();

  function plan(draws) {
    isDue = true;
    drawsDue ||= draws;
    later();
  }

  function later() {
    if (!waiting) waiting = setTimeout(() => void refresh(), Math.max(0, nextMs - performance.now()));
  }

  async function refresh() {
    await inSight();
    // the call may have ended since
    if (waiting < 0) return;
    const [isNew, draws] = [isDue, drawsDue];
    const began = performance.now();
    [isDue, drawsDue] = [false, false];
    try {
      const [words] = await Promise.all([parts.refresh({ isNew }), draws ? timeline.load() : null]);
      if (words) tell(words);
    } catch (error) {
      tell(error.message);
    }
    const ended = performance.now();
    nextMs = Math.max(began + PAUSE_MS, ended + SHARE * (ended - began));
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

/** Wait until somebody can see the page. */
function inSight() {
  if (!document.hidden) return null;
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}
