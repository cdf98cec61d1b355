// Draws what of a timeline is in its window. What falls onto the same pixels is drawn once, so that a frame costs
// by the window's width and not by the call's length.

import { firstAtLeast, isRelated, place } from "./timeline-layout.js";
import { inks } from "./timeline-palette.js";
import { drawSign } from "./timeline-signs.js";

/** Height of the axis above the lanes: times, then turns. */
export const AXIS = 42;
const TIMES = 15;
const TURNS = 30;
const TINY = 4;
const SMALL = 14;
const ALARMS = new Set(["barge_in", "cleared", "error", "transcription_failed", "truncated"]);

/**
 * Draw a scene: {layout, scale, nowMs, isLive, current, hovered, cursorMs}; elements of `current`'s item or response
 * are drawn stronger.
 */
export class Painter {
  #widths = new Map();
  #fontSize = 0;

  constructor(canvas) {
    this.context = canvas.getContext("2d");
  }

  paint(scene, palette, pixels) {
    const { context } = this;
    const { layout, scale } = scene;
    const height = AXIS + layout.height;
    context.setTransform(pixels, 0, 0, pixels, 0, 0);
    // whoever gave the canvas another size took its font away
    this.#fontSize = 0;
    context.clearRect(0, 0, scale.width, height);
    context.textBaseline = "middle";
    this.#axis(scene, palette, height);
    context.save();
    context.translate(0, AXIS);
    this.#gaps(scene, palette);
    for (const lane of layout.lanes) this.#lane(lane, scene, palette);
    this.#links(scene, palette);
    this.#cuts(scene, palette);
    context.restore();
    this.#lines(scene, palette, height);
  }

