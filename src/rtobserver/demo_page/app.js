// The page: wires its controls to a call and shows what the call tells. Content is only ever set as text.
import { Call } from "./call.js";
import { MICROPHONE_KINDS } from "./failures.js";
import { Levels } from "./levels.js";
import { Transcript } from "./transcript.js";

const MOST_EVENTS = 500;
const COPIED_MS = 3000;
const STATES = {
  idle: "Not connected",
  microphone: "Waiting for the microphone",
  negotiating: "Negotiating",
  connecting: "Connecting",
  live: "Connected",
  interrupted: "Connection interrupted, waiting",
  ended: "Call ended",
  failed: "Call failed",
};
const WHO = { user: "You", assistant: "Model", system: "System", tool: "Tool" };

const $ = (id) => document.getElementById(id);
const copies = new Map();
let call = null;
let levels = null;
let transcript = new Transcript();
let isAnswering = false;
let isPlaying = false;
let began = 0;
let typedCount = 0;
let eventCount = 0;

$("call").addEventListener("click", () => (call ? call.end() : start({ microphone: true })));
$("without").addEventListener("click", () => start({ microphone: false }));
$("interrupt").addEventListener("click", interrupt);
$("mute").addEventListener("click", () => setMuted($("mute").getAttribute("aria-pressed") !== "true"));
$("typed").addEventListener("submit", (submit) => {
  submit.preventDefault();
  say($("message").value.trim());
});
for (const button of document.querySelectorAll("[data-copies]")) button.addEventListener("click", () => copy(button));
// written by `rtobserver demo`; elsewhere the page does not know where the operator's side is
const here = fetch("here.json").then((answer) => answer.json()).catch(() => ({}));
void here.then(({ media }) => {
  if (media !== false) return;
  $("no-media").hidden = false;
  $("call").disabled = true;
});
// Closing says goodbye; a page that is merely gone is noticed half a minute later.
addEventListener("pagehide", () => call?.end());

function start({ microphone }) {
  // what was clicked may vanish, and the keyboard's place with it
  $("call").focus();
  clear();
  call = new Call();
  levels = new Levels();
  call.addEventListener("state", ({ detail }) => show(detail));
  call.addEventListener("sound", ({ detail }) => hear(detail));
  call.addEventListener("recorded", ({ detail }) => void showRecord(detail));
  call.addEventListener("event", ({ detail }) => take(detail));
  call.addEventListener("ended", ({ detail }) => finish(detail));
  show("microphone");
  void call.start({ microphone });
}

function clear() {
  transcript = new Transcript();
  began = performance.now();
  eventCount = 0;
  isAnswering = isPlaying = false;
  $("count").textContent = "0";
  for (const id of ["transcript", "events", "problem", "said"]) $(id).replaceChildren();
  $("record").hidden = $("without").hidden = true;
  $("silence").hidden = false;
}

function show(state) {
  document.body.dataset.state = state;
  $("state").textContent = STATES[state];
  $("call").textContent = call ? "End the call" : "Start a call";
  const focused = document.activeElement;
  // it hears whatever becomes of the connection, so that it can be muted all the while
  $("mute").disabled = !call?.microphone;
  $("interrupt").disabled = $("send").disabled = !call?.isOpen;
  // not disabled, which would take the keyboard's place away in the middle of a word
  $("message").readOnly = !call?.isOpen;
  if (focused?.disabled) $("call").focus();
  if (call?.microphone) levels.add(call.microphone, $("microphone"));
}

function hear(stream) {
  $("audio").srcObject = stream;
  levels.add(stream, $("playback"));
}

function finish(failure) {
  levels.close();
  levels = call = null;
  $("audio").srcObject = null;
  setMuted(false);
  const hasFailed = failure !== null && failure.kind !== "left";
  show(hasFailed ? "failed" : "ended");
  for (const line of transcript.end()) draw(line);
  if (failure) complain(failure.message, failure.advice);
  $("without").hidden = !(hasFailed && MICROPHONE_KINDS.has(failure.kind));
}

function complain(...sentences) {
  $("problem").replaceChildren(...sentences.filter(Boolean).map((sentence) => element("p", { text: sentence })));
}

function setMuted(muted) {
  $("mute").setAttribute("aria-pressed", String(muted));
  $("mute").textContent = muted ? "Unmute" : "Mute";
  if (call) call.muted = muted;
}

function say(text) {
  if (!text || !call?.isOpen) return;
  // upstream refuses a second response while one is under way, and plays one after the other
  if (isAnswering || isPlaying) interrupt();
  const content = [{ type: "input_text", text }];
  // an id of ours: the line that we draw now is the one that the model's side acknowledges, or keeps to itself
  const id = `typed_${(typedCount += 1)}`;
  call.send({ type: "conversation.item.create", item: { id, type: "message", role: "user", content } });
  call.send({ type: "response.create" });
  $("message").value = "";
}

