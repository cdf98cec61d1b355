// One call: microphone, offer, answer, data channel. Knows nothing of the page that shows it.
import { Failure, ofAnswer, ofConnection, ofMicrophone, ofNetwork } from "./failures.js";

// Negotiation is over by then: what can still take so long is a path for the media, or the data channel on it.
const PATH_SECONDS = 20;

/**
 * Dispatches `state` (detail: a word), `event` (detail: {sent, event}), `sound` (detail: a MediaStream),
 * `recorded` (detail: the call's id, or null) and `ended` (detail: a Failure, or null if it ended as it should).
 */
export class Call extends EventTarget {
  #connection = new RTCPeerConnection();
  #channel = this.#connection.createDataChannel("oai-events");
  #microphone = null;
  #deadline = 0;
  #hasPath = false;
  #isOver = false;

  /** Starts the call. With `microphone: false` it only listens. Never throws: failures end the call. */
  async start({ microphone }) {
    try {
      await this.#open(microphone);
    } catch (error) {
      this.#finish(error instanceof Failure ? error : new Failure("unexpected", String(error?.message ?? error)));
    }
  }

  /** The microphone's stream, while there is one. */
  get microphone() {
    return this.#microphone;
  }

  /** Whether `send` sends. */
  get isOpen() {
    return this.#channel.readyState === "open";
  }

  set muted(muted) {
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  /** Sends a client event; does nothing on a channel that is not open. */
  send(event) {
    if (this.#channel.readyState !== "open") return;
    this.#channel.send(JSON.stringify(event));
    this.#tell("event", { sent: true, event });
  }

  end() {
    this.#finish(null);
  }

  async #open(wantsMicrophone) {
    this.#watch();
    if (wantsMicrophone) {
      this.#tell("state", "microphone");
      await this.#addMicrophone();
    } else {
      this.#connection.addTransceiver("audio", { direction: "recvonly" });
    }
    if (this.#isOver) return;
    this.#tell("state", "negotiating");
    await this.#connection.setLocalDescription();
    const answer = await negotiate(this.#connection.localDescription.sdp);
    if (this.#isOver) return;
    this.#tell("recorded", answer.callId);
    this.#tell("state", "connecting");
    this.#deadline = setTimeout(() => this.#finish(ofConnection(this.#phase())), PATH_SECONDS * 1000);
    await this.#connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
  }

  async #addMicrophone() {
    if (!navigator.mediaDevices) throw ofMicrophone({ name: "InsecureContext" });
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      throw ofMicrophone(error);
    }
    if (this.#isOver) {
      // the call was ended while the browser asked for permission
      for (const track of stream.getTracks()) track.stop();
      return;
    }
    this.#microphone = stream;
    for (const track of stream.getAudioTracks()) this.#connection.addTrack(track, stream);
  }

  #watch() {
    this.#connection.addEventListener("track", ({ streams, track }) =>
      this.#tell("sound", streams[0] ?? new MediaStream([track])),
    );
    this.#connection.addEventListener("iceconnectionstatechange", () => {
      this.#hasPath ||= ["connected", "completed"].includes(this.#connection.iceConnectionState);
    });
    this.#connection.addEventListener("connectionstatechange", () => {
      switch (this.#connection.connectionState) {
        case "failed":
          return this.#finish(ofConnection(this.#phase()));
        case "disconnected":
          return this.#tell("state", "interrupted");
        case "connected":
          return this.#tell("state", this.isOpen ? "live" : "connecting");
      }
    });
    this.#channel.addEventListener("open", () => {
      clearTimeout(this.#deadline);
      this.#tell("state", "live");
    });
    this.#channel.addEventListener("message", ({ data }) => {
      this.#tell("event", { sent: false, event: parsed(data) });
    });
    this.#channel.addEventListener("close", () => this.#finish(new Failure("left", "The other side ended the call.")));
  }

  #phase() {
    if (this.#channel.readyState !== "connecting") return "live";
    return this.#hasPath ? "path" : "connecting";
  }

  #finish(failure) {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#deadline);
    for (const track of this.#microphone?.getTracks() ?? []) track.stop();
    this.#channel.close();
    this.#connection.close();
    this.#tell("ended", failure);
  }

  #tell(name, detail) {
    if (!this.#isOver || name === "ended") this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

async function negotiate(offer) {
  const form = new FormData();
  form.append("sdp", offer);
  let response, text;
  try {
    response = await fetch("/connect", { method: "POST", body: form });
    text = await response.text();
  } catch (error) {
    throw ofNetwork(error);
  }
  if (!response.ok) throw ofAnswer(response.status, text);
  return { sdp: text, callId: response.headers.get("Location")?.split("/").at(-1) ?? null };
}

function parsed(data) {
  let event;
  try {
    event = JSON.parse(data);
  } catch {
    return { type: "(not JSON)", data: String(data) };
  }
  return typeof event?.type === "string" ? event : { type: "(not an event)", data: event };
}
