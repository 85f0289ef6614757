import { path, read } from "./api.js";
import { Combobox } from "./combobox.js";
import { find, make } from "./dom.js";
import { tell } from "./notices.js";

const LOGITS = "logits";
const FIRST = "stripes";
const PLAIN = /^[A-Za-z][A-Za-z ]*$/;

let card = null;
let layerBox;
let unitBox;
let layer = LOGITS;
let offered = "";

export const model = () => find("model").value;
export const written = () => find("feature").value.trim();

export function write(text) {
  find("feature").value = text;
  const [, kind, where] = /^(logit|channel):(?:(.+):)?[^:]+$/.exec(text) ?? [];
  const wanted = kind === "logit" ? LOGITS : where;
  if (!wanted || !layerBox.has(wanted)) {
    unitBox.pick(null);
    return;
  }
  layerBox.pickValue(wanted, { quiet: true });
  useUnits(wanted);
  unitBox.pickValue(text, { quiet: true });
}

export async function offerModels(models) {
  const chosen = model();
  const now = JSON.stringify(models);
  if (now === offered) return;
  offered = now;
  find("model").replaceChildren(
    ...models.map((one) => make("option", { value: one.name }, one.ready ? one.name : `${one.name} (waits for a worker)`)),
  );
  if (models.some((one) => one.name === chosen)) find("model").value = chosen;
  if (models.length && card?.name !== model()) await useModel();
}

export async function setModel(name) {
  if (model() === name && card?.name === name) return;
  find("model").value = name;
  await useModel();
}

async function useModel() {
  card = await read(`/v1/models/${path(model())}`);
  const layers = card.layers.map((one) => ({ value: one.name, label: one.name, detail: `${one.type}, ${one.shape.join("×")}` }));
  const logits = card.outputs === null ? [] : [{ value: LOGITS, label: LOGITS, detail: `the ${card.outputs} outputs` }];
  layerBox.options = [...logits, ...layers];
  layer = (logits[0] ?? layers[0]).value;
  layerBox.pickValue(layer);
}

function useLayer(option) {
  const units = useUnits(option.value);
  unitBox.pick(units.find((unit) => unit.label === FIRST) ?? units[0]);
}

function useUnits(name) {
  layer = name;
  find("unit-label").textContent = layer === LOGITS && card.labels ? "Label" : "Unit";
  const units = layer === LOGITS ? logits() : channels();
  unitBox.options = units;
  return units;
}

function logits() {
  const count = new Map();
  for (const label of card.labels ?? []) count.set(label.toLowerCase(), (count.get(label.toLowerCase()) ?? 0) + 1);
  return Array.from({ length: card.outputs }, (_, index) => {
    const label = card.labels?.[index];
    const isNamed = label && PLAIN.test(label) && count.get(label.toLowerCase()) === 1;
    return { value: `logit:${isNamed ? label : index}`, other: `logit:${index}`, label: label ?? String(index), detail: label ? `logit ${index}` : "" };
  });
}

function channels() {
  const shown = card.layers.find((one) => one.name === layer);
  const width = shown.layout === "CHW" ? shown.shape[0] : shown.shape.at(-1);
  return Array.from({ length: width }, (_, index) => ({ value: `channel:${layer}:${index}`, label: String(index), detail: `channel of ${layer}` }));
}

export function begin() {
  layerBox = new Combobox(find("layer"), find("layer-options"), useLayer);
  unitBox = new Combobox(find("unit"), find("unit-options"), (option) => {
    find("feature").value = option.value;
  });
  find("model").addEventListener("change", () => useModel().catch(tell));
  find("feature").addEventListener("input", () => unitBox.pick(null));
}
