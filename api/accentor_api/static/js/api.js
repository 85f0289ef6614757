import * as key from "./key.js";

const LIMIT_MS = 60_000;
const UPLOAD_LIMIT_MS = 600_000;

export class Problem extends Error {
  constructor(body, status = 0) {
    super(body.detail ?? body.title ?? "no reason was given");
    Object.assign(this, { code: body.code ?? `http-${status}`, status, body });
  }
}

function headers(more = {}) {
  const held = key.held();
  return held ? { authorization: `Bearer ${held}`, ...more } : more;
}

export async function send(path, { method = "GET", body, type, accept = "application/json", signal, more } = {}) {
  const sent = headers({ accept, ...(type ? { "content-type": type } : {}), ...more });
  let answer;
  try {
    const limit = signal ?? AbortSignal.timeout(body instanceof Blob ? UPLOAD_LIMIT_MS : LIMIT_MS);
    answer = await fetch(path, { method, body, headers: sent, signal: limit });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ code: "unreachable", detail: "the service does not answer" });
  }
  if (answer.ok) return answer;
  const problem = new Problem(await answer.json().catch(() => ({})), answer.status);
  problem.retryAfter = Number(answer.headers.get("retry-after")) || null;
  if (problem.status === 401) key.ask(problem.message);
  throw problem;
}

export const read = async (path, options) => (await send(path, options)).json();

export const post = async (path, value, options) =>
  (await send(path, { method: "POST", body: JSON.stringify(value ?? {}), type: "application/json", ...options })).json();

export const path = (text) => text.split("/").map(encodeURIComponent).join("/");
