// The keyboard of a timeline.

const MOVES = { ArrowLeft: -1, ArrowRight: 1 };
const LANES = { ArrowUp: -1, ArrowDown: 1 };
const PAN = 0.2;

/** Have the keys that `plot` hears move through `timeline`. */
export function listenToKeys(plot, timeline) {
  plot.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    if (press(event, timeline)) event.preventDefault();
  });
}

function press({ key, shiftKey }, timeline) {
  switch (key) {
    case "ArrowLeft":
    case "ArrowRight":
      if (shiftKey) timeline.pan(MOVES[key] * PAN);
      else step(timeline, MOVES[key]);
      return true;
    case "ArrowUp":
    case "ArrowDown":
      changeLane(timeline, LANES[key]);
      return true;
    case "Home":
    case "End":
      timeline.select(timeline.laneOfCurrent()?.elements.at(key === "Home" ? 0 : -1)?.id);
      return true;
    case "Enter":
      timeline.open();
      return Boolean(timeline.current);
    case "Escape":
      timeline.leave();
      return true;
    case "+":
    case "=":
      timeline.zoom(1.5);
      return true;
    case "-":
    case "_":
      timeline.zoom(1 / 1.5);
      return true;
    case "0":
      timeline.fit();
      return true;
    default:
      return false;
  }
}

function step(timeline, by) {
  const elements = timeline.laneOfCurrent()?.elements ?? [];
  const index = elements.indexOf(timeline.current);
  const next = index < 0 ? nearest(elements, timeline.middleMs) : elements[index + by];
  if (next) timeline.select(next.id);
}

function changeLane(timeline, by) {
  const lanes = timeline.lanes.filter(({ elements }) => elements.length);
  const index = lanes.indexOf(timeline.laneOfCurrent());
  const lane = timeline.current ? lanes[index + by] : lanes[by > 0 ? 0 : lanes.length - 1];
  const next = lane && nearest(lane.elements, timeline.current?.fromMs ?? timeline.middleMs);
  if (next) timeline.select(next.id);
}

/** The element that goes on at a time, or begins the least away from it. */
function nearest(elements, ms) {
  const away = ({ fromMs, toMs }) => (fromMs <= ms && (toMs ?? Infinity) >= ms ? 0 : Math.abs(fromMs - ms));
  return elements.reduce((best, each) => (best && away(best) <= away(each) ? best : each), null);
}
