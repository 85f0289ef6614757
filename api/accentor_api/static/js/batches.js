import { ago, duration, make, words } from "./dom.js";
import { listing } from "./listing.js";
import { stepOf } from "./steps.js";

function note(batch) {
  const step = stepOf(batch);
  if (step) return `atlas: ${step}`;
  return batch.lane === "interactive" ? "one picture" : "";
}

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
      make("small", { class: "hint" }, ` ${note(batch)}`),
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

export const { open, close, begin } = listing("/v1/batches", { rows: "batch-rows", empty: "batches-empty", table: "batches-table", more: "batches-more" }, row);
