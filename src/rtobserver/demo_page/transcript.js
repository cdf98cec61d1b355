// Folds the events of a data channel into lines: who said what, in the conversation's order.

const PLACEHOLDER = "…";
const NOT_TRANSCRIBED = "(not transcribed)";

/**
 * `lines` are {id, role, text, isDone, isInterrupted, isDeleted}; the methods give the lines that changed.
 * Whatever comes is taken: what has not the shape of an event changes nothing.
 */
export class Transcript {
  lines = [];
  #itemsOf = new Map();
  #isTranscribed = true;

  take(event) {
    const change = this.#apply(event);
    return change ? [change].flat() : [];
  }

  /** What this page adds to the conversation, which a filter upstream may not tell it again. */
  takeSent(event) {
    const line = event.type === "conversation.item.create" && this.#item(event.item, undefined, true);
    return line ? [line] : [];
  }

  /** The call is over: what has no words by now gets none. */
  end() {
    const wordless = this.lines.filter(({ role, text }) => role === "user" && text === PLACEHOLDER);
    for (const line of wordless) close(line);
    return wordless;
  }

  #apply(event) {
    switch (event.type) {
      case "session.created":
      case "session.updated":
        this.#isTranscribed = Boolean(event.session?.audio?.input?.transcription);
        return null;
      case "input_audio_buffer.speech_started":
        return this.#line(event.item_id, "user");
      case "conversation.item.created":
      case "conversation.item.added":
      case "conversation.item.done":
        return this.#item(event.item, event.previous_item_id, event.type.endsWith(".done"));
      case "conversation.item.deleted":
        return this.#delete(event.item_id);
      case "response.output_item.added":
        this.#itemsOf.set(event.response_id, [...(this.#itemsOf.get(event.response_id) ?? []), event.item?.id]);
        return null;
      case "conversation.item.input_audio_transcription.delta":
        return this.#append(event, "user");
      case "conversation.item.input_audio_transcription.completed":
        return this.#complete(event.item_id, "user", event.transcript);
      case "conversation.item.input_audio_transcription.failed":
        return this.#complete(event.item_id, "user", NOT_TRANSCRIBED);
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        return this.#append(event, "assistant");
      case "response.output_audio_transcript.done":
        return this.#complete(event.item_id, "assistant", event.transcript);
      case "response.output_text.done":
        return this.#complete(event.item_id, "assistant", event.text);
      case "conversation.item.truncated":
        return this.#interrupt([event.item_id]);
      case "output_audio_buffer.cleared":
        return this.#interrupt(this.#itemsOf.get(event.response_id) ?? []);
      case "response.done":
        if (event.response?.status !== "cancelled") return null;
        return this.#interrupt(list(event.response.output).map((item) => item?.id));
      default:
        return null;
    }
  }

  #item(item, previous, isDone) {
    switch (item?.type) {
      case "message": {
        const line = this.#line(item.id, item.role, previous);
        if (!line) return null;
        const parts = list(item.content);
        const said = parts.map((part) => words(part?.text) || words(part?.transcript)).join(" ").trim();
        if (said) line.text = said;
        // what was spoken is done when its transcript is
        const isWordless = !said && parts.some((part) => part?.type === "input_audio");
        if (isDone && isWordless && !this.#isTranscribed) close(line);
        line.isDone ||= isDone && !isWordless;
        return line;
      }
      case "function_call":
        return this.#complete(item.id, "tool", `${words(item.name)}(${words(item.arguments)})`, isDone);
      case "function_call_output":
        return this.#complete(item.id, "tool", `→ ${words(item.output)}`, isDone);
      default:
        return null;
    }
  }

  #append({ item_id: id, delta }, role) {
    const line = this.#line(id, role);
    if (line) line.text = (hasWords(line) ? line.text : "") + words(delta);
    return line;
  }

  #complete(id, role, text, isDone = true) {
    const line = this.#line(id, role);
    if (!line) return null;
    line.text = words(text).trim() || line.text;
    line.isDone = isDone;
    return line;
  }

  #interrupt(ids) {
    const cut = this.lines.filter((line) => ids.includes(line.id) && line.role === "assistant");
    for (const line of cut) line.isInterrupted = line.isDone = true;
    return cut;
  }

  #delete(id) {
    const line = this.lines.find((known) => known.id === id);
    if (!line) return null;
    this.lines.splice(this.lines.indexOf(line), 1);
    line.isDeleted = true;
    return line;
  }

  #line(id, role, previous) {
    if (typeof id !== "string" || typeof role !== "string") return null;
    const known = this.lines.find((line) => line.id === id);
    if (known) return known;
    const line = { id, role, text: PLACEHOLDER, isDone: false, isInterrupted: false, isDeleted: false };
    const before = this.lines.findIndex((other) => other.id === previous);
    this.lines.splice(before < 0 ? this.lines.length : before + 1, 0, line);
    return line;
  }
}

function hasWords({ text }) {
  return text !== PLACEHOLDER && text !== NOT_TRANSCRIBED;
}

function close(line) {
  if (!hasWords(line)) line.text = NOT_TRANSCRIBED;
  line.isDone = true;
}

function list(value) {
  return Array.isArray(value) ? value : [];
}

function words(value) {
  return typeof value === "string" ? value : "";
}