function interrupt() {
  if (isAnswering) call?.send({ type: "response.cancel" });
  call?.send({ type: "output_audio_buffer.clear" });
}

function take({ sent, event }) {
  list(sent, event);
  if (!sent) follow(event);
  for (const line of sent ? transcript.takeSent(event) : transcript.take(event)) draw(line);
}

function follow(event) {
  switch (event.type) {
    case "response.created":
      isAnswering = true;
      break;
    case "response.done":
      isAnswering = false;
      break;
    case "output_audio_buffer.started":
      isPlaying = true;
      break;
    case "output_audio_buffer.stopped":
    case "output_audio_buffer.cleared":
      isPlaying = false;
      break;
    case "error":
      complain(`The model reports: ${event.error?.message ?? "an error"}`);
  }
}

function list(sent, event) {
  const seconds = ((performance.now() - began) / 1000).toFixed(2);
  const summary = element("summary");
  summary.append(
    element("span", { text: `${seconds} s`, name: "time" }),
    element("span", { text: sent ? "↑" : "↓", name: "way", label: sent ? "sent" : "received" }),
    element("code", { text: event.type }),
  );
  const details = element("details");
  details.append(summary);
  // most are never opened, and some are long
  details.addEventListener("toggle", () => details.append(element("pre", { text: JSON.stringify(event, null, 2) })), {
    once: true,
  });
  const entry = element("li");
  entry.append(details);
  const events = $("events");
  keepAtEnd(events, () => {
    events.append(entry);
    while (events.children.length > MOST_EVENTS) events.firstElementChild.remove();
  });
  $("count").textContent = String((eventCount += 1));
}

function draw(line) {
  const transcriptList = $("transcript");
  if (line.isDeleted) {
    [...transcriptList.children].find((item) => item.dataset.item === line.id)?.remove();
    return;
  }
  $("silence").hidden = true;
  keepAtEnd(transcriptList, () => {
    let shown = [...transcriptList.children].find((item) => item.dataset.item === line.id);
    if (!shown) {
      shown = element("li");
      shown.dataset.item = line.id;
      shown.dataset.role = line.role;
      shown.append(element("span", { text: WHO[line.role] ?? line.role, name: "who" }), element("span", { name: "text" }));
      transcriptList.insertBefore(shown, transcriptList.children[transcript.lines.indexOf(line)] ?? null);
    }
    shown.querySelector(".text").textContent = line.text;
    if (line.isInterrupted && !shown.querySelector(".note")) {
      shown.append(element("span", { text: "interrupted", name: "note" }));
    }
    if (line.isDone && !shown.dataset.done) {
      shown.dataset.done = "true";
      // a reader hears a line once, when it is whole, not at every word
      $("said").append(element("span", { text: `${WHO[line.role] ?? line.role}: ${line.text} ` }));
    }
  });
}

function keepAtEnd(scrolled, change) {
  const wasAtEnd = scrolled.scrollHeight - scrolled.scrollTop - scrolled.clientHeight < 40;
  change();
  if (wasAtEnd) scrolled.scrollTop = scrolled.scrollHeight;
}

async function showRecord(callId) {
  if (!callId) {
    complain("The model's side gave this call no id, so that it cannot be recorded.");
    return;
  }
  const { operator: told, key_file: keyFile } = await here;
  const operator = told || "http://127.0.0.1:8081";
  const key = keyFile ? `$(cat ${quoted(keyFile)})` : "$KEY";
  const read = (path, more = "") => `curl -s ${more}-H "Authorization: Bearer ${key}" ${operator}/api/v1/calls/${path}`;
  $("call-id").textContent = callId;
  $("read-call").textContent = read(callId);
  $("read-entries").textContent = read(`${callId}/entries`, '-H "Accept: application/x-ndjson" ');
  $("key-hint").hidden = Boolean(keyFile);
  if (told) $("open-call").href = `${told}/calls/${encodeURIComponent(callId)}`;
  $("dashboard").hidden = !told;
  $("record").hidden = false;
}

function quoted(path) {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

async function copy(button) {
  let said = "Copied";
  try {
    await navigator.clipboard.writeText($(button.dataset.copies).textContent);
  } catch {
    said = "Select it and copy";
  }
  button.textContent = said;
  // the button's name says what it copies, so that a reader would not hear what became of it
  $("copied").textContent = said;
  clearTimeout(copies.get(button));
  copies.set(
    button,
    setTimeout(() => {
      button.textContent = "Copy";
      $("copied").textContent = "";
    }, COPIED_MS),
  );
}

function element(tag, { text = "", name = "", label = "" } = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  if (label) {
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", label);
  }
  return made;
}
