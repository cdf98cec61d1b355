// Reads what `rtobserver policies replay --json` wrote: a line of JSON for each call, and a summary. Pure.

export const MAX_BYTES = 64 * 1024 * 1024;
export const KINDS = ["new", "vanished", "changed"];

const MAX_CHANGES = 500_000;
const CALL_ID = /^[A-Za-z0-9_-]{1,256}$/u;
const POSITION = /^[0-9]{1,9}:[0-9]{1,9}$/u;
const NOT_ONE = "This is not what `rtobserver policies replay --json` writes";

/** Be why a file cannot be shown, in words for people. */
export class NotAReplay extends Error {}

/**
 * Read a document. Gives `{changes, policies, skipped, calls, entries, summary}`: each change with its call, the
 * policies' counts by id, and the summary or null where the file ends before it.
 */
export function read(text) {
  const found = { changes: [], policies: new Map(), skipped: [], calls: 0, entries: 0, summary: null };
  let number = 0;
  for (const line of text.split("\n")) {
    number += 1;
    if (!line.trim()) continue;
    if (found.summary) throw wrong(number, "there is more after the summary");
    take(found, parsed(line, number), number);
  }
  if (!found.calls && !found.skipped.length && !found.summary) throw new NotAReplay(`${NOT_ONE}: the file is empty.`);
  count(found);
  return found;
}

function parsed(line, number) {
  try {
    return JSON.parse(line);
  } catch {
    throw wrong(number, "it is no JSON");
  }
}

function take(found, row, number) {
  switch (row?.kind) {
    case "call":
      found.calls += 1;
      found.entries += whole(row.entries, number, "entries");
      for (const change of list(row.changes, number, "changes")) found.changes.push(changeOf(change, callOf(row, number), number));
      if (found.changes.length > MAX_CHANGES) throw new NotAReplay("There are too many differences to show them here.");
      break;
    case "skipped":
      found.skipped.push({ ...callOf(row, number), reason: text(row.reason, number, "reason") });
      break;
    case "summary":
      found.summary = summaryOf(row, number);
      break;
    default:
      throw wrong(number, "it is about no call and is no summary");
  }
}

function callOf(row, number) {
  if (!CALL_ID.test(text(row.call_id, number, "call_id"))) throw wrong(number, "`call_id` is no id of a call");
  if (Number.isNaN(Date.parse(text(row.started_at, number, "started_at")))) throw wrong(number, "`started_at` is no time");
  return { callId: row.call_id, startedAt: row.started_at, profile: text(row.profile, number, "profile") };
}

function changeOf(change, call, number) {
  if (!KINDS.includes(change?.change)) throw wrong(number, "`change` is none of new, vanished, changed");
  if (!POSITION.test(text(change.position, number, "position"))) throw wrong(number, "`position` is no position");
  const before = change.change === "new" ? null : decisionOf(change.before, number);
  const after = change.change === "vanished" ? null : decisionOf(change.after, number);
  return { ...call, kind: change.change, position: change.position, policy: text(change.policy, number, "policy"), before, after };
}

function decisionOf(each, number) {
  if (typeof each !== "object" || each === null) throw wrong(number, "a decision is missing");
  const isOptional = (value) => value === null || value === undefined || typeof value === "string";
  if (!isOptional(each.match) || !isOptional(each.fault)) throw wrong(number, "`match` and `fault` must be texts");
  return {
    trigger: text(each.trigger, number, "trigger"),
    mode: text(each.mode, number, "mode"),
    actions: list(each.actions, number, "actions").map((action) => text(action, number, "actions")),
    match: each.match ?? null,
    fault: each.fault ?? null,
  };
}

function summaryOf(row, number) {
  const policies = list(row.policies, number, "policies").map((each) => ({
    policy: text(each?.policy, number, "policy"),
    before: whole(each.before, number, "before"),
    after: whole(each.after, number, "after"),
  }));
  const against = row.against === null ? null : text(row.against, number, "against");
  return { isComplete: row.complete === true, policySet: text(row.policy_set, number, "policy_set"), against, policies };
}

// counted from the changes themselves, so that what a table says is what a list shows
function count(found) {
  for (const { policy, before, after } of found.summary?.policies ?? []) tallyOf(found, policy, before, after);
  for (const { policy, kind, callId } of found.changes) {
    const tally = tallyOf(found, policy, null, null);
    tally[kind] += 1;
    tally.calls.add(callId);
  }
}

function tallyOf(found, policy, before, after) {
  const known = found.policies.get(policy);
  if (known) return known;
  const made = { policy, before, after, new: 0, vanished: 0, changed: 0, calls: new Set() };
  found.policies.set(policy, made);
  return made;
}

function text(value, number, name) {
  if (typeof value !== "string") throw wrong(number, `\`${name}\` must be a text`);
  return value;
}

function whole(value, number, name) {
  if (!Number.isSafeInteger(value) || value < 0) throw wrong(number, `\`${name}\` must be a whole number`);
  return value;
}

function list(value, number, name) {
  if (!Array.isArray(value)) throw wrong(number, `\`${name}\` must be a list`);
  return value;
}

function wrong(number, what) {
  return new NotAReplay(`${NOT_ONE}: in line ${number}, ${what}.`);
}
