// The style sheet's colours for a canvas, which knows nothing of custom properties.

const NAMES = [
  ...["paper", "panel", "ink", "muted", "line", "edge", "accent", "good", "warn", "bad"],
  ...["user", "assistant", "tool", "policy"].flatMap((name) => [name, `${name}-ground`]),
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
  palette.font = getComputedStyle(host).fontFamily;
  probe.remove();
  return palette;
}

/** The colours of a lane: of its edges and signs, and of the ground on which words stand. */
export function inks(lane, palette) {
  switch (lane) {
    case "user":
      return [palette.user, palette["user-ground"]];
    case "assistant":
    case "playback":
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
