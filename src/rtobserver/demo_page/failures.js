// What went wrong, in words for the person in front of the page.

/** `kind` is a word for code, `message` a sentence, `advice` one more or empty. */
export class Failure extends Error {
  constructor(kind, message, advice = "") {
    super(message);
    this.kind = kind;
    this.advice = advice;
  }
}

/** Failures after which a call without a microphone may still do. */
export const MICROPHONE_KINDS = new Set(["no-microphone", "microphone-refused", "microphone-busy", "insecure"]);

/** From what getUserMedia threw. */
export function ofMicrophone(error) {
  switch (error.name) {
    case "NotFoundError":
    case "OverconstrainedError":
      return new Failure("no-microphone", "No microphone was found.", "Connect one and start again.");
    case "NotAllowedError":
    case "SecurityError":
      return new Failure(
        "microphone-refused",
        "This page may not use the microphone.",
        "Allow it in the browser, beside the address, and start again.",
      );
    case "NotReadableError":
    case "AbortError":
      return new Failure(
        "microphone-busy",
        "The microphone could not be opened.",
        "Perhaps another program is using it.",
      );
    case "InsecureContext":
      return new Failure(
        "insecure",
        "Browsers give the microphone to secure pages only.",
        "Open this page over https, or as http://localhost.",
      );
    default:
      return new Failure("no-microphone", `The microphone could not be opened: ${error.message || error.name}.`);
  }
}

/** From a fetch that got no answer. */
export function ofNetwork() {
  return new Failure("unreachable", "rtobserver could not be reached.", "Is it still running?");
}

/** From an answer that holds no SDP; rtobserver's are problem documents (RFC 9457). */
export function ofAnswer(status, text) {
  let told = "";
  try {
    const problem = JSON.parse(text);
    told = problem.detail ?? problem.error?.message ?? problem.title ?? "";
  } catch {
    // a proxy's page, of which nothing can be quoted
  }
  return new Failure("refused", `The call was refused (${status}).`, String(told));
}

/** From a connection that failed while it was `connecting`, had a `path` but no data channel yet, or was `live`. */
export function ofConnection(phase) {
  switch (phase) {
    case "live":
      return new Failure("lost", "The connection to the model was lost.", "What was said until then is recorded.");
    case "path":
      return new Failure(
        "no-channel",
        "The data channel to the model did not open.",
        "The model's side was reached, but no events come from there. Start again.",
      );
    default:
      return new Failure(
        "no-path",
        "No connection to the model came about (ICE failed).",
        "The call was accepted, but no media gets through: a firewall or VPN may block UDP.",
      );
  }
}
