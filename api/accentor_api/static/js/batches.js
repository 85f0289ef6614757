import { read } from "./api.js";
import { ago, duration, find, make, show, words } from "./dom.js";
import { tell } from "./notices.js";

const POLL_MS = 2_000;
const PAGE = 25;

let timer = null;
let wanted = PAGE;

function row(batch) {
  const { succeeded, failed, canceled } = batch.counts;
  const ended = succeeded + failed + canceled;
  return make(
    "tr",
    {},
    make("td", {}, make("a", { href: `#/batches/${batch.id}`, class: "code", title: batch.id }, batch.id.slice(0, 8))),
    make("td", { class: "wide" }, batch.model),
    make("td", {}, make("span", { class: "state", "data-kind": batch.state }, words(batch.state))),
    make("td", { class: "wide" }, make("progress", { max: batch.total || 1, value: ended, "aria-label": `${ended} of ${batch.total} jobs ended` })),
    make("td", { class: "number" }, `${succeeded.toLocaleString()} / ${batch.total.toLocaleString()}`),
    make("td", { class: "number" }, failed ? failed.toLocaleString() : ""),
    make("td", { class: "number wide" }, duration(batch.eta_s)),
    make("td", { class: "number wide" }, ago(batch.created_at)),
  );
}

async function draw() {
  const page = await read(`/v1/batches?limit=${wanted}`);
  const focused = document.activeElement?.getAttribute("href");
  find("batch-rows").replaceChildren(...page.data.map(row));
  if (focused?.startsWith("#/batches/")) find("batch-rows").querySelector(`[href="${focused}"]`)?.focus();
  show(find("batches-empty"), page.data.length === 0);
  show(find("batches-table"), page.data.length > 0);
  show(find("batches-more"), page.next_cursor !== null);
}

async function turn() {
  try {
    if (!document.hidden) await draw();
    timer = setTimeout(turn, POLL_MS);
  } catch (problem) {
    tell(problem);
    timer = setTimeout(turn, POLL_MS * 5);
  }
}

export function open() {
  wanted = PAGE;
  turn();
}

export const close = () => clearTimeout(timer);

export function begin() {
  find("batches-more").addEventListener("click", () => {
    wanted = Math.min(wanted * 2, 1000);
    draw().catch(tell);
  });
}
