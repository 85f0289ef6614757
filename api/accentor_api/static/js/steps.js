import { duration, make } from "./dom.js";

const WORK = {
  scan: "one pass over the images: every feature’s statistics and top images",
  select: "the images to accentuate",
  accentuate: "each feature in its images",
  evaluate: "coherence by depth",
  publish: "the site is written",
};

/* The step of an atlas that a batch is: its id is the atlas's and the number of the step. */
export function stepOf({ id, metadata }) {
  return metadata.atlas === id.slice(0, -1) ? Object.keys(WORK)[Number(id.at(-1)) - 1] : null;
}

export function told({ name, total, done }) {
  return total ? `${name}, ${done.toLocaleString()} of ${total.toLocaleString()}` : name;
}

export function line(step, isPresent) {
  const { name, state, total, done, failed, cached, eta_s: left } = step;
  const parts = [
    total ? `${done.toLocaleString()} of ${total.toLocaleString()}` : "",
    cached ? `${cached.toLocaleString()} were there` : "",
    failed ? failures(step) : "",
    isPresent && !total ? "beginning…" : "",
    isPresent && left ? `${duration(left)} left` : "",
    took(step),
  ];
  return make(
    "li",
    { "data-kind": state ?? (isPresent ? "queued" : "waiting"), "aria-current": isPresent ? "step" : null },
    make("p", {}, make("strong", {}, name), make("span", { class: "hint" }, ` ${WORK[name] ?? ""}`)),
    total && state !== "succeeded" ? make("progress", { max: total, value: done, "aria-label": `${name}: parts done` }) : null,
    make("p", { class: "hint" }, ...parts.filter(Boolean).flatMap((part, at) => (at ? [" · ", part] : [part]))),
  );
}

function failures({ name, failed, batch }) {
  const text = `${failed.toLocaleString()} failed`;
  return name === "accentuate" && batch ? make("a", { href: `#/batches/${batch}` }, text) : text;
}

function took({ started_at: started, finished_at: finished }) {
  return started && finished ? `took ${duration((new Date(finished) - new Date(started)) / 1000)}` : "";
}
