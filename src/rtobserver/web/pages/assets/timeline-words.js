// What elements of a timeline are called, on cards and for those who hear the page. Pure.

import { clock, length } from "./timeline-scale.js";

const KINDS = {
  speech: "User speaks",
  typed: "User types",
  generation: "Assistant generates",
  out_of_band: "Assistant generates out of band",
  heard: "Playback",
  function_call: "Tool call",
  mcp: "MCP call",
  gap: "Gap",
  barge_in: "Barge-in",
  cleared: "Playback cleared",
  truncated: "Answer cut to what was heard",
  command: "Command",
  decision: "Decision",
  error: "Error",
  transcription_failed: "Transcription failed",
  began: "The call began",
  ended: "The call ended",
};

/** Say what an element is: `Decision of no-refunds: response_text`. */
export function title({ kind, label, policy }) {
  const word = KINDS[kind] ?? kind.replaceAll("_", " ");
  const whose = policy ? ` of ${policy}` : "";
  return label && label.toLowerCase() !== word.toLowerCase() ? `${word}${whose}: ${label}` : `${word}${whose}`;
}

/** Say when it was: `0:01.25 to 0:03.50, 2.3 s`. */
export function times({ isMark, fromMs, toMs }) {
  if (isMark) return clock(fromMs, 3);
  if (toMs === null) return `since ${clock(fromMs, 2)}`;
  return `${clock(fromMs, 2)} to ${clock(toMs, 2)}, ${length(toMs - fromMs)}`;
}

/** Say all of it in one breath. */
export function describe(element) {
  const parts = [title(element).slice(0, 300), times(element)];
  if (element.isInterrupted) parts.push("interrupted");
  if (!element.hasActed) parts.push("only observed");
  if (element.status) parts.push(element.status.replaceAll("_", " "));
  if (element.position) parts.push(`entry ${element.position}`);
  return parts.join("; ");
}

/** Say what a timeline holds, as its name. */
export function summary({ lanes }, { live, duration_ms: durationMs, turns }) {
  const used = lanes.filter(({ elements }) => elements.length);
  const counts = used.map(({ title: name, elements }) => `${name} ${elements.length}`);
  const turned = turns.filter(({ number }) => number !== null).length;
  return [
    `Timeline of ${live ? "a live call" : `a call of ${clock(durationMs)}`}`,
    `${turned} ${turned === 1 ? "turn" : "turns"}`,
    counts.join(", ") || "nothing yet",
  ].join(". ");
}

/** The keys, and what they do. */
export const KEYS = [
  ["← →", "the element before, the next one in the lane"],
  ["↑ ↓", "the lane above, below"],
  ["Home End", "the first, the last in the lane"],
  ["Enter", "open the entry behind it"],
  ["+ −", "zoom; also Ctrl and the wheel"],
  ["0", "the whole call"],
  ["Shift ← →", "move the window; also drag"],
  ["Esc", "leave"],
];

/** The signs, and what they mean. */
export const SIGNS = [
  ["decision", "policies", "a policy decided and acted"],
  ["observed", "policies", "a policy only observed"],
  ["command", "policies", "a command was sent"],
  ["barge_in", "errors", "the user cut in"],
  ["cleared", "errors", "playback was cleared"],
  ["truncated", "errors", "the answer was cut to what was heard"],
  ["error", "errors", "an error"],
];
