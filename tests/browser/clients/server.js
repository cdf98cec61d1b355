// What a server built on the `openai` package does; prints one JSON line for the test that started it.
// Words: base URL, path of a file that holds the offer.
import { readFile } from "node:fs/promises";

import OpenAI from "openai";

const [baseURL, offerPath] = process.argv.slice(2);
const sdp = await readFile(offerPath, "utf8");
const told = {};

const server = new OpenAI({ baseURL, apiKey: "sk-anything", maxRetries: 0 });
const secret = await server.realtime.clientSecrets.create({
  session: { type: "realtime", model: "gpt-realtime" },
  expires_after: { anchor: "created_at", seconds: 60 },
});
told.secret = secret.value.slice(0, 3);

const caller = new OpenAI({ baseURL, apiKey: secret.value, maxRetries: 0 });
const answer = await caller.realtime.calls.create({ sdp });
told.status = answer.status;
told.location = answer.headers.get("location");
told.answer = (await answer.text()).slice(0, 3);
await caller.realtime.calls.hangup(told.location.split("/").at(-1));

const withSession = await caller.realtime.calls.create({ sdp, session: { type: "realtime", model: "gpt-realtime" } });
told.withSession = withSession.headers.get("location");

try {
  await caller.realtime.calls.create({ sdp: "v=0\r\nnot an offer\r\n" });
} catch (error) {
  told.refusal = { name: error.constructor.name, status: error.status, code: error.code, message: error.message };
}

console.log(JSON.stringify(told));
