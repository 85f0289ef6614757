import { catalog, modelOptions } from "./catalog.js";
import { Combobox } from "./combobox.js";
import { find, make, show } from "./dom.js";
import { tell } from "./notices.js";
import { tile, tilesOf } from "./tiles.js";
import { atlasOf, layerOf, layersOf, unitsOf } from "./units.js";

const FIRST = "stripes";
const FRESH_MS = 5_000;

let known = null;
let learned = -Infinity;
let layerBox;
let unitBox;
let atlas = null;
let tiles = new Map();
let offered = "";

export const model = () => find("model").value;
export const written = () => find("feature").value.trim();

export function offers(text) {
  const layer = layerOf(text);
  return layer !== null && layerBox.has(layer);
}

export function write(text) {
  find("feature").value = text;
  if (!offers(text)) {
    unitBox.pick(null);
    see(null);
    return;
  }
  useUnits(layerBox.pickValue(layerOf(text), { quiet: true }).value);
  see(unitBox.pickValue(text, { quiet: true }));
}

export async function offerModels(models) {
  const chosen = model();
  const now = JSON.stringify(models);
  if (now === offered) return;
  offered = now;
  find("model").replaceChildren(...modelOptions(models).map(({ value, text }) => make("option", { value }, text)));
  if (models.some((one) => one.name === chosen)) find("model").value = chosen;
  if (models.length && known?.card.name !== model()) await useModel();
}

export async function setModel(name) {
  if (model() === name && known?.card.name === name) return;
  find("model").value = name;
  await useModel();
}

export async function renew() {
  if (!known || performance.now() - learned < FRESH_MS || !(await learn())) return;
  if (layerBox.picked && layerBox.has(layerBox.picked.value)) useUnits(layerBox.picked.value);
}

async function learn() {
  const name = model();
  const found = await catalog(name);
  if (model() !== name) return false;
  known = found;
  learned = performance.now();
  layerBox.options = layersOf(known.card, known.dictionaries);
  return true;
}

async function useModel() {
  if (!(await learn())) return;
  layerBox.pick(layersOf(known.card, known.dictionaries)[0]);
}

function useLayer(option) {
  const units = useUnits(option.value);
  unitBox.pick(units.find((unit) => unit.label === FIRST) ?? units[0]);
}

function useUnits(layer) {
  const { title, options, search = null } = unitsOf(known.card, known.dictionaries, layer);
  find("unit-label").textContent = title;
  unitBox.options = options;
  unitBox.search = search;
  useTiles(layer);
  return options;
}

async function useTiles(layer) {
  const mine = (atlas = atlasOf(known.card, known.atlases, known.dictionaries, layer));
  tiles = new Map();
  if (!mine) return;
  const found = await tilesOf(mine);
  if (atlas !== mine) return;
  tiles = found;
  unitBox.redraw();
  see(unitBox.picked);
}

function see(option) {
  const found = option && tiles.get(option.index);
  show(find("seen"), Boolean(found));
  if (!found) return;
  const href = `${atlas.site.url}#/feature/${option.index}`;
  find("seen").replaceChildren(tile(found), make("a", { href, target: "_blank", rel: "noreferrer" }, `In the atlas ${atlas.title}`));
}

export function begin() {
  layerBox = new Combobox(find("layer"), find("layer-options"), useLayer);
  unitBox = new Combobox(find("unit"), find("unit-options"), (option) => {
    find("feature").value = option.value;
    see(option);
  });
  unitBox.picture = ({ index }) => (tiles.has(index) ? tile(tiles.get(index)) : null);
  find("model").addEventListener("change", () => useModel().catch(tell));
  find("feature").addEventListener("input", () => {
    unitBox.pick(null);
    see(null);
  });
}
