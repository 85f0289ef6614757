import { post, read } from "./api.js";
import { catalog, datasets, modelOptions } from "./catalog.js";
import { Combobox } from "./combobox.js";
import { find, make, show } from "./dom.js";
import { clear, tell } from "./notices.js";
import { channelsOf, layersOf } from "./units.js";

const RANGE_IMAGES = 4;
const IMAGE_FEATURES = 4;
const DICTIONARY = "dictionary:";

let box;
let card = null;
let dictionaries = [];
let picked = null;

const offer = (id, options) => {
  const before = find(id).value;
  find(id).replaceChildren(...options.map(({ value, text }) => make("option", { value }, text)));
  if (options.some(({ value }) => value === before)) find(id).value = before;
};

async function useModel() {
  const name = find("atlas-model").value;
  if (!name) return;
  const found = await catalog(name);
  if (find("atlas-model").value !== name) return;
  ({ card, dictionaries } = found);
  box.options = layersOf({ ...card, outputs: null }, dictionaries);
  const kept = picked && box.has(picked.value) ? picked.value : (dictionaries[0] ? DICTIONARY + dictionaries[0].name : card.layers.at(-1)?.name);
  picked = box.pickValue(kept, { quiet: true });
  estimate();
}

function features() {
  const bank = dictionaries.find((one) => picked?.value === DICTIONARY + one.name);
  if (bank) return bank.features - bank.zero - bank.not_finite;
  const layer = card?.layers.find((one) => one.name === picked?.value);
  return layer ? channelsOf(layer) : 0;
}

/* As many as the service counts at most: with one of each feature that is made again, from another random seed. */
function estimate() {
  const given = (id) => Number(find(id).value || find(id).defaultValue);
  const count = Math.min(features(), given("atlas-limit") || Infinity);
  const each = given("atlas-top") + RANGE_IMAGES;
  const most = count * (each + 1) + given("atlas-images") * IMAGE_FEATURES + 2 * given("atlas-errors");
  find("atlas-estimate").textContent = count
    ? `${count.toLocaleString()} features, each in up to ${each} images of the dataset, with the whole images and the misclassified ones: at most ${most.toLocaleString()} pictures.`
    : "";
}

function spec() {
  const given = (id) => (find(id).value === "" ? {} : { [id.slice("atlas-".length)]: Number(find(id).value) });
  const name = find("atlas-name").value.trim();
  const source = picked?.value.startsWith(DICTIONARY) ? { dictionary: picked.value.slice(DICTIONARY.length) } : { layer: picked?.value };
  return {
    model: find("atlas-model").value,
    ...source,
    dataset: find("atlas-dataset").value,
    ...(name ? { title: name } : {}),
    top_k: Number(find("atlas-top").value),
    ...given("atlas-images"),
    ...given("atlas-errors"),
    ...given("atlas-limit"),
    recipe: find("atlas-recipe").value,
  };
}

async function submit(event) {
  event.preventDefault();
  clear();
  if (!find("atlas-form").reportValidity()) return;
  find("atlas-start").disabled = true;
  try {
    const { id } = await post("/v1/atlases", spec());
    location.hash = `#/atlases/${id}`;
  } catch (problem) {
    tell(problem);
  }
  find("atlas-start").disabled = false;
}

export async function open({ dataset }) {
  const [models, found, presets] = await Promise.all([read("/v1/models"), datasets(), read("/v1/recipes")]);
  offer("atlas-model", modelOptions(models.data));
  offer("atlas-dataset", found.map((one) => ({ value: one.name, text: `${one.name}, ${one.images.toLocaleString()} images` })));
  if (!find("atlas-recipe").value) {
    offer("atlas-recipe", Object.keys(presets).map((name) => ({ value: name, text: name })));
    find("atlas-recipe").value = "natural";
  }
  if (found.some(({ name }) => name === dataset)) find("atlas-dataset").value = dataset;
  show(find("atlas-no-dataset"), found.length === 0);
  find("atlas-start").disabled = found.length === 0;
  await useModel();
}

export function begin() {
  box = new Combobox(find("atlas-features"), find("atlas-features-options"), (option) => {
    picked = option;
    estimate();
  });
  find("atlas-model").addEventListener("change", () => useModel().catch(tell));
  find("atlas-form").addEventListener("input", estimate);
  find("atlas-form").addEventListener("submit", submit);
}
