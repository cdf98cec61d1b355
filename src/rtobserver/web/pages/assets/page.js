// What every page needs: htmx under our policy, times, words for those who do not see a change.

import { keepTime, setAhead } from "./times.js";

const TOLD_FOR = 6000;
const LONGEST_WAY = 256;

/** Refuse what would need `eval`: such attributes are not used here. */
function refuse() {
  throw new Error("no scripts in attributes");
}

/** Be what markup has to pass to become elements: only htmx has it, which asks nobody but our own server. */
function policy() {
  const rules = {
    createHTML: (text) => text,
    // htmx makes each script element again: what is no block of data is none of ours
    createScript: (text) => JSON.stringify(JSON.parse(text)),
  };
  return globalThis.trustedTypes?.createPolicy("htmx", rules) ?? rules;
}

htmx.registerExtension("rtobserver", {
  init: (api) => api.initSecurity(policy(), refuse, refuse),
  htmx_config_request: (_element, { ctx }) => {
    ctx.request.headers["X-RTObserver-CSRF"] = "1";
  },
  htmx_before_response: (_element, { ctx }) => {
    // what came is a refusal: what the page shows stays, and words say why it is no longer fresh
    const status = ctx.response.status;
    if (status === 401) signIn();
    if (status >= 400) tell(`This could not be loaded (${status}).`);
    return status < 400;
  },
  htmx_error: () => tell("The server did not answer."),
});

/** Go to the sign-in page, and come back after it. */
export function signIn() {
  const here = location.pathname + location.search;
  location.assign(`/login?next=${encodeURIComponent(here.length > LONGEST_WAY ? location.pathname : here)}`);
}

let fading = 0;

/** Say something in the corner of the page, and to screen readers. */
export function tell(words) {
  const told = document.querySelector("#told");
  told.textContent = words;
  clearTimeout(fading);
  fading = setTimeout(() => { told.textContent = ""; }, TOLD_FOR);
}

/** Ask the API; gives the answer, or throws an Error in plain words. `body` makes it a change. */
export async function ask(path, { body, method = body === undefined ? "GET" : "POST", signal } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-RTObserver-CSRF"] = "1";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.status === 401) signIn();
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail ?? `The server answered ${answer.status}.`);
  }
  return answer.status === 204 ? null : answer.json();
}

const [came] = performance.getEntriesByType("navigation");
setAhead(performance.timeOrigin + (came?.responseStart ?? 0) - Number(document.documentElement.dataset.now));
keepTime();
