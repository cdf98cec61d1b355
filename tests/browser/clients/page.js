// What a page built on @openai/agents-realtime does, held so that a test can drive it: `window.client`.
import { RealtimeAgent, RealtimeSession, tool } from "@openai/agents-realtime";
import { z } from "zod";

const client = {
  transport: [],
  errors: [],
  history: [],
  toolCalls: [],
  interruptions: 0,
  session: null,

  /** Connect with nothing changed but URL and key; gives the milliseconds that it took. */
  async connect({ url, apiKey }) {
    const weather = tool({
      name: "get_weather",
      description: "Tell the weather of a city.",
      parameters: z.object({ city: z.string() }),
      execute: async ({ city }) => {
        client.toolCalls.push(city);
        return `In ${city} the sky is clear.`;
      },
    });
    const agent = new RealtimeAgent({ name: "Forecaster", instructions: "Be brief.", tools: [weather] });
    const session = new RealtimeSession(agent, { transport: "webrtc", model: "gpt-realtime" });
    client.session = session;
    session.on("transport_event", (event) => client.transport.push(event.type));
    session.on("history_updated", (history) => (client.history = history));
    session.on("audio_interrupted", () => (client.interruptions += 1));
    session.on("error", (error) => client.errors.push(String(error.error?.message ?? error.error ?? error)));
    const began = performance.now();
    await session.connect({ apiKey, url });
    return performance.now() - began;
  },

  get callId() {
    return client.session.transport.callId;
  },

  /** Everything that the assistant said, as the session's history has it. */
  get said() {
    return client.history
      .filter((item) => item.type === "message" && item.role === "assistant")
      .flatMap((item) => item.content.map((part) => part.transcript ?? part.text ?? ""));
  },
};

window.client = client;
