// Charts, drawn by uPlot (vendor/uPlot.iife.min.js, which has to be loaded before) in the style sheet's colours.

const HEIGHT = 200;
const FONT = "12px system-ui, sans-serif";
const BAR_WIDTH = [0.7, 48];
// between two marks of an axis
const STEPS = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((digit) => Number(`${digit}e${power - 6}`))).flat();
const drawn = new WeakMap();

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

/** Write numbers: alone, as `ms`, as `usd`. */
export const FORMATS = {
  number: (value) => whole.format(value),
  ms: (value) => (value >= 10_000 ? `${whole.format(value / 1000)} s` : `${whole.format(value)} ms`),
  usd: (value) => `$${value.toLocaleString(undefined, { maximumFractionDigits: value >= 100 ? 0 : value >= 1 ? 2 : 4 })}`,
};

/**
 * Draw a chart into an element, and keep it as wide as that; a chart that was there is replaced.
 *
 * `x` are numbers that rise: seconds since 1970 where `time` is "day" or "hour" (in UTC) or "local" (in the viewer's
 * zone), else whatever is counted. `series` are `{label, values, colour, kind, format}`: `values` as many as `x`,
 * null where there is none; `colour` names a custom property such as "--accent"; `kind` is "line" or "bars", and bars
 * stand on those before them where `stacked` is set; `format` is a name in FORMATS. `name` says what an `x` is, for
 * the legend (`(x) => text`). Gives `{values(), redraw(), destroy()}`.
 */
export function chart(element, { x, series, time, stacked = false, height = HEIGHT, name }) {
  drawn.get(element)?.destroy();
  const format = FORMATS[series[0]?.format ?? "number"];
  const heights = stacked ? pile(series) : series.map(({ values }) => values);
  const ink = (property) => () => colourOf(element, property);
  const legend = new Legend(element, series, name ?? ((at) => (time ? momentOf(at, time) : whole.format(at))));
  const stage = document.createElement("div");
  stage.className = "chart-stage";
  element.append(stage);
  const axis = { font: FONT, stroke: ink("--muted"), ticks: { show: false } };
  const plot = new uPlot(
    {
      width: Math.max(stage.clientWidth, 120),
      height,
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false } },
      tzDate: (seconds) => (time === "local" ? new Date(seconds * 1000) : uPlot.tzDate(new Date(seconds * 1000), "UTC")),
      scales: {
        x: { time: Boolean(time), range: () => widen(x) },
        y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.08 : 1] },
      },
      axes: [
        {
          ...axis,
          size: 40,
          grid: { show: false },
          ...(time
            ? { values: (_plot, marks, _axis, _space, step) => marks.map((mark, place) => nameOf(mark, place, step, time)) }
            : { incrs: STEPS.filter((step) => step >= 1) }),
        },
        {
          ...axis,
          size: 64,
          incrs: isWhole(heights) ? STEPS.filter((step) => step >= 1) : STEPS,
          grid: { stroke: ink("--line"), width: 1 },
          values: (_plot, marks) => marks.map((mark) => (mark === null ? "" : format(mark))),
        },
      ],
      // of bars that stand on each other the tallest is drawn first
      series: [{}, ...turned(series, stacked).map((each) => look(each, ink(each.colour), x.length))],
      hooks: { setCursor: [(at) => legend.show(at.cursor.idx, x)] },
    },
    [x, ...turned(heights, stacked)],
    stage,
  );
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  // what is drawn in one theme has to be drawn again in the other
  const redraw = () => plot.redraw();
  const watch = new ResizeObserver(() => {
    const width = Math.floor(stage.clientWidth);
    if (width > 0 && width !== plot.width) plot.setSize({ width, height });
  });
  isDark.addEventListener("change", redraw);
  watch.observe(stage);
  const made = {
    plot,
    values: () => ({ x: [...x], series: series.map(({ label, values }) => ({ label, values: [...values] })) }),
    redraw,
    destroy() {
      isDark.removeEventListener("change", redraw);
      watch.disconnect();
      plot.destroy();
      stage.remove();
      legend.remove();
      drawn.delete(element);
    },
  };
  drawn.set(element, made);
  return made;
}

/** Give the chart that an element has. */
export function chartOf(element) {
  return drawn.get(element);
}

/** Read a table as columns: `x` of its rows' `data-x`, and of each `th[data-series]` its name and numbers. */
export function readTable(table) {
  const rows = [...table.querySelectorAll("tbody tr[data-x]")];
  const heads = [...table.querySelectorAll("thead th")];
  const columns = new Map();
  for (const [place, head] of heads.entries()) {
    if (!head.dataset.series) continue;
    const values = rows.map(({ cells }) => (cells[place].dataset.value ? Number(cells[place].dataset.value) : null));
    columns.set(head.dataset.series, { label: head.dataset.label ?? head.textContent.trim(), values });
  }
  return { x: rows.map(({ dataset }) => Number(dataset.x)), columns };
}

