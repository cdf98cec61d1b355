// <rto-timeline call-id="..." live>: a call as lanes of time. Tells by events what was chosen:
// `rto-select` ({id, itemId, responseId, position, fromMs, toMs}) and `rto-open` ({position}).

import { CallApi } from "./call-api.js";
import { Card } from "./timeline-card.js";
import { AXIS, Painter } from "./timeline-draw.js";
import { drawSigns, frame, nameLanes } from "./timeline-frame.js";
import { listenToKeys } from "./timeline-keys.js";
import { layOut, place } from "./timeline-layout.js";
import { OVERVIEW, Overview, wholeOf } from "./timeline-overview.js";
import { readPalette } from "./timeline-palette.js";
import { listenToPointers } from "./timeline-pointer.js";
import { Scale, clamp, clock } from "./timeline-scale.js";
import { describe, summary } from "./timeline-words.js";

const NARROW = 560;
/** Of a live call that is longer, the last minute is shown, not all of it. */
const LIVE_MS = 60_000;
const TICK_MS = 100;
const CALM_TICK_MS = 1000;
const NEAR = 4;
const NOTHING = { spans: [], marks: [], turns: [], live: false, duration_ms: 0 };

export class Timeline extends HTMLElement {
  static observedAttributes = ["live"];

  #document = NOTHING;
  #layout = layOut(NOTHING);
  #scale = new Scale(0, 1000, 1);
  /** What the window does by itself: shows the whole call, follows its end, or stays where it was put. */
  #mode = "fit";
  /** Whether nobody has moved the window yet. */
  #isUntouched = true;
  #parts = null;
  #palette = null;
  #pixels = 0;
  #origin = -Infinity;
  #current = null;
  #hovered = null;
  #cursorMs = null;
  #asked = 0;
  #frame = 0;
  #ticking = 0;
  #disconnected = new AbortController();

