// What is beside the timeline on a call's page: the chart of latencies, and the controls' knowledge of how the call stands.

import { chartOf, drawFigures, readTable } from "./charts.js";

const latency = document.getElementById("latency");
const figure = document.querySelector('figure[data-table="latencies"]');
const summary = document.getElementById("summary");
const controls = document.querySelector("[data-controls]");

if (latency && figure) {
  let drawn = "";
  const draw = () => {
    const table = document.getElementById("latencies");
    // one turn alone is no chart: the table says it better
    const { x, columns } = table ? readTable(table) : { x: [], columns: new Map() };
    figure.hidden = x.length < 2;
    const now = JSON.stringify([x, [...columns]]);
    if (figure.hidden || now === drawn) return;
    drawn = now;
    chartOf(figure)?.destroy();
    drawFigures(figure.parentElement);
  };
  new MutationObserver(draw).observe(latency, { childList: true, subtree: true, characterData: true });
  draw();
}

if (controls) {
  const tell = () => {
    const { status, paused } = summary.querySelector(".states").dataset;
    controls.dataset.status = status;
    controls.toggleAttribute("data-paused", paused !== undefined);
    controls.dispatchEvent(new Event("rto:call"));
  };
  new MutationObserver(tell).observe(summary, { childList: true, subtree: true, attributes: true });
}
