// The style sheet's colours for a canvas, which knows nothing of custom properties.

const WHO = ["user", "assistant", "tool", "policy"];
const NAMES = [
  ...["paper", "panel", "ink", "muted", "line", "edge", "accent", "good", "warn", "bad"],
  ...WHO.flatMap((name) => [name, `${name}-ground`]),
  ...["warn-ground", "bad-ground"],
];

/** Read the colours as they are for this element now; they change with the system's theme. */
export function readPalette(host) {
  const probe = document.createElement("span");
  probe.hidden = true;
  host.append(probe);
  const palette = {};
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    palette[name] = getComputedStyle(probe).color;
  }
  for (const name of WHO) palette[`${name}-strong`] = mixed(palette[name], palette[`${name}-ground`], 0.2);
  palette.font = getComputedStyle(host).fontFamily;
  probe.remove();
  return palette;
}

/** The colours of a lane: of its edges and signs, and of the ground on which words stand. */
export function inks(lane, palette) {
  switch (lane) {
    case "user":
      return [palette.user, palette["user-strong"]];
    case "playback":
      return [palette.assistant, palette["assistant-strong"]];
    case "assistant":
      return [palette.assistant, palette["assistant-ground"]];
    case "tools":
      return [palette.tool, palette["tool-ground"]];
    case "policies":
      return [palette.policy, palette["policy-ground"]];
    case "errors":
      return [palette.bad, palette["bad-ground"]];
    default:
      return [palette.warn, palette["warn-ground"]];
  }
}

function mixed(one, other, share) {
  const [numbers, others] = [one, other].map((colour) => colour.match(/[\d.]+/g).map(Number));
  const mix = numbers.slice(0, 3).map((number, index) => Math.round(number * share + others[index] * (1 - share)));
  return `rgb(${mix.join(" ")})`;
}