  connectedCallback() {
    const { signal } = (this.#disconnected = new AbortController());
    this.#parts ??= this.#build();
    new ResizeObserver(() => this.#resize()).observe(this.#parts.plot);
    for (const media of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)", "(forced-colors: active)"]) {
      matchMedia(media).addEventListener("change", () => this.#recolour(), { signal });
    }
    document.addEventListener("visibilitychange", () => this.#tick(), { signal });
    this.#recolour();
    this.#tick();
  }

  disconnectedCallback() {
    this.#disconnected.abort();
    clearTimeout(this.#ticking);
    cancelAnimationFrame(this.#frame);
  }

  attributeChangedCallback() {
    this.#tick();
  }

  /** Whether the call goes on. */
  get live() {
    return this.hasAttribute("live");
  }

  /** The document that is shown, as `GET /api/v1/calls/{id}/timeline` gives it. */
  get document() {
    return this.#document;
  }

  set document(told) {
    this.#document = told;
    this.#origin = Math.max(this.#origin, told.duration_ms - performance.now());
    if (!told.live) this.toggleAttribute("live", false);
    this.#layOut();
    if (this.live && this.#isUntouched && told.duration_ms > LIVE_MS) this.follow();
    this.#current &&= this.#layout.byId.get(this.#current.id) ?? null;
    this.#hovered &&= this.#layout.byId.get(this.#hovered.id) ?? null;
    this.#parts.empty.hidden = told.spans.length + told.marks.length > 0;
    this.#parts.empty.textContent = this.live ? "Nobody has spoken yet." : "Nothing of this call was recorded.";
    this.#settle();
    this.dispatchEvent(new CustomEvent("rto-loaded"));
  }

  /** Fetch the call's timeline, and show it. */
  async load() {
    const asked = (this.#asked += 1);
    const told = await this.api.timeline();
    // of two answers that overtook each other the later question's is newer
    if (asked === this.#asked) this.document = told;
  }

  /** Say something beside the buttons, to those who listen too. */
  set state(words) {
    if (this.#parts.state.textContent !== words) this.#parts.state.textContent = words;
  }

  get lanes() {
    return this.#layout.lanes;
  }

  get current() {
    return this.#current;
  }

  get middleMs() {
    return (this.#scale.fromMs + this.#scale.toMs) / 2;
  }

  /** Where the call is by now, in milliseconds since its beginning. */
  get nowMs() {
    return this.live ? Math.max(this.#document.duration_ms, performance.now() + this.#origin) : this.#document.duration_ms;
  }

  /** The window: {from_ms, to_ms} stand at `left` and `right`, in the viewport's pixels. `follows` says what it does. */
  get view() {
    const { left } = this.#parts.canvas.getBoundingClientRect();
    const right = left + this.#scale.width;
    return { from_ms: this.#scale.fromMs, to_ms: this.#scale.toMs, left, right, follows: this.#mode };
  }

  /** What is drawn in the window: {id, lane, kind, from_ms, to_ms, x, y, width, height}, in the viewport's pixels. */
  boxes() {
    const { left, top } = this.#parts.canvas.getBoundingClientRect();
    return [...this.#seen()].map(([{ id, lane, kind, fromMs, toMs }, { x, y, width, height }]) => ({
      ...{ id, lane, kind, from_ms: fromMs, to_ms: toMs },
      ...{ x: left + x, y: top + AXIS + y, width, height },
    }));
  }

  /** The element at a point of the viewport, or next to it. */
  at(clientX, clientY) {
    const { left, top } = this.#parts.canvas.getBoundingClientRect();
    const [x, y] = [clientX - left, clientY - top - AXIS];
    let found = null;
    for (const [element, box] of this.#seen(x - 24, x + 24)) {
      const isBeside = x < box.x - NEAR || x > box.x + box.width + NEAR;
      const isOff = y < box.y - NEAR || y > box.y + box.height + NEAR;
      // marks lie upon spans
      if (!isBeside && !isOff && (element.isMark || !found?.isMark)) found = element;
    }
    return found;
  }

  /** The element that is about this item or response, or began with this entry. */
  find({ itemId, responseId, position }) {
    const all = [...this.#layout.byId.values()].filter(({ isMark }) => !isMark);
    return (
      all.find((each) => itemId && each.itemId === itemId && each.lane === "user") ??
      all.find((each) => itemId && each.itemId === itemId) ??
      all.find((each) => responseId && each.responseId === responseId && each.lane === "playback") ??
      all.find((each) => responseId && each.responseId === responseId) ??
      [...this.#layout.byId.values()].find((each) => position && each.position === position) ??
      null
    );
  }

  /** Choose an element, or none; the window moves if it must. */
  select(id, { isQuiet = false, isClick = false } = {}) {
    const element = this.#layout.byId.get(id) ?? null;
    this.#current = element;
    if (!element) {
      this.#parts.card.hide();
      this.#paint();
      return;
    }
    if (!isClick) this.#reveal(element.fromMs, element.toMs ?? this.nowMs);
    if (!isQuiet) {
      this.#parts.said.textContent = describe(element);
      this.#showCard(element, { isApart: !isClick || matchMedia("(hover: none)").matches });
      const { itemId, responseId, position, fromMs, toMs } = element;
      this.dispatchEvent(new CustomEvent("rto-select", { detail: { id, itemId, responseId, position, fromMs, toMs } }));
    }
    this.#paint();
  }

  hover(element) {
    if (element === this.#hovered) return;
    this.#hovered = element;
    this.#parts.plot.classList.toggle("is-over", Boolean(element));
    if (element) this.#showCard(element);
    else if (this.#current && this.#parts.plot.matches(":focus-visible")) this.#showCard(this.#current, { isApart: true });
    else this.#parts.card.hide(220);
    this.#paint();
  }

  /** Open the entry behind the current element. */
  open() {
    if (!this.#current?.position) return;
    this.dispatchEvent(new CustomEvent("rto-open", { detail: { position: this.#current.position } }));
  }

  /** First the card goes, then the choice, then the keyboard's place. */
  leave() {
    if (this.#parts.card.isShown) this.#parts.card.hide();
    else if (this.#current) this.select(undefined);
    else this.#parts.plot.blur();
  }

  laneOfCurrent() {
    const lanes = this.lanes.filter(({ elements }) => elements.length);
    return lanes.find(({ name }) => name === this.#current?.lane) ?? lanes[0];
  }

  /** A line at a time, such as that of what is read beside it. */
  set cursor(ms) {
    if (ms === this.#cursorMs) return;
    this.#cursorMs = ms;
    this.#paint();
  }

  get cursor() {
    return this.#cursorMs;
  }

  /** Have the window show a time; it moves only if it must. */
  reveal(ms) {
    // before it has loaded, nobody knows where that is
    if (this.#document !== NOTHING) this.#reveal(ms, ms);
  }

  zoom(factor, x = this.#scale.width / 2) {
    this.#isUntouched = false;
    const extent = this.#extent();
    const isFollowing = this.#mode === "follow" || (this.live && this.#mode === "fit");
    this.#scale = this.#scale.zoomed(factor, isFollowing ? this.#scale.width : x, extent);
    const isWhole = this.#scale.spanMs >= extent.toMs - extent.fromMs - 0.5;
    this.#mode = isWhole ? "fit" : isFollowing ? "follow" : "free";
    this.#settle();
  }

  /** Move the window by a part of its width. */
  pan(share) {
    this.#isUntouched = false;
    this.#scale = this.#scale.panned(share * this.#scale.width, this.#extent());
    if (this.#mode === "fit") return;
    const isAtEnd = this.live && this.#scale.toMs >= this.#extent().toMs - this.#scale.spanMs * 0.01;
    this.#mode = isAtEnd ? "follow" : "free";
    this.#settle();
  }

  show(fromMs, toMs) {
    this.#isUntouched = false;
    this.#scale = new Scale(fromMs, toMs, this.#scale.width).within(this.#extent());
    this.#mode = "free";
    this.#settle();
  }

  fit() {
    this.#isUntouched = false;
    this.#mode = "fit";
    this.#settle();
  }

  follow() {
    this.#isUntouched = false;
    const spanMs = Math.min(this.#mode === "fit" ? LIVE_MS : this.#scale.spanMs, LIVE_MS);
    this.#scale = new Scale(this.nowMs - spanMs, this.nowMs, this.#scale.width);
    this.#mode = "follow";
    this.#settle();
  }

  /** The scale of a strip of the whole call, and that of the window. */
  scales(width) {
    return { whole: wholeOf(this.#extent(), width), shown: this.#scale };
  }

  get api() {
    return (this.#api ??= new CallApi(this.getAttribute("call-id")));
  }
  #api = null;

  #build() {
    const parts = frame(this);
    const { buttons, plot } = parts;
    buttons.in.addEventListener("click", () => this.zoom(1.6));
    buttons.out.addEventListener("click", () => this.zoom(1 / 1.6));
    buttons.fit.addEventListener("click", () => this.fit());
    buttons.follow.addEventListener("click", () => this.follow());
    listenToKeys(plot, this);
    listenToPointers(plot, this);
    plot.addEventListener("blur", () => this.#hovered || parts.card.hide(220));
    plot.addEventListener("focus", () => {
      if (this.#current && plot.matches(":focus-visible")) this.#showCard(this.#current, { isApart: true });
    });
    this.addEventListener("keydown", (event) => event.key === "Escape" && parts.card.hide());
    return Object.assign(parts, {
      card: new Card(this, this.api),
      painter: new Painter(parts.canvas),
      strip: new Overview(parts.overview, this),
    });
  }

  #extent() {
    const endMs = Math.max(this.nowMs, 500);
    const edge = Math.max(endMs * 0.012, 60);
    return { fromMs: -edge, toMs: endMs + (this.live ? edge * 3 : edge) };
  }

  *#seen(fromX = -12, toX = this.#scale.width + 12) {
    const { nowMs } = this;
    for (const lane of this.lanes) {
      for (const row of lane.rows) {
        for (const element of row.between(this.#scale.ms(fromX - 14), this.#scale.ms(toX + 14))) {
          const box = place(element, lane, this.#scale, nowMs);
          if (box.x + box.width >= fromX && box.x <= toX) yield [element, box];
        }
      }
    }
  }

  #reveal(fromMs, toMs) {
    const moved = this.#scale.revealing(fromMs, toMs, this.#extent());
    if (moved === this.#scale) return;
    this.#scale = moved;
    this.#mode = "free";
    this.#settle();
  }

  /** A card that no pointer has to reach stands apart, below all lanes: who goes on with the keys sees where. */
  #showCard(element, { isApart = false } = {}) {
    const lane = this.lanes.find(({ name }) => name === element.lane);
    const box = place(element, lane, this.#scale, this.nowMs);
    const [host, plot] = [this.getBoundingClientRect(), this.#parts.plot.getBoundingClientRect()];
    const x = clamp(box.x, 0, this.#scale.width - 20) + plot.left - host.left;
    const y = plot.top - host.top + (isApart ? 0 : AXIS + box.y);
    this.#parts.card.show(element, { x, y, height: isApart ? plot.height : box.height }, this.#palette);
  }

  #layOut() {
    this.#layout = layOut(this.#document, { isNarrow: this.clientWidth < NARROW });
    this.#layout.isLive = this.live;
    this.classList.toggle("is-narrow", this.clientWidth < NARROW);
    const height = `${AXIS + this.#layout.height}px`;
    this.#parts.plot.style.height = height;
    this.#parts.plot.setAttribute("aria-label", summary(this.#layout, this.#document));
    if (this.#palette) nameLanes(this.#parts.names, this.#layout, this.#palette);
  }

  /** Have the window be what its mode wants, the buttons say so, and all be drawn. */
  #settle() {
    const extent = this.#extent();
    if (this.#mode === "fit") this.#scale = new Scale(extent.fromMs, extent.toMs, this.#scale.width);
    else if (this.#mode === "follow") {
      this.#scale = new Scale(extent.toMs - this.#scale.spanMs, extent.toMs, this.#scale.width).within(extent);
    } else this.#scale = this.#scale.within(extent);
    const { buttons, range } = this.#parts;
    if (buttons.follow.hidden === this.live) buttons.follow.hidden = !this.live;
    press(buttons.follow, this.#mode === "follow");
    press(buttons.fit, this.#mode === "fit");
    const decimals = this.#scale.spanMs < 20_000 ? 1 : 0;
    const shown = [Math.max(0, this.#scale.fromMs), Math.min(this.nowMs, this.#scale.toMs)];
    const words = `${shown.map((ms) => clock(ms, decimals)).join(" – ")} of ${clock(this.nowMs, decimals)}`;
    if (range.textContent !== words) range.textContent = words;
    this.#paint();
  }

  #resize() {
    const width = this.#parts.plot.clientWidth;
    // it stood where there may be no room any more
    if (width !== this.#scale.width) this.#parts.card.hide();
    this.#scale = this.#scale.wide(width);
    this.#pixels = 0;
    this.#layOut();
    this.#settle();
  }

  #recolour() {
    this.#palette = readPalette(this);
    nameLanes(this.#parts.names, this.#layout, this.#palette);
    this.#pixels = 0;
    this.#paint();
  }

  /** While it lives it grows: ten times a second, or once for those who want no motion. */
  #tick() {
    clearTimeout(this.#ticking);
    if (!this.live || !this.isConnected || document.hidden || !this.#parts) return;
    this.#settle();
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#ticking = setTimeout(() => this.#tick(), isCalm ? CALM_TICK_MS : TICK_MS);
  }

  #paint() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paintNow();
    });
  }

  #paintNow() {
    const { canvas, overview, painter, strip, signs } = this.#parts;
    const pixels = devicePixelRatio;
    const height = AXIS + this.#layout.height;
    if (this.#pixels !== pixels) {
      this.#pixels = pixels;
      drawSigns(signs, this.#palette, pixels);
    }
    fitTo(canvas, this.#scale.width, height, pixels);
    fitTo(overview, this.#scale.width, OVERVIEW, pixels);
    const scene = {
      layout: this.#layout, scale: this.#scale, nowMs: this.nowMs, isLive: this.live,
      current: this.#current, hovered: this.#hovered, cursorMs: this.#cursorMs,
    };
    painter.paint(scene, this.#palette, pixels);
    strip.paint(scene, this.scales(this.#scale.width), this.#palette, pixels);
  }
}

function press(button, isPressed) {
  if (button.ariaPressed !== String(isPressed)) button.ariaPressed = String(isPressed);
}

/** Give a canvas as many pixels as the screen has there. */
function fitTo(canvas, width, height, pixels) {
  const [wide, high] = [Math.round(width * pixels), Math.round(height * pixels)];
  if (canvas.width === wide && canvas.height === high) return;
  [canvas.width, canvas.height] = [wide, high];
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
}

customElements.define("rto-timeline", Timeline);
