// Says when what the page shows is no longer fresh: a verdict that stays green would deceive whoever is on duty.

const STALE_MS = 13_000; // two reloads have failed by then

const [figures, stale, fresh] = ["figures", "stale", "fresh"].map((id) => document.getElementById(id));
let loaded = Date.now();
let seen = Date.now();

function look() {
  // a page that nobody sees is hardly ever reloaded, and that is no fault
  const isStale = !document.hidden && Date.now() - Math.max(loaded, seen) > STALE_MS;
  if (isStale === !stale.hidden) return;
  fresh.dateTime = new Date(loaded).toISOString();
  fresh.textContent = fresh.dateTime;
  stale.hidden = !isStale;
  figures.classList.toggle("stale", isStale);
}

document.addEventListener("htmx:after:swap", () => {
  loaded = Date.now();
  look();
});
document.addEventListener("visibilitychange", () => {
  seen = Date.now();
});
setInterval(look, 1000);
