import { post, read, send } from "./api.js";
import { ago, duration, find, make, pairs, show, words } from "./dom.js";
import { ENDED, follow } from "./follow.js";
import { spoken, title } from "./forms.js";
import { held } from "./key.js";
import { advice, clear, tell } from "./notices.js";
import { card } from "./shelf.js";

const FAILURES = 25;
const RESULTS = 24;
const FILES = { "pictures (zip)": "archive?format=zip", "pictures (tar)": "archive?format=tar", "results (JSON Lines)": "results", "results (Parquet)": "results?format=parquet", "failures (JSON Lines)": "errors" };

let stop = null;
let id = null;
let seen = "";
let isPictured = true;
const pages = {
  failed: { list: "failures", part: "failures-part", more: "failures-more", limit: FAILURES, row: failure, arrange: joined },
  succeeded: { list: "results", part: "results-part", more: "results-more", limit: RESULTS, row: picture },
};

function failure(job) {
  const { code, detail, attempts } = job.failure ?? { code: "unknown", detail: "no reason is known", attempts: 1 };
  const reason = make("p", {}, make("strong", {}, code), ` ${detail}`);
  const group = make("li", {}, reason, make("p", { class: "hint" }, advice(code)), make("ul", {}));
  const what = make("span", { class: "code" }, title(spoken(job.spec.feature)));
  const more = `${job.spec.seed ? `, random seed ${job.spec.seed}` : ""}${attempts > 1 ? `, ${attempts} attempts` : ""}`;
  group.lastChild.append(make("li", {}, `${job.spec.custom_id ?? `job ${job.index}`}: `, what, ` in ${job.spec.image.slice(0, 8)}${more}`));
  return group;
}

function joined(list) {
  for (const group of [...list.children]) {
    const before = group.previousElementSibling;
    if (before?.firstChild.textContent !== group.firstChild.textContent) continue;
    before.lastChild.append(...group.lastChild.children);
    group.remove();
  }
}

function picture(job) {
  const { spec, result, urls } = job;
  const entry = { id: job.id, model: spec.model, feature: spec.feature, before: result?.before, after: result?.after };
  return card(entry, urls["accentuated.png"], () => {
    location.hash = `#/?job=${job.id}`;
  });
}

async function fill(state, cursor = null) {
  const page = pages[state];
  const mine = id;
  const query = `status=${state}&limit=${page.limit}${cursor ? `&cursor=${cursor}` : ""}`;
  const { data, next_cursor: next } = await read(`/v1/batches/${id}/jobs?${query}`);
  if (mine !== id) return;
  const rows = data.map(page.row);
  if (cursor) find(page.list).append(...rows);
  else find(page.list).replaceChildren(...rows);
  page.arrange?.(find(page.list));
  show(find(page.part), find(page.list).children.length > 0);
  show(find(page.more), next !== null);
  find(page.more).onclick = () => fill(state, next).catch(tell);
}

function unlisted(problem) {
  if (problem.status !== 422) {
    tell(problem);
    return;
  }
  isPictured = false;
  find("batch-kind").textContent = problem.message;
  show(find("batch-downloads"), false);
}

function draw(batch) {
  const { counts, total, state } = batch;
  const ended = counts.succeeded + counts.failed + counts.canceled;
  show(find("batch-body"));
  find("batch-state").textContent = `${words(state)}${batch.failure ? `: ${batch.failure.detail}` : ""}`;
  find("batch-state").dataset.kind = state;
  find("batch-progress").max = total || 1;
  find("batch-progress").value = ended;
  const figures = {
    model: batch.model,
    jobs: total.toLocaleString(),
    succeeded: `${counts.succeeded.toLocaleString()}${counts.cached ? ` (${counts.cached.toLocaleString()} were there)` : ""}`,
    failed: counts.failed.toLocaleString(),
    ...present(counts, ["canceled", "running", "queued"]),
    ...(batch.rate === null ? {} : { rate: `${batch.rate.toPrecision(2)} / s` }),
    ...(ENDED.has(state) ? {} : { left: duration(batch.eta_s) || "–" }),
    submitted: ago(batch.created_at),
    ...batch.metadata,
  };
  find("batch-figures").replaceChildren(...pairs(figures));
  show(find("batch-cancel"), !ENDED.has(state) && state !== "canceling");
  show(find("batch-retry"), ENDED.has(state) && counts.failed > 0);
  downloads(batch);
  const now = `${counts.failed} ${Math.min(counts.succeeded, RESULTS + 1)}`;
  if (now !== seen) {
    seen = now;
    if (isPictured) Promise.all([fill("failed"), fill("succeeded")]).catch(unlisted);
  }
}

const present = (counts, names) => Object.fromEntries(names.filter((name) => counts[name]).map((name) => [name, counts[name].toLocaleString()]));

function downloads({ counts }) {
  const offered = Object.entries(FILES).filter(([, file]) => (file === "errors" ? counts.failed : counts.succeeded) > 0);
  if (find("batch-downloads").dataset.offered === String(offered.length) && find("batch-downloads").dataset.id === id) return;
  Object.assign(find("batch-downloads").dataset, { offered: offered.length, id });
  const link = ([text, file]) => make("a", { href: `/v1/batches/${id}/${file}`, download: "", onclick: (event) => fetchFile(event, file) }, text);
  find("batch-downloads").replaceChildren(...(offered.length ? [make("span", { class: "hint" }, "Download")] : []), ...offered.map(link));
}

async function fetchFile(event, file) {
  if (!held()) return;
  event.preventDefault();
  const link = event.target;
  const text = link.textContent;
  link.textContent = "fetching…";
  try {
    const answer = await send(`/v1/batches/${id}/${file}`, { accept: "*/*", signal: stop.signal });
    const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1] ?? `${id}-${file}.jsonl`;
    const url = URL.createObjectURL(await answer.blob());
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (problem) {
    if (!stop.signal.aborted) tell(problem);
  }
  link.textContent = text;
}

async function watch() {
  stop?.abort();
  const mine = (stop = new AbortController());
  try {
    for await (const status of follow(`/v1/batches/${id}/events`, mine.signal)) {
      if (stop === mine) draw(status);
    }
  } catch (problem) {
    if (stop === mine) tell(problem);
  }
}

export function open(given) {
  id = given.id;
  seen = "";
  find("batch-title").textContent = id;
  isPictured = true;
  find("batch-kind").textContent = "";
  show(find("batch-downloads"));
  show(find("batch-body"), false);
  for (const page of Object.values(pages)) show(find(page.part), false);
  watch();
}

export const close = () => stop?.abort();

export function begin() {
  const act = (verb) => async (event) => {
    event.target.disabled = true;
    clear();
    try {
      draw(await post(`/v1/batches/${id}/${verb}`));
      watch();
    } catch (problem) {
      tell(problem);
    }
    event.target.disabled = false;
  };
  find("batch-cancel").addEventListener("click", act("cancel"));
  find("batch-retry").addEventListener("click", act("retry"));
}
