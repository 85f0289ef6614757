import { find, make } from "./dom.js";

const ADVICE = {
  unauthorized: "Enter an API key, above right.",
  "missing-scope": "Use an API key that allows it.",
  "rate-limit": "Wait a moment and try again.",
  "queue-limit": "Wait until some of your jobs have ended, or cancel some.",
  "model-not-ready": "No worker has this model loaded: start one with “accentor worker”.",
  "too-large": "Choose a smaller picture.",
  "invalid-image": "Choose a PNG, JPEG or WebP picture.",
  "unsupported-media-type": "Choose a PNG, JPEG or WebP picture.",
  "invalid-feature": "Pick a feature from the lists, or mend what is written.",
  "unknown-layer": "Pick a layer from the list.",
  "unknown-model": "Pick a model from the list.",
  "unit-out-of-range": "Pick a unit from the list.",
  "invalid-recipe": "Set the recipe’s settings back, or mend the one that is named.",
  "storage-unavailable": "Try again soon; /readyz says what is down.",
  "state-unavailable": "Try again soon; /readyz says what is down.",
  "illegal-transition": "It has ended meanwhile.",
  "not-found": "It may have been deleted.",
  unreachable: "See that the service runs, then try again.",
  "not-finite": "Try fewer steps or a larger pull of the seed.",
  "not-differentiable": "This feature has no gradient here: pick another.",
  "out-of-memory": "Try a smaller picture size or fewer crops.",
  "worker-lost": "Try again; if it comes back, the worker’s log says why.",
  "time-limit": "Try fewer steps or a smaller size.",
  deadline: "Retry: the deadline counts no more.",
  "model-changed": "Submit it again: the service has other weights now.",
};

export const advice = (code) => ADVICE[code] ?? "";

export function tell(problem) {
  const request = problem.status >= 500 && problem.body?.request_id;
  const more = [advice(problem.code), request ? `Its request id is ${request}.` : ""].filter(Boolean).join(" ");
  const faults = (problem.body?.errors ?? []).slice(0, 3).map((fault) => fault.detail).filter((text) => text && text !== problem.message);
  const notice = make(
    "div",
    { class: "notice" },
    make("p", {}, make("strong", {}, sentence(problem.message)), more ? ` ${more}` : ""),
    ...faults.map((text) => make("p", { class: "hint" }, text)),
    make("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: () => notice.remove() }, "✕"),
  );
  find("notices").replaceChildren(notice);
}

export const clear = () => find("notices").replaceChildren();

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;
