// Times in the viewer's zone, ages that go on counting. The server writes them in UTC.

const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** Write a time, given as RFC 3339 or in milliseconds since 1970, in the viewer's zone. */
export function local(time) {
  return moments.format(new Date(time));
}

/** Say since when, in the viewer's zone and in UTC: of what shows how long it has been. */
export function since(time) {
  const utc = new Date(time).toISOString().slice(0, 19).replace("T", " ");
  return `Since ${local(time)} (${utc} UTC)`;
}

/** Write a duration of milliseconds such as `1:02:03` or `0:07`. */
export function lasted(milliseconds) {
  const all = Math.max(0, Math.floor(milliseconds / 1000));
  const [hours, minutes, seconds] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  const end = String(seconds).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${end}` : `${minutes}:${end}`;
}

function turn(element) {
  const text = local(element.dateTime);
  if (element.textContent !== text) element.textContent = text;
}

function turnAll(root) {
  if (root.matches?.("time[datetime]:not(.age)")) turn(root);
  for (const element of root.querySelectorAll?.("time[datetime]:not(.age)") ?? []) turn(element);
}

// the server's clock counts, not the viewer's
let ahead = 0;

/** Tell how far the viewer's clock is ahead of the server's, in milliseconds. */
export function setAhead(milliseconds) {
  ahead = milliseconds;
}

function count() {
  for (const element of document.querySelectorAll("time.age[datetime]")) {
    const text = lasted(Date.now() - ahead - Date.parse(element.dateTime));
    if (element.textContent !== text) element.textContent = text;
  }
}

/** Turn all times that are or ever will be on the page. */
export function keepTime() {
  turnAll(document.body);
  count();
  setInterval(count, 1000);
  new MutationObserver((changes) => {
    for (const { target, addedNodes } of changes) {
      // a part that was reloaded has the server's words in elements that stayed
      const time = (target.nodeType === Node.TEXT_NODE ? target.parentElement : target)?.closest("time[datetime]:not(.age)");
      if (time) turn(time);
      else for (const node of addedNodes) turnAll(node);
    }
  }).observe(document.body, { childList: true, characterData: true, subtree: true });
}