/**
 * Draw each `figure[data-chart]` of a page from the table that its `data-table` names, so that a chart never shows
 * anything else than the table beside it. `data-series` is "NAME:COLOUR …", and `data-kind`, `data-format`,
 * `data-time` and `data-stacked` say how.
 */
export function drawFigures(root = document) {
  for (const figure of root.querySelectorAll("figure[data-chart]")) {
    const { x, columns } = readTable(document.getElementById(figure.dataset.table));
    const { kind, format, time, stacked } = figure.dataset;
    const series = figure.dataset.series.split(" ").map((text) => {
      const [key, colour] = text.split(":");
      return { ...columns.get(key), colour: `--${colour}`, kind, format };
    });
    if (x.length) chart(figure, { x, series, time, stacked: stacked !== undefined });
  }
}

class Legend {
  #list = document.createElement("ul");
  #at = document.createElement("li");
  #values = [];
  #series;
  #name;

  constructor(element, series, name) {
    [this.#series, this.#name] = [series, name];
    this.#list.className = "legend";
    for (const { label, colour } of series) {
      const [entry, swatch, value] = [document.createElement("li"), document.createElement("i"), document.createElement("b")];
      swatch.style.background = `var(${colour})`;
      entry.append(swatch, label, " ", value);
      this.#values.push(value);
      this.#list.append(entry);
    }
    this.#at.className = "at";
    this.#list.append(this.#at);
    // what the pointer is over: the table has it for those who have none
    this.#list.setAttribute("aria-hidden", "true");
    element.append(this.#list);
  }

  show(index, x) {
    const isOver = index !== null && index !== undefined;
    this.#at.textContent = isOver ? this.#name(x[index]) : "";
    for (const [place, { values, format }] of this.#series.entries()) {
      const value = isOver ? values[index] : undefined;
      this.#values[place].textContent =
        value === undefined ? "" : value === null ? "–" : FORMATS[format ?? "number"](value);
    }
  }

  remove() {
    this.#list.remove();
  }
}

function look({ label, kind }, stroke, many) {
  if (kind === "bars") {
    const paths = uPlot.paths.bars({ size: BAR_WIDTH });
    return { label, stroke, fill: stroke, width: 0, paths, points: { show: false } };
  }
  return { label, stroke, width: 2, points: { show: many <= 60, size: 6, fill: stroke } };
}

function pile(series) {
  const sums = (series[0]?.values ?? []).map(() => 0);
  return series.map(({ values }) => values.map((value, place) => (sums[place] += value ?? 0)));
}

function isWhole(lists) {
  return lists.every((values) => values.every((value) => Number.isInteger(value ?? 0)));
}

function turned(list, isTurned) {
  return isTurned ? [...list].reverse() : list;
}

// bars stand on their `x`, half of each beside it: the first and the last need room
function widen(x) {
  const step = x.length > 1 ? (x.at(-1) - x[0]) / (x.length - 1) : 1;
  return [x[0] - step / 2, x.at(-1) + step / 2];
}

const DAY = { month: "short", day: "numeric" };
const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

function said(seconds, time, how) {
  const zone = time === "local" ? {} : { timeZone: "UTC" };
  return new Date(seconds * 1000).toLocaleString(undefined, { ...how, ...zone });
}

function momentOf(seconds, time) {
  const text = said(seconds, time, time === "day" ? { ...DAY, year: "numeric" } : { ...DAY, ...CLOCK });
  return time === "local" ? text : `${text} UTC`;
}

// a mark of the axis: the clock where marks are closer than a day, with the date where a day begins
function nameOf(seconds, place, step, time) {
  if (step >= 28 * 86_400) return said(seconds, time, { month: "short", year: "numeric" });
  if (step >= 86_400) return said(seconds, time, DAY);
  const clock = said(seconds, time, step < 60 ? { ...CLOCK, second: "2-digit" } : CLOCK);
  return place === 0 || clock.startsWith("00:00") ? `${clock}\n${said(seconds, time, DAY)}` : clock;
}

const probes = new WeakMap();

// canvases know nothing of custom properties: an element is asked which colour one stands for now
function colourOf(element, property) {
  let probe = probes.get(element);
  if (!probe) {
    probe = document.createElement("span");
    probe.hidden = true;
    element.append(probe);
    probes.set(element, probe);
  }
  probe.style.color = `var(${property})`;
  return getComputedStyle(probe).color;
}