  #axis({ layout, scale }, palette, height) {
    const { context } = this;
    this.#font(palette, 11);
    this.#turns(layout, scale, palette, height);
    for (const { ms, words } of scale.ticks()) {
      const x = Math.round(scale.x(ms)) + 0.5;
      context.strokeStyle = palette.line;
      context.lineWidth = 1;
      line(context, x, words ? 8 : TURNS - 9, x, words ? height : TURNS - 4);
      if (!words || x > scale.width - 36) continue;
      context.fillStyle = palette.muted;
      context.fillText(words, x + 4, TIMES - 2);
    }
    context.strokeStyle = palette.line;
    line(context, 0, AXIS - 0.5, scale.width, AXIS - 0.5);
    for (const { top } of layout.lanes.slice(1)) line(context, 0, AXIS + top + 0.5, scale.width, AXIS + top + 0.5);
  }

  #turns({ turns }, scale, palette, height) {
    const { context } = this;
    for (const [place, turn] of turns.entries()) {
      const next = turns[place + 1]?.from_ms ?? Infinity;
      const [left, right] = [scale.x(turn.from_ms), Math.min(scale.x(Math.min(turn.to_ms ?? next, next)), scale.width)];
      if (right < 0 || left > scale.width || right - left < 4) continue;
      if (place % 2 === 0) {
        context.globalAlpha = 0.5;
        context.fillStyle = palette.paper;
        context.fillRect(left, TURNS - 8, right - left, height);
        context.globalAlpha = 1;
      }
      const room = right - Math.max(left, 0);
      if (room < 22) continue;
      context.fillStyle = palette.muted;
      // numbers are of the user's turns, as in the summary: where the model began there is none
      if (turn.number === null) continue;
      const words = room > 60 ? `Turn ${turn.number}` : String(turn.number);
      // the number stays in sight while any of its turn is
      context.fillText(words, Math.max(left, 0) + 5, TURNS + 3);
    }
  }

  #gaps({ layout, scale, nowMs }, palette) {
    const { context } = this;
    for (const gap of layout.gaps) {
      const [left, right] = [scale.x(gap.fromMs), Math.max(scale.x(gap.toMs ?? nowMs), scale.x(gap.fromMs) + 1)];
      if (right < 0 || left > scale.width) continue;
      const [from, to] = [Math.max(left, 0), Math.min(right, scale.width)];
      context.save();
      context.globalAlpha = 0.35;
      context.fillStyle = context.strokeStyle = palette.warn;
      if (to - from < 6) context.fillRect(from, 0, to - from, layout.height);
      else this.#stripes(left, from, to, layout.height);
      context.restore();
    }
  }

  /** Stripes that stand still in time, not in the window. */
  #stripes(left, from, to, height) {
    const { context } = this;
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    context.lineWidth = 1;
    context.beginPath();
    for (let x = from - height - ((((from - height - left) % 9) + 9) % 9); x < to; x += 9) {
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
    }
    context.stroke();
  }

  #lane(lane, scene, palette) {
    const { scale, nowMs } = scene;
    const [ink, ground] = inks(lane.name, palette);
    for (const row of lane.rows) {
      let [drawnTo, markAt] = [-Infinity, -Infinity];
      let named = null;
      for (const element of row.between(scale.ms(-12), scale.ms(scale.width + 12))) {
        const isChosen = element === scene.current || element === scene.hovered;
        const box = place(element, lane, scale, nowMs);
        if (element.isMark) {
          if (!isChosen && box.x < markAt + 3) continue;
          markAt = box.x;
          if (named) this.#name(named, box.x, palette);
          named = { element, box };
          this.#mark(element, box, ink, ground, palette);
        } else {
          if (!isChosen && box.x + box.width < drawnTo + 1) continue;
          drawnTo = box.x + box.width;
          this.#span(element, box, ink, ground, palette, scene);
        }
      }
      if (named) this.#name(named, scale.width + 80, palette);
    }
    for (const each of [scene.hovered, scene.current]) {
      if (each?.lane === lane.name) this.#ring(place(each, lane, scale, nowMs), each === scene.current, palette);
    }
  }

  #span(element, box, ink, ground, palette, scene) {
    const { context } = this;
    // a span that is far longer than the window is still no longer than what a canvas can do
    const left = Math.max(box.x, -20);
    const width = Math.min(box.x + box.width, scene.scale.width + 20) - left;
    // small ones are many, and plain rectangles cost a tenth
    if (width < SMALL) {
      context.fillStyle = width < TINY ? ink : ground;
      context.fillRect(left, box.y, width, box.height);
      if (width < TINY) return;
      context.fillStyle = ink;
      context.fillRect(left, box.y, 2, box.height);
      context.fillRect(left + width - 1, box.y, 1, box.height);
      context.fillRect(left, box.y, width, 1);
      context.fillRect(left, box.y + box.height - 1, width, 1);
      if (element.isInterrupted) this.#torn(box, palette);
      return;
    }
    const isRelative = scene.current && scene.current !== element && isRelated(scene.current, element);
    context.beginPath();
    context.roundRect(left, box.y, width, box.height, 4);
    context.fillStyle = ground;
    context.fill();
    context.strokeStyle = ink;
    context.lineWidth = isRelative ? 2.5 : 1;
    if (element.toMs === null) context.setLineDash([4, 3]);
    context.stroke();
    if (element.toMs === null) context.setLineDash([]);
    context.fillStyle = ink;
    if (box.x > -4) context.fillRect(left, box.y + 3, 3, box.height - 6);
    if (element.isInterrupted) this.#torn(box, palette);
    this.#words(element.line, Math.max(left, 0) + 8, left + width, box.y + box.height / 2, palette);
  }

  /** The end of what was cut off: torn, in the colour of what went wrong. */
  #torn({ x, y, width, height }, palette) {
    const { context } = this;
    const end = x + width;
    context.strokeStyle = palette.bad;
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(end, y - 1);
    for (let step = 1; step <= 6; step += 1) context.lineTo(end - (step % 2 ? 4 : 0), y + (height * step) / 6);
    context.stroke();
  }

  #words(label, from, to, y, palette, size = 12) {
    const room = to - from - 6;
    if (room < 14 || !label) return;
    const { context } = this;
    this.#font(palette, size);
    const text = this.#fitted(label, room);
    context.fillStyle = palette.ink;
    context.fillText(text, from, y + 0.5, room);
  }

  #mark(element, box, ink, ground, palette) {
    const isAlarm = ALARMS.has(element.kind) || element.status === "failed";
    const y = element.kind === "barge_in" ? box.y - 6 : box.y + 7;
    drawSign(this.context, element.hasActed ? element.kind : "observed", box.x + 7, y, isAlarm ? palette.bad : ink, ground);
  }

  /** Write beside a mark of a policy or an error what it was, if that fits before the next one. */
  #name({ element, box }, until, palette) {
    if (element.lane !== "policies" && element.lane !== "errors") return;
    const words = element.kind === "decision" ? element.policy : element.line;
    const from = box.x + box.width + 5;
    this.#words(words ?? "", from, Math.min(until, from + 170), box.y + 7, palette, 11);
  }

  #ring({ x, y, width, height }, isCurrent, palette) {
    const { context } = this;
    context.strokeStyle = palette.accent;
    context.lineWidth = isCurrent ? 3 : 1.5;
    context.beginPath();
    context.roundRect(Math.max(x, -20) - 2.5, y - 2.5, Math.min(width, 20_000) + 5, height + 5, 6);
    context.stroke();
  }

  #links({ layout, scale, current }, palette) {
    const { context } = this;
    const policies = layout.lanes.find(({ name }) => name === "policies");
    let drawn = -Infinity;
    // all in one path: to stroke each one costs ten times as much
    const [plain, chosen] = [new Path2D(), new Path2D()];
    for (let index = firstAtLeast(layout.linksEnd, scale.fromMs); index < layout.links.length; index += 1) {
      const [decision, command] = layout.links[index];
      if (decision.fromMs > scale.toMs) break;
      const [one, other] = [place(decision, policies, scale), place(command, policies, scale)];
      const isChosen = current === decision || current === command;
      if (!isChosen && Math.max(one.x, other.x) < drawn + 3) continue;
      drawn = Math.max(one.x, other.x);
      const path = isChosen ? chosen : plain;
      path.moveTo(one.x + 7, one.y + 14);
      const middle = (one.y + 14 + other.y) / 2;
      path.bezierCurveTo(one.x + 7, middle + 4, other.x + 6, middle - 4, other.x + 6, other.y + 2);
    }
    context.strokeStyle = palette.policy;
    context.lineWidth = 1.5;
    context.stroke(plain);
    context.lineWidth = 3;
    context.stroke(chosen);
  }

  /** Where a user cut in: a line from the user's words through what was being generated to what was being played. */
  #cuts({ layout, scale }, palette) {
    const { context } = this;
    const [user, , playback] = layout.lanes;
    let drawn = -Infinity;
    context.beginPath();
    for (const cut of layout.cuts) {
      const x = Math.round(scale.x(cut.fromMs)) + 0.5;
      if (x < 0 || x > scale.width || x < drawn + 3) continue;
      context.moveTo(x, user.top + user.rowTop);
      context.lineTo(x, playback.top + playback.height - 2);
      drawn = x;
    }
    context.strokeStyle = palette.bad;
    context.lineWidth = 1.5;
    context.setLineDash([4, 3]);
    context.stroke();
    context.setLineDash([]);
  }

  #lines({ layout, scale, cursorMs, isLive, nowMs }, palette, height) {
    const { context } = this;
    context.lineWidth = 2;
    context.strokeStyle = palette.edge;
    for (const edge of layout.edges) {
      const x = Math.round(scale.x(edge.fromMs));
      if (x >= 0 && x <= scale.width) line(context, x, TURNS - 8, x, height);
    }
    if (isLive) {
      const x = Math.round(scale.x(nowMs));
      context.strokeStyle = palette.good;
      line(context, x, AXIS - 6, x, height);
    }
    if (cursorMs === null || cursorMs === undefined) return;
    const x = Math.round(scale.x(cursorMs));
    if (x < 0 || x > scale.width) return;
    context.strokeStyle = palette.accent;
    context.fillStyle = palette.accent;
    line(context, x, AXIS - 8, x, height);
    context.beginPath();
    context.moveTo(x - 6, AXIS - 14);
    context.lineTo(x + 6, AXIS - 14);
    context.lineTo(x, AXIS - 5);
    context.fill();
  }

  #font(palette, size) {
    // to set it costs more than to draw a word
    if (this.#fontSize !== size) this.context.font = `${size}px ${palette.font}`;
    this.#fontSize = size;
  }

  /** A text, or about as much of it as there is room for: to measure each beginning would cost more than to draw it. */
  #fitted(text, room) {
    const width = this.#widthOf(text);
    if (width <= room) return text;
    const kept = Math.floor((text.length * (room - 8)) / width);
    return kept < 2 ? "" : `${text.slice(0, kept).replace(/[\ud800-\udbff\s]$/, "")}…`;
  }

  #widthOf(text) {
    const key = `${this.#fontSize} ${text}`;
    let width = this.#widths.get(key);
    if (width === undefined) {
      if (this.#widths.size > 20_000) this.#widths.clear();
      width = this.context.measureText(text).width;
      this.#widths.set(key, width);
    }
    return width;
  }
}

function line(context, x, y, toX, toY) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(toX, toY);
  context.stroke();
}
