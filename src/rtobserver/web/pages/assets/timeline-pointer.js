// Mouse, pen and fingers on a timeline: hover, click, drag to pan, pinch and Ctrl with the wheel to zoom.

const CLICK = 5;
const WHEEL = 0.0022;

/** Have what is done on `plot` move `timeline`. */
export function listenToPointers(plot, timeline) {
  const down = new Map();
  let isDragged = false;

  const x = (event) => event.clientX - plot.getBoundingClientRect().left - plot.clientLeft;

  plot.addEventListener("wheel", (event) => {
    const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    const isZoom = event.ctrlKey || event.metaKey;
    // else it is the page that scrolls
    if (!isZoom && !isSideways) return;
    event.preventDefault();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    // a pinch on a touchpad comes as a wheel too, with small steps
    if (isZoom) timeline.zoom(Math.exp(-event.deltaY * unit * WHEEL * (Math.abs(event.deltaY) < 20 ? 4 : 1)), x(event));
    else timeline.pan(((event.deltaX || event.deltaY) * unit) / plot.clientWidth);
  }, { passive: false });

  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    down.set(event.pointerId, { began: x(event), x: x(event) });
    isDragged = down.size > 1;
    plot.setPointerCapture(event.pointerId);
  });

  plot.addEventListener("pointermove", (event) => {
    const pointer = down.get(event.pointerId);
    if (!pointer) {
      if (event.pointerType !== "touch") timeline.hover(timeline.at(event.clientX, event.clientY));
      return;
    }
    if (!isDragged && Math.abs(x(event) - pointer.began) < CLICK) return;
    isDragged = true;
    plot.classList.add("is-dragged");
    timeline.hover(null);
    const before = [...down.values()].map((each) => each.x);
    pointer.x = x(event);
    move(before, [...down.values()].map((each) => each.x));
  });

  /** One finger drags; two drag by what is between them, and zoom by how far they are apart. */
  function move([one, other = one], [oneNow, otherNow = oneNow]) {
    const [apart, apartNow] = [Math.abs(one - other), Math.abs(oneNow - otherNow)];
    if (apart > 10 && apartNow > 10) timeline.zoom(apartNow / apart, (one + other) / 2);
    timeline.pan(((one + other) / 2 - (oneNow + otherNow) / 2) / plot.clientWidth);
  }

  function release(event) {
    down.delete(event.pointerId);
    if (!down.size) plot.classList.remove("is-dragged");
  }

  plot.addEventListener("pointerup", (event) => {
    const wasClick = down.has(event.pointerId) && !isDragged;
    release(event);
    if (wasClick) timeline.select(timeline.at(event.clientX, event.clientY)?.id, { isClick: true });
  });
  plot.addEventListener("pointercancel", release);
  plot.addEventListener("pointerleave", () => timeline.hover(null));
  plot.addEventListener("dblclick", (event) => timeline.zoom(2, x(event)));
}
