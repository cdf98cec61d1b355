// What an operator does to a live call: orders are posted to the API and followed to what came of them, each in a
// line of its own. A page puts `controls(...)` of templates/controls.html where it likes, and loads this module.

import { visible } from "./hostile.js";

const FOLLOW_MS = 15000;
const PAUSES_MS = [150, 250, 400, 700, 1000];
const MOST_LINES = 8;
const SAID = {
  waiting: "Waiting to be sent.",
  sent: "Sent. No acknowledgement yet.",
  acknowledged: "Done.",
  expired: "Not sent within 10 seconds, and it will not be sent any more.",
};
const NAMES = {
  say: ({ text }) => `Say “${short(text)}”`,
  tags: ({ add, remove }) => (add ? `Add tag “${short(add[0])}”` : `Remove tag “${short(remove[0])}”`),
  commands: ({ type }) => `Send ${short(type)}`,
  pause: () => "Pause recording",
  resume: () => "Resume recording",
  hangup: () => "End call",
};
const DONE = {
  say: "The model says it.",
  tags: "The tags were changed.",
  commands: "The event was acknowledged.",
  pause: "The recording is paused.",
  resume: "Recording again.",
  hangup: "The call was ended.",
};

/** Be a refusal, in words for the person who asked. */
class Refused extends Error {}

for (const root of document.querySelectorAll("[data-controls]")) wire(root);

function wire(root) {
  for (const form of root.querySelectorAll("form[data-order]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void submit(root, form, event.submitter);
    });
  }
  for (const button of root.querySelectorAll("button[data-order]")) {
    button.addEventListener("click", () => void press(root, button));
  }
  root.addEventListener("rto:call", () => show(root));
  show(root);
}

/** Bring the buttons in line with what the page says of the call, in `data-status` and `data-paused`. */
function show(root) {
  const paused = root.hasAttribute("data-paused");
  const [pause, resume] = ["pause", "resume"].map((order) => root.querySelector(`button[data-order="${order}"]`));
  // the keyboard's place must not get lost with the button that goes
  const gone = paused ? pause : resume;
  const had = document.activeElement;
  pause.hidden = paused;
  resume.hidden = !paused;
  // a call that is connecting, or that nobody observes, can be ended and no more
  const status = root.dataset.status;
  for (const field of root.querySelectorAll(":is(button, input, textarea)")) {
    // the whole may stand in a dialog; those that ask back are not meant
    if (field.closest("dialog.ask")) continue;
    field.disabled = field.dataset.order === "hangup" ? ["ended", "failed"].includes(status) : status !== "live";
  }
  const next = paused ? resume : pause;
  if (had === gone && !next.disabled) next.focus();
  else if (root.contains(had) && (had.disabled || had.hidden)) root.focus();
  for (const line of root.querySelectorAll(".orders > li")) line.hidden = line.dataset.call !== root.dataset.call;
}

async function submit(root, form, button) {
  const values = new FormData(form);
  let body;
  if (form.dataset.order === "say") body = { text: values.get("text") };
  if (form.dataset.order === "tags") body = { [button?.value ?? "add"]: [values.get("tag")] };
  if (form.dataset.order === "commands") {
    body = read(values.get("event"));
    if (typeof body === "string") return note(root, "Send event")(body, "bad");
    if ((await ask(root, "send", body.type)) === null) return undefined;
  }
  if (await order(root, form.dataset.order, body)) form.reset();
  return undefined;
}

async function press(root, button) {
  const name = button.dataset.order;
  const answered = button.dataset.ask ? await ask(root, button.dataset.ask) : new FormData();
  if (answered === null) return;
  const goodbye = answered.get("goodbye")?.trim();
  const done = await order(root, name, goodbye ? { goodbye } : {});
  if (done && (name === "pause" || name === "resume")) {
    root.toggleAttribute("data-paused", name === "pause");
    show(root);
  }
}

