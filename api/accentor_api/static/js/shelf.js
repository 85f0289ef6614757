import { read } from "./api.js";
import { find, make, number, show } from "./dom.js";
import { spoken, title } from "./forms.js";

const PLACE = "accentor.shelf";
const MAX = 60;

let onPick = () => {};

const kept = () => {
  try {
    return JSON.parse(localStorage.getItem(PLACE) ?? "[]");
  } catch {
    return [];
  }
};

const store = (entries) => localStorage.setItem(PLACE, JSON.stringify(entries.slice(0, MAX)));

const what = ({ model, feature, image, seed = 0, recipe }) => JSON.stringify([model, feature, image, seed, recipe]);

export const has = (entry) => kept().some((one) => what(one) === what(entry));

export function keep(entry) {
  store([entry, ...kept().filter((one) => what(one) !== what(entry))]);
  draw();
}

function remove(id) {
  store(kept().filter((entry) => entry.id !== id));
  draw();
}

export function card({ id, feature: given, model, before, after }, url, pick, drop) {
  const feature = title(spoken(given));
  const text = `${feature}, ${model}: ${number(before)} to ${number(after)}`;
  return make(
    "li",
    { "data-id": id },
    make(
      "button",
      { type: "button", class: "open", onclick: pick, title: text },
      make("img", { src: url, alt: `Accentuated: ${text}`, loading: "lazy" }),
      make("span", { class: "code" }, feature),
      make("small", {}, `${number(before)} → ${number(after)}`),
    ),
    drop ? make("button", { type: "button", class: "drop-one", "aria-label": `Take ${feature} off the shelf`, onclick: drop }, "✕") : null,
  );
}

function place(entry) {
  const node = card(entry, entry.thumb, () => onPick(entry), () => remove(entry.id));
  if (!entry.thumb) whenSeen.observe(node);
  return node;
}

const whenSeen = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    if (!isIntersecting) continue;
    whenSeen.unobserve(target);
    fetchPicture(target);
  }
});

async function fetchPicture(node) {
  try {
    node.querySelector("img").src = (await read(`/v1/jobs/${node.dataset.id}`)).urls["accentuated.png"];
  } catch {
    node.querySelector("small").textContent = "not at the service now";
  }
}

function draw() {
  const entries = kept();
  show(find("shelf-empty"), entries.length === 0);
  find("shelf").replaceChildren(...entries.map(place));
}

export function begin(call) {
  onPick = call;
  addEventListener("storage", (event) => {
    if (event.key === PLACE) draw();
  });
  draw();
}
