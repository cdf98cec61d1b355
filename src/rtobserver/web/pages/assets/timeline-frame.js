// The elements around a timeline's canvas: buttons, names of lanes, help. Made once.

import { AXIS } from "./timeline-draw.js";
import { inks } from "./timeline-palette.js";
import { drawSign } from "./timeline-signs.js";
import { KEYS, SIGNS } from "./timeline-words.js";

const SIGN = 18;

/** Put the elements into `host`; gives those that change. */
export function frame(host) {
  const buttons = {
    out: button("−", "Zoom out"),
    in: button("+", "Zoom in"),
    fit: button("Whole call"),
    follow: button("Follow"),
  };
  buttons.follow.hidden = true;
  const range = make("span", "tl-range");
  const state = make("span", "tl-state");
  state.setAttribute("role", "status");
  const bar = make("div", "tl-bar");
  bar.append(buttons.out, buttons.in, buttons.fit, buttons.follow, range, state);

  const names = make("div", "tl-names");
  // a reader hears the lane with each element of it
  names.setAttribute("aria-hidden", "true");
  const canvas = make("canvas");
  const plot = make("div", "tl-plot");
  plot.append(canvas);
  plot.tabIndex = 0;
  plot.setAttribute("role", "application");
  plot.setAttribute("aria-roledescription", "timeline");
  const body = make("div", "tl-body");
  body.append(names, plot);
  const overview = make("canvas", "tl-overview");
  overview.setAttribute("aria-hidden", "true");
  const said = make("p", "unseen");
  said.setAttribute("aria-live", "assertive");
  const empty = make("p", "tl-empty empty");
  empty.hidden = true;
  const [help, signs] = helped(host);
  plot.setAttribute("aria-describedby", help.lastElementChild.id);
  host.replaceChildren(bar, body, empty, overview, help, said);
  return { bar, buttons, range, state, names, plot, canvas, overview, said, empty, body, signs };
}

/** Write the names of lanes beside them. */
export function nameLanes(names, layout, palette) {
  const shown = layout.lanes.map(({ name, title, about, top, height, elements }) => {
    const made = make("div", "tl-name", title);
    if (about && elements.length) made.append(make("small", "", about));
    made.classList.toggle("is-empty", !elements.length);
    made.style.top = `${AXIS + top}px`;
    made.style.height = `${height}px`;
    made.style.setProperty("--lane", inks(name, palette)[0]);
    return made;
  });
  names.replaceChildren(...shown);
}

/** Draw the signs of the help in the colours of the theme. */
export function drawSigns(signs, palette, pixels) {
  for (const { canvas, kind, lane } of signs) {
    canvas.width = canvas.height = SIGN * pixels;
    canvas.style.width = canvas.style.height = `${SIGN}px`;
    const context = canvas.getContext("2d");
    context.scale(pixels, pixels);
    drawSign(context, kind, SIGN / 2, SIGN / 2, ...inks(lane, palette));
  }
}

function helped(host) {
  const help = make("details", "tl-help");
  help.append(make("summary", "", "Signs and keys"));
  const signs = SIGNS.map(([kind, lane, words]) => {
    const item = make("li");
    const canvas = make("canvas");
    canvas.setAttribute("aria-hidden", "true");
    item.append(canvas, words);
    return { item, canvas, kind, lane };
  });
  const list = make("ul", "tl-signs");
  const ends = ["torn end: interrupted", "dashed edge: goes on"].map((words) => make("li", "", words));
  list.append(...signs.map(({ item }) => item), ...ends);
  const keys = make("dl", "tl-keys");
  keys.id = `${host.id || "timeline"}-keys`;
  for (const [key, words] of KEYS) {
    const pair = make("div");
    pair.append(make("dt", "", key), make("dd", "", words));
    keys.append(pair);
  }
  help.append(list, keys);
  return [help, signs];
}

function button(text, label = "") {
  const made = make("button", "", text);
  made.type = "button";
  if (label) {
    made.setAttribute("aria-label", label);
    made.title = label;
  }
  return made;
}

function make(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}
