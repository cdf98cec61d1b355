// What stands where on a timeline, but for its place in time: lanes, rows in them, what belongs together. Pure.

const ROW = 26;
const PAD = 7;
const EMPTY = 20;
const CAPTION = 15;
const MOST_ROWS = 4;
/** A policy's command comes within this time of its decision, or was caused by another one. */
const CAUSED_MS = 30_000;
const VOLLEY_MS = 5;

const LANES = [
  { name: "user", title: "User", about: "speech" },
  { name: "assistant", title: "Assistant", about: "generation" },
  { name: "playback", title: "Playback", about: "heard" },
  { name: "tools", title: "Tools", about: "calls" },
  { name: "policies", title: "Policies", about: "decisions, commands" },
  { name: "errors", title: "Errors", about: "" },
  { name: "gaps", title: "Gaps", about: "" },
];
const LANE_OF_MARK = { decisions: "policies", commands: "policies", user: "user" };

/** One row of a lane: its elements by their beginning. */
class Row {
  elements = [];
  /** The latest end of all elements up to each one: it only grows, so that it can be searched. */
  ends = [];

  add(element) {
    this.elements.push(element);
    this.ends.push(Math.max(this.ends.at(-1) ?? -Infinity, endOf(element)));
  }

  /** The elements that may be seen between two times. */
  *between(fromMs, toMs) {
    for (let index = firstAtLeast(this.ends, fromMs); index < this.elements.length; index += 1) {
      if (this.elements[index].fromMs > toMs) return;
      yield this.elements[index];
    }
  }
}

/**
 * Lay out the document of `GET /api/v1/calls/{id}/timeline`.
 *
 * `lanes` are {name, title, about, top, height, rowTop, rows, elements}, with all heights in CSS pixels; `elements` are
 * {id, lane, row, kind, isMark, fromMs, toMs (null: goes on), label, position, itemId, responseId, ...}. `edges`
 * are marks of the call as a whole, `links` pairs of a decision and its command, by the command's time.
 */
export function layOut(document, { isNarrow = false } = {}) {
  const byLane = new Map(LANES.map(({ name }) => [name, []]));
  const edges = [];
  for (const span of document.spans) byLane.get(span.lane)?.push(element(span, span.lane, span.from_ms, span.to_ms));
  for (const mark of document.marks) {
    const lane = byLane.has(mark.lane) ? mark.lane : LANE_OF_MARK[mark.lane];
    const made = element(mark, lane ?? "", mark.at_ms, mark.at_ms);
    made.isMark = true;
    (lane ? byLane.get(lane) : edges).push(made);
  }
  let top = 0;
  const lanes = LANES.map((lane) => {
    const elements = byLane.get(lane.name).sort((one, other) => one.fromMs - other.fromMs);
    const rows = lane.name === "policies" ? rowsByKind(elements) : rowsByTime(elements);
    const rowTop = PAD + (isNarrow ? CAPTION : 0);
    const height = elements.length ? rowTop + rows.length * (ROW + 2) - 2 + PAD : isNarrow ? CAPTION + 6 : EMPTY;
    const laid = { ...lane, top, height, rowTop, rows, elements };
    top += height;
    return laid;
  });
  const all = lanes.flatMap(({ elements }) => elements);
  const linked = links(all);
  return {
    lanes,
    edges,
    height: top,
    byId: new Map(all.map((each) => [each.id, each])),
    links: linked,
    linksEnd: linked.map(([, command]) => command.fromMs),
    turns: document.turns,
    gaps: all.filter(({ lane, isMark }) => lane === "gaps" && !isMark),
    cuts: all.filter(({ kind }) => kind === "barge_in"),
  };
}

/** Where an element stands, from the plot's upper left corner; `nowMs` is where what still goes on ends by now. */
export function place(element, lane, scale, nowMs) {
  const y = lane.top + lane.rowTop + element.row * (ROW + 2);
  if (element.isMark) return { x: scale.x(element.fromMs) - 7, y: y + ROW / 2 - 7, width: 14, height: 14 };
  const x = scale.x(element.fromMs);
  return { x, y, width: Math.max(scale.x(element.toMs ?? nowMs) - x, 2), height: ROW };
}

/** Elements of the same item or response, so that a policy's command and the answer that it cut are seen as one story. */
export function isRelated(one, other) {
  return Boolean(
    (one.itemId && one.itemId === other.itemId) || (one.responseId && one.responseId === other.responseId),
  );
}

function element(source, lane, fromMs, toMs) {
  return {
    id: source.id,
    lane,
    row: 0,
    kind: source.kind,
    isMark: false,
    fromMs,
    toMs,
    label: source.label ?? "",
    line: plain(source.label ?? ""),
    position: source.position,
    itemId: source.item_id,
    responseId: source.response_id,
    status: source.status ?? source.state ?? null,
    policy: source.policy ?? null,
    hasActed: source.acted ?? true,
    isInterrupted: Boolean(source.interrupted),
  };
}

/** Decisions above, commands below: those that left as one volley below each other, since no zoom parts them. */
function rowsByKind(elements) {
  const rows = [new Row(), new Row()];
  let [volley, lastMs] = [0, -Infinity];
  for (const each of elements) {
    if (each.kind === "decision") each.row = 0;
    else {
      volley = each.fromMs - lastMs <= VOLLEY_MS ? Math.min(volley + 1, MOST_ROWS - 2) : 0;
      lastMs = each.fromMs;
      each.row = 1 + volley;
      rows[each.row] ??= new Row();
    }
    rows[each.row].add(each);
  }
  return rows;
}

/** What may stand in one line: its beginning, without what would turn the direction of the rest. */
function plain(label) {
  return label.slice(0, 200).replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+/gu, " ").trim();
}

/** What overlaps goes below; marks go to the row of what they are about. */
function rowsByTime(elements) {
  const rows = [new Row()];
  const placed = new Map();
  for (const each of elements) {
    if (each.isMark) {
      each.row = placed.get(each.responseId ?? each.itemId) ?? 0;
    } else {
      const free = rows.findIndex((row) => (row.spansTo ?? -Infinity) <= each.fromMs);
      each.row = free >= 0 ? free : Math.min(rows.length, MOST_ROWS - 1);
      rows[each.row] ??= new Row();
      rows[each.row].spansTo = Math.max(rows[each.row].spansTo ?? -Infinity, endOf(each));
      for (const id of [each.responseId, each.itemId]) if (id) placed.set(id, each.row);
    }
    rows[each.row].add(each);
  }
  return rows;
}

/** Each command of a policy was caused by the policy's last decision before it. */
function links(elements) {
  const last = new Map();
  const found = [];
  const marks = elements.filter(({ isMark, policy }) => isMark && policy);
  // of the same moment, the decision comes first
  marks.sort((one, other) => one.fromMs - other.fromMs || (one.kind === "decision" ? -1 : 1));
  for (const each of marks) {
    if (each.kind === "decision") last.set(each.policy, each);
    else if (each.kind === "command") {
      const cause = last.get(each.policy);
      if (cause && each.fromMs - cause.fromMs <= CAUSED_MS) found.push([cause, each]);
    }
  }
  return found;
}

function endOf(element) {
  return element.toMs ?? Infinity;
}

/** The first index of ascending numbers at which one is no less. */
export function firstAtLeast(numbers, least) {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < least) low = middle + 1;
    else high = middle;
  }
  return low;
}
