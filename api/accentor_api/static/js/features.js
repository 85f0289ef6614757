import { path, read } from "./api.js";
import { Combobox } from "./combobox.js";
import { find, make } from "./dom.js";
import { tell } from "./notices.js";
import { layerOf, layersOf, unitsOf } from "./units.js";

const FIRST = "stripes";
const BANKS = 1000;

let card = null;
let layerBox;
let unitBox;
let dictionaries = [];
let offered = "";

export const model = () => find("model").value;
export const written = () => find("feature").value.trim();

export function write(text) {
  find("feature").value = text;
  const layer = layerOf(text);
  if (layer === null || !layerBox.has(layer)) {
    unitBox.pick(null);
    return;
  }
  useUnits(layerBox.pickValue(layer, { quiet: true }).value);
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
  const name = model();
  const [found, banks] = await Promise.all([read(`/v1/models/${path(name)}`), read(`/v1/dictionaries?${new URLSearchParams({ model: name, limit: BANKS })}`)]);
  if (model() !== name) return;
  card = found;
  dictionaries = banks.data.filter((bank) => bank.model_digest === card.digest);
  const layers = layersOf(card, dictionaries);
  layerBox.options = layers;
  layerBox.pick(layers[0]);
}

function useLayer(option) {
  const units = useUnits(option.value);
  unitBox.pick(units.find((unit) => unit.label === FIRST) ?? units[0]);
}

function useUnits(layer) {
  const { title, options, search = null } = unitsOf(card, dictionaries, layer);
  find("unit-label").textContent = title;
  unitBox.options = options;
  unitBox.search = search;
  return options;
}

export function begin() {
  layerBox = new Combobox(find("layer"), find("layer-options"), useLayer);
  unitBox = new Combobox(find("unit"), find("unit-options"), (option) => {
    find("feature").value = option.value;
  });
  find("model").addEventListener("change", () => useModel().catch(tell));
  find("feature").addEventListener("input", () => unitBox.pick(null));
}
