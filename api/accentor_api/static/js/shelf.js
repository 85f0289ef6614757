import { read } from "./api.js";
import { find, make, number, show } from "./dom.js";

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

export const has = (id) => kept().some((entry) => entry.id === id);

export function keep(entry) {
  store([entry, ...kept().filter((one) => one.id !== entry.id)]);
  draw();
}

function remove(id) {
  store(kept().filter((entry) => entry.id !== id));
  draw();
}

export function card({ id, feature, model, before, after }, url, pick, drop) {
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

async function place(entry) {
  const node = card(entry, null, () => onPick(entry), () => remove(entry.id));
  try {
    node.querySelector("img").src = (await read(`/v1/jobs/${entry.id}`)).urls["accentuated.png"];
  } catch {
    node.classList.add("gone");
    node.querySelector("small").textContent = "not at the service any more";
  }
  return node;
}

export async function draw() {
  const entries = kept();
  show(find("shelf-empty"), entries.length === 0);
  find("shelf").replaceChildren(...(await Promise.all(entries.map(place))));
}

export function begin(call) {
  onPick = call;
  addEventListener("storage", (event) => {
    if (event.key === PLACE) draw();
  });
  draw();
}
