// Keeps the transcript beside the timeline and the entries: what is chosen in one is shown in the others, and a line on
// the timeline stands where the reader is.

import { load } from "./call-parts.js";
import { tell } from "./page.js";
import { reconcile } from "./reconcile.js";

/**
 * Bind a timeline and entries to the element `#transcript`, which scrolls and holds lines (`.line`) with `data-from-ms`,
 * `data-item-id`, `data-response-id` and `data-position`. They may be exchanged at any time. Of a long transcript it holds
 * some; others come from the address in its `data-lines`.
 *
 * Gives `land`, which brings the page, the keyboard and the timeline to a line.
 */
export function bindTranscript(timeline, transcript, entries) {
  let [frame, asked, markedMs] = [0, 0, null];
  const lines = () => transcript.getElementsByClassName("line");

  timeline.addEventListener("rto-select", ({ detail }) => void show(detail));
  entries?.addEventListener("rto-entry", ({ detail }) => {
    timeline.reveal(detail.fromMs);
    timeline.cursor = detail.fromMs;
    void show(detail, detail.fromMs);
  });
  transcript.addEventListener("click", (event) => choose(event.target.closest(".line"), event));
  transcript.addEventListener("focusin", ({ target }) => {
    // by keyboard only: a click chooses anyway
    if (target.matches(":focus-visible")) choose(target.closest(".line"));
  });
  transcript.addEventListener("scroll", () => { frame ||= requestAnimationFrame(follow); }, { passive: true });
  timeline.addEventListener("rto-loaded", () => { frame ||= requestAnimationFrame(follow); });

  return { land };

  function land(line) {
    choose(line);
    line.scrollIntoView({ block: "center", behavior: "instant" });
    line.querySelector("button")?.focus({ preventScroll: true });
  }

  /** Mark the line of an element or entry; `ms` is where the timeline's line stands then, if not where it begins. */
  async function show(about, ms = null) {
    const mine = (asked += 1);
    let line = lineOf([...lines()], about);
    if (!holds(about, line)) {
      try {
        await fetchAround(about, () => mine === asked);
      } catch (error) {
        tell(error.message);
      }
      if (mine !== asked) return;
      line = lineOf([...lines()], about);
    }
    if (!line) return;
    mark(line, ms);
    bring(line);
    place(line);
  }

  /** Whether no other lines than those that are here can be meant. */
  function holds({ itemId, responseId, fromMs }, line) {
    const { dataset } = transcript.querySelector("nav[data-first]") ?? {};
    if (!dataset) return true;
    if (line && ((itemId && line.dataset.itemId === itemId) || (responseId && line.dataset.responseId === responseId))) {
      return true;
    }
    const timed = [...lines()].filter((each) => each.dataset.fromMs);
    const [from, to] = [timed[0], timed.at(-1)].map((each) => Number(each?.dataset.fromMs ?? NaN));
    const [isFirst, isLast] = [dataset.first === "0", Number(dataset.first) + lines().length >= Number(dataset.count)];
    return (isFirst || from <= fromMs) && (isLast || fromMs <= to);
  }

  async function fetchAround({ itemId, responseId, fromMs }, isWanted) {
    const query = new URLSearchParams({ at: String(Math.max(0, Math.round(fromMs))) });
    if (itemId) query.set("item", itemId);
    if (responseId) query.set("response", responseId);
    const address = `${transcript.dataset.lines}?${query}`;
    const fragment = await load(address);
    if (!fragment || !isWanted()) return;
    reconcile(transcript, fragment);
    // these go on growing, where they do
    transcript.dataset.part = address;
  }

  function choose(line, event) {
    // words that somebody marks to copy are no click
    if (!line || event?.target.closest("a, summary") || !getSelection().isCollapsed) return;
    // what was on its way would take the choice away again
    asked += 1;
    mark(line);
    place(line);
    const { itemId, responseId, position } = line.dataset;
    const element = timeline.find({ itemId, responseId, position });
    if (element) timeline.select(element.id, { isQuiet: true });
  }

  function mark(line, ms = null) {
    markedMs = ms;
    for (const other of transcript.querySelectorAll('.line[aria-current="true"]')) other.removeAttribute("aria-current");
    line.setAttribute("aria-current", "true");
  }

  function bring(line) {
    const [box, shown] = [line.getBoundingClientRect(), transcript.getBoundingClientRect()];
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (box.top >= shown.top && box.bottom <= shown.bottom) return;
    const top = transcript.scrollTop + box.top - shown.top - Math.max(0, (shown.height - box.height) / 2);
    // the page itself stays where it is
    transcript.scrollTo({ top, behavior: isCalm ? "instant" : "smooth" });
  }

  /** What is read is the chosen line, if it is in view, and else the first one there; who has not scrolled reads all. */
  function follow() {
    frame = 0;
    const all = lines();
    if (!all.length) return;
    const { top, bottom } = transcript.getBoundingClientRect();
    const chosen = transcript.querySelector('.line[aria-current="true"]');
    const box = chosen?.getBoundingClientRect();
    if (box && box.bottom > top && box.top < bottom) {
      place(chosen);
      return;
    }
    const isAtEnd = transcript.scrollTop + transcript.clientHeight >= transcript.scrollHeight - 2;
    if (transcript.scrollTop < 2 || (timeline.live && isAtEnd)) {
      timeline.cursor = null;
      return;
    }
    let [low, high] = [0, all.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (all[middle].getBoundingClientRect().bottom - 8 < top) low = middle + 1;
      else high = middle;
    }
    place(all[low]);
  }

  function place(line) {
    const ms = line.ariaCurrent === "true" ? (markedMs ?? line.dataset.fromMs) : line.dataset.fromMs;
    if (ms) timeline.cursor = Number(ms);
  }
}

/** The line of the same item or response, or the last that began before. */
function lineOf(lines, { itemId, responseId, fromMs }) {
  const same = (name, id) => id && lines.find(({ dataset }) => dataset[name] === id);
  const began = lines.filter(({ dataset }) => dataset.fromMs && Number(dataset.fromMs) <= fromMs + 1);
  return same("itemId", itemId) || same("responseId", responseId) || began.at(-1);
}
