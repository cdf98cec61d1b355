// Makes elements on the page like others that came from the server, and leaves alone what a viewer did: where they
// scrolled to, what they opened, where their keyboard is.

/** Attributes that belong to the viewer and to scripts of the page. */
const OURS = new Set(["open", "aria-current", "data-turned", "tabindex"]);

/** Give `shown` the children of `wanted`. Elements of the same tag and `data-key` or `id` stay the same elements. */
export function reconcile(shown, wanted) {
  const staying = new Set([...wanted.children].map(keyOf));
  const known = new Map();
  for (const child of [...shown.children]) {
    const key = keyOf(child);
    // what goes, goes first: so that what stays behind it need not be moved
    if (key && !staying.has(key)) child.remove();
    else if (key) known.set(key, child);
  }
  let place = shown.firstChild;
  for (const child of [...wanted.childNodes]) {
    const key = child.nodeType === Node.ELEMENT_NODE ? keyOf(child) : "";
    let match = key ? known.get(key) : isLike(place, child) ? place : null;
    known.delete(key);
    if (!match) {
      match = document.importNode(child, true);
      shown.insertBefore(match, place);
      continue;
    }
    // spaces that stood between others
    while (key && place !== match && place?.nodeType === Node.TEXT_NODE) place = dropped(place);
    if (match === place) place = place.nextSibling;
    // who moves it as it is keeps the keyboard's place in it, where the browser can
    else if (shown.moveBefore) shown.moveBefore(match, place);
    else shown.insertBefore(match, place);
    update(match, child);
  }
  while (place) place = dropped(place);
}

/** Remove a node; gives the one behind it. */
function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function update(shown, wanted) {
  if (shown.nodeType !== Node.ELEMENT_NODE) {
    if (shown.data !== wanted.data) shown.data = wanted.data;
    return;
  }
  const isSameTime = shown.tagName === "TIME" && shown.dateTime === wanted.dateTime;
  for (const { name, value } of wanted.attributes) if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  for (const { name } of [...shown.attributes]) {
    if (!wanted.hasAttribute(name) && !OURS.has(name)) shown.removeAttribute(name);
  }
  // a time was turned to the viewer's zone; an element of our own makes its content itself
  if (!isSameTime && !shown.tagName.includes("-")) reconcile(shown, wanted);
}

function isLike(shown, wanted) {
  if (!shown || shown.nodeType !== wanted.nodeType) return false;
  if (shown.nodeType !== Node.ELEMENT_NODE) return true;
  return shown.tagName === wanted.tagName && !keyOf(shown);
}

function keyOf(element) {
  const key = element.dataset?.key ?? element.id;
  return key ? `${element.tagName} ${key}` : "";
}
