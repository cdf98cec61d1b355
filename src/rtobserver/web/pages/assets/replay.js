// The page on which the result of a replay is opened. The file is read here and never sent anywhere.

import { visible } from "./hostile.js";
import { KINDS, MAX_BYTES, NotAReplay, read } from "./replay-document.js";

const AT_ONCE = 200;
const numbers = new Intl.NumberFormat();
const SIGNS = { new: "good", vanished: "bad", changed: "warn" };

const field = document.querySelector("#file");
const zone = document.querySelector("#zone");
const problem = document.querySelector("#problem");
const result = document.querySelector("#result");
const rows = document.querySelector("#changes tbody");
const more = document.querySelector("#more");
const policyField = document.querySelector("#policy");

let opened = { changes: [] };
let chosen = [];
let shown = 0;

async function open(file) {
  problem.hidden = result.hidden = true;
  try {
    if (file.size > MAX_BYTES) throw new NotAReplay(`This file is too large: at most ${MAX_BYTES / 1024 / 1024} MiB are opened here. Use --since or --limit.`);
    opened = read(new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()));
    show(file.name);
  } catch (error) {
    problem.textContent = error instanceof NotAReplay ? error.message : error instanceof TypeError
      ? "This file cannot be read as text (UTF-8)." : `This file cannot be opened (${error.name}).`;
    problem.hidden = false;
    problem.focus();
  }
}

function show(name) {
  const { changes, skipped, calls, entries, summary } = opened;
  put("#name", name);
  put("#extent", `${many(calls, "call")} with ${many(entries, "entry")} replayed`);
  put("#sets", summary ? `${summary.policySet || "no policies"}, against ${summary.against === null ? "what was recorded" : `the set ${summary.against}`}` : "not told");
  const isWhole = summary?.isComplete ?? false;
  put("#partial", isWhole ? "" : summary ? "The replay was interrupted: this is what was replayed until then." : "The file ends before its summary: calls may be missing.");
  document.querySelector("#partial").hidden = isWhole;
  showSkipped(skipped);
  showPolicies();
  const isSame = changes.length === 0;
  document.querySelector("#same").hidden = !isSame;
  document.querySelector("#different").hidden = isSame;
  put("#same-words", calls ? `In ${many(calls, "call")}, every decision stays as it was: the same policies, at the same entries, with the same words and actions.` : "No call was replayed, so there is nothing to compare. Ask for a longer time with --since.");
  choose();
  result.hidden = false;
  document.querySelector("#result h2").focus();
}

function showSkipped(skipped) {
  document.querySelector("#skipped").hidden = skipped.length === 0;
  const reasons = new Map();
  for (const { reason } of skipped) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  put("#skipped-words", `${many(skipped.length, "call")} could not be replayed: ${[...reasons].map(([reason, count]) => `${numbers.format(count)} ${reason}`).join(", ")}.`);
}

function showPolicies() {
  const found = [...opened.policies.values()].sort((one, other) => (one.policy < other.policy ? -1 : 1));
  const body = document.querySelector("#policies tbody");
  body.replaceChildren(...found.map((each) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain-button";
    button.append(bdi(each.policy));
    button.addEventListener("click", () => {
      policyField.value = each.policy;
      choose();
      document.querySelector("#changes-title").focus();
    });
    head.append(button);
    row.append(head, ...[each.before, each.after, each.new, each.vanished, each.changed, each.calls.size].map((value) => cell(value === null ? "–" : numbers.format(value), "number")));
    return row;
  }));
  policyField.replaceChildren(new Option("all policies", ""), ...found.map(({ policy }) => new Option(visible(policy), policy)));
}

/** Show the differences that the fields ask for, the first of them at once. */
function choose() {
  const kinds = new Set(KINDS.filter((kind) => document.querySelector(`#kind-${kind}`).checked));
  const policy = policyField.value;
  chosen = opened.changes.filter((each) => kinds.has(each.kind) && (!policy || each.policy === policy));
  shown = 0;
  rows.replaceChildren();
  showMore();
}

function showMore() {
  rows.append(...chosen.slice(shown, shown + AT_ONCE).map(line));
  shown = Math.min(chosen.length, shown + AT_ONCE);
  put("#count", chosen.length ? `${numbers.format(shown)} of ${many(chosen.length, "difference")} shown` : "No difference is of this kind.");
  more.hidden = shown === chosen.length;
}

function line(each) {
  const row = document.createElement("tr");
  const badge = document.createElement("span");
  badge.className = `badge ${SIGNS[each.kind]}`;
  badge.textContent = each.kind;
  const link = document.createElement("a");
  link.className = "mono place";
  link.href = `/calls/${each.callId}#${each.position}`;
  link.title = each.callId;
  const id = document.createElement("span");
  id.className = "id";
  id.textContent = each.callId;
  link.append(id, " ", each.position);
  const time = document.createElement("time");
  time.dateTime = each.startedAt;
  time.textContent = time.title = visible(`${each.startedAt.slice(0, 19).replace("T", " ")} UTC`);
  row.append(
    cell(badge), cell(bdi(each.policy), "mono name"), cell(link), cell(time), cell(bdi(each.profile), "name"),
    parts(each, ({ trigger }) => trigger.replaceAll("_", " ")),
    parts(each, ({ match }) => match, "said"),
    parts(each, ({ fault, actions }) => (fault === null ? actions.join(", ").replaceAll("_", " ") : `fault: ${fault}`), "said"),
  );
  return row;
}

/** Write a part of a decision, and where it is another one now, what it was before. */
function parts({ kind, before, after }, give, style) {
  const made = cell("", style);
  const now = give(after ?? before) ?? "–";
  const was = kind === "changed" ? (give(before) ?? "–") : now;
  if (was !== now) {
    const old = document.createElement("del");
    old.append(bdi(was));
    made.append(old, " ");
  }
  made.append(was === now ? bdi(now) : inserted(now));
  return made;
}

function inserted(text) {
  const made = document.createElement("ins");
  made.append(bdi(text));
  return made;
}

function cell(content, style = "") {
  const made = document.createElement("td");
  made.className = style;
  made.append(content);
  return made;
}

// whatever direction a text turns to, what stands beside it keeps its own
function bdi(text) {
  const made = document.createElement("bdi");
  made.textContent = visible(text);
  return made;
}

function put(selector, text) {
  document.querySelector(selector).textContent = visible(text);
}

function many(count, word) {
  const plural = word.endsWith("y") ? `${word.slice(0, -1)}ies` : `${word}s`;
  return `${numbers.format(count)} ${count === 1 ? word : plural}`;
}

field.addEventListener("change", () => {
  if (field.files[0]) open(field.files[0]);
});
for (const input of [policyField, ...KINDS.map((kind) => document.querySelector(`#kind-${kind}`))]) input.addEventListener("change", choose);
more.addEventListener("click", showMore);
// a file that misses the zone must not replace the page
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  const [file] = event.dataTransfer?.files ?? [];
  if (file) open(file);
});
addEventListener("dragenter", () => zone.classList.add("over"));
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) zone.classList.remove("over");
});
