// The live page: reads the stream of the calls that go on and shows them. Content is only ever set as text.

import { signIn } from "./page.js";
import { visible } from "./hostile.js";
import { lasted, setAhead, since } from "./times.js";

const RETRY_MS = [500, 1000, 2000, 5000];
// the server says something every 15 s
const SILENCE_MS = 40000;
const $ = (id) => document.getElementById(id);
const { statuses, outcomes } = JSON.parse($("words").textContent);
const list = $("calls");
/** Of each call by its id: what is known of it, and the element that shows it. */
const calls = new Map();
let isCut = false;
/** The server's time of the last update. */
let now = 0;
let shownInDialog = null;

$("narrow").addEventListener("input", narrow);
$("control")?.addEventListener("close", leave);
void follow();

// --- the stream ---------------------------------------------------------------------------------

async function follow() {
  for (let failures = 0; ; failures += 1) {
    try {
      for await (const { name, data } of events()) {
        failures = 0;
        if (name === "stale") connection("stale", "The store cannot be read: what you see may be out of date.");
        else {
          take(name, data);
          connection("live", "Live");
        }
      }
    } catch (problem) {
      if (problem.status === 401) return signIn();
      if (problem.status === 403) return connection("refused", "Your key may not see calls.");
    }
    // an orderly end comes now and then, and is nothing to tell of
    if (failures) connection("reconnecting", "Reconnecting … what you see may be out of date.");
    await new Promise((resolve) => setTimeout(resolve, failures ? RETRY_MS[Math.min(failures, RETRY_MS.length) - 1] : 200));
  }
}

async function* events() {
  const stop = new AbortController();
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), SILENCE_MS);
  };
  try {
    wait();
    const answer = await fetch("/live/stream", { headers: { Accept: "text/event-stream" }, signal: stop.signal });
    if (!answer.ok) throw Object.assign(new Error(`answered ${answer.status}`), { status: answer.status });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      wait();
      rest += value;
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const name = /^event: (.*)$/m.exec(block)?.[1];
        // our JSON has no line ends, so that the data is one line
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (name && data) yield { name, data: JSON.parse(data) };
      }
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}

function connection(state, words) {
  const line = $("connection");
  if (line.dataset.state === state) return;
  line.dataset.state = state;
  line.textContent = words;
}

function take(name, told) {
  now = Date.parse(told.now);
  setAhead(Date.now() - now);
  isCut = told.is_cut;
  if (name === "all") {
    const ids = new Set(told.calls.map((call) => call.call_id));
    for (const id of calls.keys()) if (!ids.has(id)) forget(id);
  }
  for (const id of told.gone ?? []) forget(id);
  for (const change of told.calls) {
    const known = calls.get(change.call_id);
    if (known) show(known, change);
    else begin(change);
  }
  narrow();
}

// --- calls --------------------------------------------------------------------------------------

function begin(call) {
  const element = $("call").content.firstElementChild.cloneNode(true);
  const parts = Object.fromEntries([...element.querySelectorAll("[data-shows]")].map((part) => [part.dataset.shows, part]));
  const known = { call: { ...call }, element, parts, began: Date.parse(call.started_at), words: "" };
  element.dataset.call = call.call_id;
  parts.control?.addEventListener("click", () => control(known));
  calls.set(call.call_id, known);
  show(known, call);
  // newest first; the list is long, and new calls are the newest
  const before = [...list.children].find((other) => calls.get(other.dataset.call).began < known.began);
  list.insertBefore(element, before ?? null);
}

function forget(id) {
  const element = calls.get(id)?.element;
  const had = element?.contains(document.activeElement);
  element?.remove();
  calls.delete(id);
  if (had) land();
}

