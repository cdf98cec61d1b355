// The whole call in one strip below its timeline, and the window in it, which can be dragged.

import { Scale } from "./timeline-scale.js";
import { inks } from "./timeline-palette.js";

export const OVERVIEW = 30;
const GRIP = 12;
const ROWS = { user: 3, assistant: 9, playback: 9, tools: 15, policies: 21, errors: 21 };

export class Overview {
  #context;
  #drawn = null;

  constructor(canvas, timeline) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d");
    let held = null;
    canvas.addEventListener("pointerdown", (event) => {
      const { whole, shown } = timeline.scales(canvas.clientWidth);
      const [left, right] = [whole.x(shown.fromMs), whole.x(shown.toMs)];
      const x = event.offsetX;
      // who takes hold beside the window brings its middle there
      held = x >= left - GRIP && x <= right + GRIP ? x - left : (right - left) / 2;
      canvas.setPointerCapture(event.pointerId);
      drag(event);
    });
    canvas.addEventListener("pointermove", (event) => held !== null && drag(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = null; });

    function drag(event) {
      const { whole, shown } = timeline.scales(canvas.clientWidth);
      const fromMs = whole.ms(event.offsetX - held);
      timeline.show(fromMs, fromMs + shown.spanMs);
    }
  }

  paint({ layout, nowMs }, { whole, shown }, palette, pixels) {
    const context = this.#context;
    const strip = this.#strip(layout, whole, nowMs, palette, pixels);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(strip, 0, 0);
    context.scale(pixels, pixels);
    const [left, right] = [whole.x(shown.fromMs), whole.x(shown.toMs)];
    context.globalAlpha = 0.6;
    context.fillStyle = palette.paper;
    context.fillRect(0, 0, left, OVERVIEW);
    context.fillRect(right, 0, whole.width - right, OVERVIEW);
    context.globalAlpha = 1;
    context.strokeStyle = palette.accent;
    context.lineWidth = 2;
    const edge = Math.max(1, left);
    context.strokeRect(edge, 1, Math.max(4, Math.min(right, whole.width - 1) - edge), OVERVIEW - 2);
  }

  /** The call without the window: drawn again only if it, its place or the colours changed. */
  #strip(layout, whole, nowMs, palette, pixels) {
    const grows = layout.isLive ? Math.floor(nowMs / 250) : 0;
    const wanted = { layout, palette, grows, width: this.canvas.width };
    const last = this.#drawn;
    if (last && Object.entries(wanted).every(([name, value]) => last[name] === value)) return last.strip;
    const strip = last?.strip ?? document.createElement("canvas");
    [strip.width, strip.height] = [this.canvas.width, this.canvas.height];
    const context = strip.getContext("2d");
    context.scale(pixels, pixels);
    for (const lane of layout.lanes) {
      context.fillStyle = inks(lane.name, palette)[0];
      for (const { isMark, fromMs, toMs } of lane.elements) {
        const x = whole.x(fromMs);
        const width = isMark ? 2 : Math.max(1, whole.x(toMs ?? nowMs) - x);
        if (lane.name === "gaps") {
          context.globalAlpha = 0.25;
          context.fillRect(x, 0, width, OVERVIEW);
          context.globalAlpha = 1;
        } else context.fillRect(x, ROWS[lane.name], width, 5);
      }
    }
    this.#drawn = { strip, ...wanted };
    return strip;
  }
}

/** The scale of a strip that shows all there is. */
export function wholeOf(extent, width) {
  return new Scale(extent.fromMs, extent.toMs, width);
}
