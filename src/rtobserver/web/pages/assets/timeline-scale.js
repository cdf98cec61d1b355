// Time to pixels and back, and where an axis has its marks. Pure.

/** The least of a call that fills the timeline: closer, there is nothing more to see. */
export const SHORTEST_MS = 5;

const STEPS = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500].map((step) => [step, 5]),
  ...[1, 2, 5, 10, 15, 30].map((step) => [step * 1000, 5]),
  ...[1, 2, 5, 10, 15, 30].map((step) => [step * 60_000, 5]),
  ...[1, 2, 4, 8].map((step) => [step * 3_600_000, 4]),
];

/** A window on a call's time, so many pixels wide. It never changes: what changes it gives another. */
export class Scale {
  constructor(fromMs, toMs, width) {
    this.fromMs = fromMs;
    this.toMs = Math.max(toMs, fromMs + 1);
    this.width = Math.max(width, 1);
    this.perMs = this.width / (this.toMs - this.fromMs);
  }

  x(ms) {
    return (ms - this.fromMs) * this.perMs;
  }

  ms(x) {
    return this.fromMs + x / this.perMs;
  }

  get spanMs() {
    return this.toMs - this.fromMs;
  }

  /** Zoom in (`factor` > 1) or out; what is at `x` stays there. */
  zoomed(factor, x, extent) {
    const spanMs = clamp(this.spanMs / factor, SHORTEST_MS, extent.toMs - extent.fromMs);
    const fromMs = this.ms(x) - (x / this.width) * spanMs;
    return new Scale(fromMs, fromMs + spanMs, this.width).within(extent);
  }

  panned(pixels, extent) {
    const ms = pixels / this.perMs;
    return new Scale(this.fromMs + ms, this.toMs + ms, this.width).within(extent);
  }

  /** Move the least that shows a stretch of time, or its beginning where it is too long. */
  revealing(fromMs, toMs, extent) {
    const margin = this.spanMs * 0.08;
    if (fromMs - margin >= this.fromMs && toMs + margin <= this.toMs) return this;
    const isAfter = toMs + margin > this.toMs;
    const start = isAfter ? Math.min(toMs + margin - this.spanMs, fromMs - margin) : fromMs - margin;
    return new Scale(start, start + this.spanMs, this.width).within(extent);
  }

  wide(width) {
    return new Scale(this.fromMs, this.toMs, width);
  }

  within(extent) {
    const spanMs = Math.min(this.spanMs, extent.toMs - extent.fromMs);
    const fromMs = clamp(this.fromMs, extent.fromMs, extent.toMs - spanMs);
    return new Scale(fromMs, fromMs + spanMs, this.width);
  }

  /** Where the axis has its marks: round times, `apart` pixels or more from each other where they have words. */
  ticks(apart = 90) {
    const [stepMs, parts] = STEPS.find(([step]) => step * this.perMs >= apart) ?? STEPS.at(-1);
    const smallMs = stepMs / parts;
    const ticks = [];
    const last = Math.floor(this.toMs / smallMs);
    for (let index = Math.max(0, Math.ceil(this.fromMs / smallMs)); index <= last; index += 1) {
      const hasWords = index % parts === 0;
      ticks.push({ ms: index * smallMs, words: hasWords ? clock(index * smallMs, decimalsFor(stepMs)) : "" });
    }
    return ticks;
  }
}

/** Write a time of a call as people say it: `0:07`, `12:05.3`, `1:02:03`. */
export function clock(ms, decimals = 0) {
  const unit = 10 ** decimals;
  const units = Math.round((Math.abs(ms) / 1000) * unit);
  const seconds = Math.floor(units / unit);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = `${pad(seconds % 60)}${decimals ? `.${String(units % unit).padStart(decimals, "0")}` : ""}`;
  const sign = ms < 0 && units > 0 ? "-" : "";
  return hours ? `${sign}${hours}:${pad(minutes)}:${rest}` : `${sign}${minutes}:${rest}`;
}

/** Write a length of time: `320 ms`, `4.2 s`, `3:05`. */
export function length(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : clock(ms);
}

export function clamp(value, least, most) {
  return Math.min(Math.max(value, least), Math.max(most, least));
}

function decimalsFor(stepMs) {
  if (stepMs >= 1000) return 0;
  return stepMs >= 100 ? 1 : stepMs >= 10 ? 2 : 3;
}

function pad(number) {
  return String(number).padStart(2, "0");
}
