import { Problem, send } from "./api.js";

const AGAIN_MS = 2_000;
const TRIES = 30;

export async function* follow(path, signal) {
  let last = null;
  for (let failures = 0; failures < TRIES; failures += 1) {
    try {
      const more = last === null ? {} : { "last-event-id": last };
      const answer = await send(path, { accept: "text/event-stream", signal, more });
      if (answer.status === 204) return;
      for await (const { id, data } of events(answer.body)) {
        last = id;
        failures = 0;
        const status = JSON.parse(data);
        yield status;
        if (ENDED.has(status.state)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    }
    if (signal.aborted) return;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  throw new Problem({ code: "unreachable", detail: "the service does not answer any more" });
}

export const ENDED = new Set(["succeeded", "failed", "canceled", "partially_failed"]);

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]));
      if (fields.data) yield fields;
    }
  }
}
