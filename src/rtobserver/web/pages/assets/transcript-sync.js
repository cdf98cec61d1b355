// Keeps the transcript beside the timeline: what is chosen in one is shown in the other, and a line on the timeline
// stands where the reader is.

/**
 * Bind a timeline to the element `#transcript`, which scrolls and holds lines (`.line`) with `data-from-ms`,
 * `data-item-id`, `data-response-id` and `data-position`. They may be exchanged at any time.
 */
export function bindTranscript(timeline, transcript) {
  let frame = 0;
  const lines = () => transcript.getElementsByClassName("line");

  timeline.addEventListener("rto-select", ({ detail }) => {
    const line = lineOf([...lines()], detail);
    if (!line) return;
    mark(line);
    bring(line);
    place(line);
  });

  transcript.addEventListener("click", (event) => choose(event.target.closest(".line"), event));
  transcript.addEventListener("focusin", ({ target }) => {
    // by keyboard only: a click chooses anyway
    if (target.matches(":focus-visible")) choose(target.closest(".line"));
  });
  transcript.addEventListener("scroll", () => { frame ||= requestAnimationFrame(follow); }, { passive: true });
  timeline.addEventListener("rto-loaded", () => { frame ||= requestAnimationFrame(follow); });

  function choose(line, event) {
    // words that somebody marks to copy are no click
    if (!line || event?.target.closest("a, summary") || !getSelection().isCollapsed) return;
    mark(line);
    place(line);
    const { itemId, responseId, position } = line.dataset;
    const element = timeline.find({ itemId, responseId, position });
    if (element) timeline.select(element.id, { isQuiet: true });
  }

  function mark(line) {
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

  function place({ dataset }) {
    if (dataset.fromMs) timeline.cursor = Number(dataset.fromMs);
  }
}

/** The line of the same item or response, or the last that began before. */
function lineOf(lines, { itemId, responseId, fromMs }) {
  const same = (name, id) => id && lines.find(({ dataset }) => dataset[name] === id);
  const began = lines.filter(({ dataset }) => dataset.fromMs && Number(dataset.fromMs) <= fromMs + 1);
  return same("itemId", itemId) || same("responseId", responseId) || began.at(-1);
}