function show(known, change) {
  const call = Object.assign(known.call, change);
  const { element, parts } = known;
  const isOver = call.ended_at !== null || ["ended", "failed"].includes(call.status);
  const [words, tone] = call.paused ? ["paused", "warn"] : statuses[call.status];
  const how = call.outcome && call.outcome !== call.status ? (outcomes[call.outcome] ?? call.outcome) : "";
  // how a call ended says that it did
  const state = how && call.status === "ended" ? how : how ? `${words}: ${how}` : words;
  write(parts.state, state);
  parts.state.className = `badge ${tone}`;
  element.classList.toggle("over", isOver);
  if (isOver || !parts.age.textContent) write(parts.age, lasted((Date.parse(call.ended_at) || now) - known.began));
  // while it has this class, times.js lets it count on
  parts.age.classList.toggle("age", !isOver);
  parts.age.dateTime = call.started_at;
  parts.age.title = since(call.started_at);
  parts.link.title = call.call_id;
  parts.link.href = `/calls/${encodeURIComponent(call.call_id)}`;
  write(parts.who, visible(call.user ?? call.call_id));
  parts.control?.setAttribute("aria-label", `Control… the call of ${visible(call.user ?? call.call_id)}`);
  write(parts.profile, visible(call.profile));
  write(parts.model, visible(call.model));
  write(parts.cost, call.cost_usd === null ? "–" : `$${Number(call.cost_usd).toFixed(4)}`);
  for (const side of ["user", "assistant"]) {
    const line = parts[`${side}_words`].parentElement;
    write(parts[`${side}_words`], visible(call[`${side}_words`]));
    const speaks = call[`${side}_speaking`];
    if (line.classList.contains("speaking") !== speaks) {
      line.classList.toggle("speaking", speaks);
      line.querySelector(".live-side").textContent = `${side === "user" ? "Caller" : "Model"}${speaks ? " speaks" : ""}`;
    }
  }
  if (["decision_count", "gap_count", "error_count", "interruption_count", "tags", "tampered"].some((name) => name in change)) {
    parts.badges.replaceChildren(...badges(call));
  }
  parts.control && (parts.control.disabled = isOver);
  known.words = [call.call_id, call.user, call.profile, call.model, ...call.tags, call.user_words, call.assistant_words, call.last_policy, state]
    .join("\n").toLowerCase();
  if (shownInDialog === call.call_id) fill(call);
}

function* badges(call) {
  if (call.decision_count) {
    yield badge(`${call.decision_count} policy ${call.decision_count === 1 ? "hit" : "hits"}, last: ${visible(call.last_policy)}`, "policy");
  }
  if (call.gap_count) yield badge(`${call.gap_count} ${call.gap_count === 1 ? "gap" : "gaps"}`, "warn");
  if (call.error_count) yield badge(`${call.error_count} ${call.error_count === 1 ? "error" : "errors"}`, "bad");
  if (call.tampered) yield badge("tampered", "bad");
  if (call.interruption_count) yield badge(`${call.interruption_count} interrupted`, "");
  for (const tag of call.tags) yield badge(`#${visible(tag)}`, "tag");
}

function badge(words, tone) {
  const made = document.createElement("bdi");
  made.className = `badge ${tone}`;
  made.textContent = words;
  return made;
}

/** Set a text only where it differs: most updates change one line of a card. */
function write(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

// --- what is shown ------------------------------------------------------------------------------

function narrow() {
  const wanted = $("narrow").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  let matching = 0;
  for (const { element, words } of calls.values()) {
    const passes = wanted.every((word) => words.includes(word));
    matching += passes;
    if (element.hidden === passes) element.hidden = !passes;
  }
  const going = [...calls.values()].filter(({ call }) => call.ended_at === null).length;
  const all = `${going.toLocaleString()} ${going === 1 ? "call" : "calls"}${isCut ? ", the newest; there are more" : ""}`;
  write($("tally"), wanted.length ? `${matching.toLocaleString()} of ${all}` : all);
  $("tools").hidden = calls.size === 0;
  $("none").hidden = calls.size > 0;
  $("unmatched").hidden = calls.size === 0 || matching > 0;
}

// --- control ------------------------------------------------------------------------------------

function control(known) {
  const dialog = $("control");
  shownInDialog = known.call.call_id;
  for (const form of dialog.querySelectorAll("[data-controls] form")) form.reset();
  fill(known.call);
  dialog.showModal();
}

/** Keep the keyboard's place: the button that opened the dialog is of no use once its call has ended, or is gone. */
function leave() {
  const known = calls.get(shownInDialog);
  shownInDialog = null;
  // a browser leaves it in the closed dialog where it cannot give it back
  if (document.activeElement !== document.body && !$("control").contains(document.activeElement)) return;
  if (known && !known.element.hidden) known.parts.link.focus();
  else land();
}

/** Put the keyboard's place at the head of the page: what it was at is gone. */
function land() {
  const heading = document.querySelector("h1");
  heading.tabIndex = -1;
  heading.focus();
}

function fill(call) {
  const dialog = $("control");
  const part = (name) => dialog.querySelector(`[data-shows="${name}"]`);
  write(part("who"), visible(call.user ?? call.call_id));
  part("link").href = `/calls/${encodeURIComponent(call.call_id)}`;
  write(part("link").firstElementChild, call.call_id);
  const root = dialog.querySelector("[data-controls]");
  root.dataset.call = call.call_id;
  root.dataset.status = call.ended_at === null ? call.status : "ended";
  root.toggleAttribute("data-paused", call.paused);
  root.dispatchEvent(new Event("rto:call"));
}
