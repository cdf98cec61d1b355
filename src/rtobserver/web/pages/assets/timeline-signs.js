// The signs of single moments, drawn around a point; each also differs from the others in shape, not only in colour.

/** Draw the sign of a kind of mark. */
export function drawSign(context, kind, x, y, ink, ground) {
  context.fillStyle = ink;
  context.strokeStyle = ink;
  context.lineWidth = 2;
  context.beginPath();
  switch (kind) {
    case "decision":
    case "observed":
      polygon(context, [[x, y - 7], [x + 7, y], [x, y + 7], [x - 7, y]]);
      if (kind === "observed") context.fillStyle = ground;
      context.fill();
      break;
    case "command":
      polygon(context, [[x - 5, y - 6], [x + 7, y], [x - 5, y + 6]]);
      context.fill();
      return;
    case "error":
    case "transcription_failed":
    case "cleared":
      cross(context, x, y, kind === "cleared" ? 4 : 5);
      break;
    case "barge_in":
      // a hand that cuts in from above
      polygon(context, [[x - 6, y - 7], [x + 6, y - 7], [x, y + 5]]);
      context.fill();
      return;
    case "truncated":
      context.moveTo(x, y - 6);
      context.lineTo(x, y + 6);
      context.moveTo(x - 4, y);
      context.lineTo(x + 4, y);
      break;
    default:
      context.arc(x, y, 4.5, 0, 2 * Math.PI);
      context.fill();
      return;
  }
  context.stroke();
}

function polygon(context, points) {
  for (const [index, [x, y]] of points.entries()) index ? context.lineTo(x, y) : context.moveTo(x, y);
  context.closePath();
}

function cross(context, x, y, arm) {
  context.moveTo(x - arm, y - arm);
  context.lineTo(x + arm, y + arm);
  context.moveTo(x + arm, y - arm);
  context.lineTo(x - arm, y + arm);
}
