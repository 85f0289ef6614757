import { read } from "./api.js";
import { ago, duration, find, make, replaceRows, show, words } from "./dom.js";
import { tell } from "./notices.js";
import { polled } from "./polling.js";

const PAGE = 25;
const LARGEST_PAGE = 1000;

let wanted = PAGE;

function row(batch) {
  const { succeeded, failed, canceled } = batch.counts;
  const ended = succeeded + failed + canceled;
  return make(
    "tr",
    {},
    make(
      "td",
      {},
      make("a", { href: `#/batches/${batch.id}`, class: "code", title: batch.id }, batch.id.slice(0, 8)),
      batch.lane === "interactive" ? make("small", { class: "hint" }, " one picture") : null,
    ),
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
  replaceRows(find("batch-rows"), page.data.map(row));
  show(find("batches-empty"), page.data.length === 0);
  show(find("batches-table"), page.data.length > 0);
  show(find("batches-more"), page.next_cursor !== null && wanted < LARGEST_PAGE);
}

const list = polled(draw);

export function open() {
  wanted = PAGE;
  return list.open();
}

export const { close } = list;

export function begin() {
  find("batches-more").addEventListener("click", () => {
    wanted = Math.min(wanted * 2, LARGEST_PAGE);
    draw().catch(tell);
  });
}
