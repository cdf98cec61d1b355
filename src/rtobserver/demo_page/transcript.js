// Folds the events of a data channel into lines: who said what, in the conversation's order.

const PLACEHOLDER = "…";

/** `lines` are {id, role, text, isDone, isInterrupted}; `take` gives the lines that an event changed. */
export class Transcript {
  lines = [];
  #itemsOf = new Map();

  take(event) {
    const line = this.#apply(event);
    return line ? [line].flat() : [];
  }

  #apply(event) {
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        return event.item_id && this.#line(event.item_id, "user");
      case "conversation.item.created":
      case "conversation.item.added":
      case "conversation.item.done":
        return this.#item(event.item, event.previous_item_id, event.type.endsWith(".done"));
      case "response.output_item.added":
        this.#itemsOf.set(event.response_id, [...(this.#itemsOf.get(event.response_id) ?? []), event.item.id]);
        return null;
      case "conversation.item.input_audio_transcription.delta":
        return this.#append(event, "user");
      case "conversation.item.input_audio_transcription.completed":
        return this.#complete(event.item_id, "user", event.transcript);
      case "conversation.item.input_audio_transcription.failed":
        return this.#complete(event.item_id, "user", "(could not be transcribed)");
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
        return event.response?.status === "cancelled" ? this.#interrupt(event.response.output.map(({ id }) => id)) : null;
      default:
        return null;
    }
  }

  #item(item, previous, isDone) {
    switch (item?.type) {
      case "message": {
        const line = this.#line(item.id, item.role, previous);
        const text = (item.content ?? []).map((part) => part.text ?? part.transcript ?? "").join(" ").trim();
        if (text) line.text = text;
        // what was spoken is done when its transcript is
        const isSpoken = (item.content ?? []).some((part) => part.type === "input_audio");
        line.isDone ||= isDone && !(isSpoken && !text);
        return line;
      }
      case "function_call":
        return this.#complete(item.id, "tool", `${item.name}(${item.arguments ?? ""})`, isDone);
      case "function_call_output":
        return this.#complete(item.id, "tool", `→ ${item.output}`, isDone);
      default:
        return null;
    }
  }

  #append({ item_id: id, delta }, role) {
    const line = this.#line(id, role);
    line.text = (line.text === PLACEHOLDER ? "" : line.text) + (delta ?? "");
    return line;
  }

  #complete(id, role, text, isDone = true) {
    const line = this.#line(id, role);
    line.text = text?.trim() || line.text;
    line.isDone = isDone;
    return line;
  }

  #interrupt(ids) {
    const cut = this.lines.filter((line) => ids.includes(line.id) && line.role === "assistant");
    for (const line of cut) line.isInterrupted = line.isDone = true;
    return cut;
  }

  #line(id, role, previous) {
    const known = this.lines.find((line) => line.id === id);
    if (known) return known;
    const line = { id, role, text: PLACEHOLDER, isDone: false, isInterrupted: false };
    const before = this.lines.findIndex((other) => other.id === previous);
    this.lines.splice(before < 0 ? this.lines.length : before + 1, 0, line);
    return line;
  }
}