/** Read an event; gives words where it is none. */
function read(text) {
  let event;
  try {
    event = JSON.parse(text);
  } catch (problem) {
    return `This is not JSON: ${problem.message}`;
  }
  if (event === null || typeof event !== "object" || Array.isArray(event)) return "An event is a JSON object: { … }";
  if (typeof event.type !== "string" || !event.type.includes(".")) {
    return 'An event has a "type" with a dot, such as "response.create".';
  }
  return event;
}

/** Ask in a dialog; gives what was filled in there, or null for no. */
function ask(root, name, type = "") {
  const dialog = root.querySelector(`dialog[data-of="${name}"]`);
  const form = dialog.querySelector("form");
  const shown = dialog.querySelector('[data-shows="type"]');
  if (shown) shown.textContent = type;
  form.reset();
  // what Escape leaves behind must not be the last answer
  dialog.returnValue = "no";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? new FormData(form) : null), {
      once: true,
    });
    dialog.showModal();
    dialog.querySelector('button[value="no"]').focus();
  });
}

/** Give an order and follow it; says what came of it, and gives whether it went well. */
async function order(root, name, body) {
  const call = root.dataset.call;
  const say = note(root, NAMES[name](body));
  try {
    say("Sending …");
    let told = await send(`/api/v1/calls/${encodeURIComponent(call)}/${name}`, body);
    const until = performance.now() + FOLLOW_MS;
    for (let look = 0; isOpen(told) && performance.now() < until; look += 1) {
      if (look) say(SAID[told.state]);
      await new Promise((resolve) => setTimeout(resolve, PAUSES_MS[Math.min(look, PAUSES_MS.length - 1)]));
      told = await send(`/api/v1/orders/${encodeURIComponent(told.order_id)}`);
    }
    if (told.state === "failed") say(`Failed: ${told.error ?? "no reason is known"}.`, "bad");
    else if (told.state === "acknowledged") say(DONE[name], "good");
    else if (told.state === "sent" && told.error) say(`Sent, but ${told.error}.`, "warn");
    else say(SAID[told.state], told.state === "expired" ? "bad" : "warn");
    return ["acknowledged", "sent"].includes(told.state);
  } catch (problem) {
    if (!(problem instanceof Refused)) console.warn(problem);
    say(problem instanceof Refused ? problem.message : "No answer from the server. What became of it is not known.", "bad");
    return false;
  }
}

/** Tell whether more may be heard of an order: with an error, what was sent is not waited for any more. */
function isOpen({ state, error }) {
  return state === "waiting" || (state === "sent" && !error);
}

async function send(path, body) {
  const request = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const headers = { Accept: "application/json" };
  if (body !== undefined) Object.assign(headers, { "Content-Type": "application/json", "X-RTObserver-CSRF": "1" });
  const answer = await fetch(path, { ...request, headers });
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  if (answer.status === 401) throw new Refused("You are signed out. Sign in again and repeat it.");
  if (told.error?.code === "scope_missing") throw new Refused("Your key may not control calls.");
  throw new Refused(told.error?.message ?? `The server refused it (${answer.status}).`);
}

/** Begin the line of an order; gives what writes into it what came of the order, with a tone once that is all. */
function note(root, name) {
  const [line, what, outcome] = ["li", "bdi", "span"].map((kind) => document.createElement(kind));
  line.dataset.call = root.dataset.call;
  what.textContent = name;
  outcome.className = "outcome";
  line.append(what, ": ", outcome);
  const orders = root.querySelector(".orders");
  orders.prepend(line);
  for (const old of [...orders.children].slice(MOST_LINES)) old.remove();
  return (words, tone = "") => {
    outcome.textContent = words;
    outcome.dataset.tone = tone;
    // who cannot see is told the end alone, and of the call that is shown
    if (tone && root.dataset.call === line.dataset.call) root.querySelector(".told").textContent = `${name}: ${words}`;
  };
}

function short(text) {
  const shown = visible(text);
  return shown.length > 60 ? `${shown.slice(0, 60).replace(/[\ud800-\udbff]$/, "")}…` : shown;
}
