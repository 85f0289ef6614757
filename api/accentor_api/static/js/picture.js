import { path, read, send } from "./api.js";
import { find, make } from "./dom.js";
import { tell } from "./notices.js";

const SAMPLES = "/static/samples";
const SHOWN = 12;

let current = null;
let coming = Promise.resolve();
let onChange = () => {};

export async function picture() {
  await coming;
  return current;
}

export function use(blob, name, { id = null, file = null } = {}) {
  coming = Promise.resolve();
  if (current) URL.revokeObjectURL(current.url);
  const chosen = { blob, name, file, url: URL.createObjectURL(blob), id: null };
  chosen.id = id ? Promise.resolve(id) : upload(blob);
  chosen.id.catch(() => {});
  current = chosen;
  find("picture-name").textContent = name;
  for (const button of find("samples").children) button.setAttribute("aria-pressed", String(button.dataset.name === name));
  onChange(chosen);
  return chosen;
}

export async function fetched(id) {
  return (await send(`/v1/images/${id}`, { accept: "image/*" })).blob();
}

async function upload(blob) {
  const type = blob.type.startsWith("image/") ? blob.type : "application/octet-stream";
  return (await read("/v1/images", { method: "POST", body: blob, type })).id;
}

function take(files, { isPasted = false } = {}) {
  const file = [...files].find((one) => one.type.startsWith("image/")) ?? files[0];
  if (file) use(file, file.name || "pasted picture", { file: isPasted ? null : file.name });
}

function sample(entry) {
  const mine = load(entry).catch(tell);
  coming = mine;

  async function load({ file }) {
    const blob = await (await send(`${SAMPLES}/${path(file)}`, { accept: "image/*" })).blob();
    if (coming === mine) use(blob, file);
  }
}

const described = (entry) => `Sample: ${entry.objects.map((one) => `${one.color} ${one.shape}, ${one.texture}`).join("; ")}`;

async function offerSamples() {
  const entries = await read(`${SAMPLES}/samples.json`);
  const buttons = entries.slice(0, SHOWN).map((entry) =>
    make(
      "button",
      { type: "button", "data-name": entry.file, "aria-pressed": "false", title: described(entry), onclick: () => sample(entry) },
      make("img", { src: `${SAMPLES}/${path(entry.file)}`, alt: described(entry), width: 48, height: 48, loading: "lazy" }),
    ),
  );
  find("samples").replaceChildren(...buttons);
}

export function begin(call) {
  onChange = call;
  const zone = find("drop");
  find("file").addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = "";
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files, { isPasted: true });
  });
  offerSamples().catch(tell);
}
