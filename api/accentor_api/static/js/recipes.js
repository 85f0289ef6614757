import { read } from "./api.js";
import { find, make } from "./dom.js";
import { negated } from "./forms.js";

const FIELDS = { steps: "steps", crops: "crops", pull: "regularization", size: "size" };

const SHOWN = new Set(Object.values(FIELDS));
const OPENED = "as opened";

let presets = {};

const strength = () => 2 ** Number(find("strength").value);
const isSuppressed = () => new FormData(find("controls")).get("direction") === "suppress";

export async function offer() {
  presets = await read("/v1/recipes");
  const chosen = find("recipe").value;
  list(chosen in presets ? chosen : "natural");
  fill();
}

function list(chosen) {
  find("recipe").replaceChildren(...Object.keys(presets).map((name) => make("option", { value: name }, name)));
  find("recipe").value = chosen;
}

function fill() {
  const preset = presets[find("recipe").value];
  for (const [id, field] of Object.entries(FIELDS)) find(id).value = preset[field] ?? "";
}

export function recipe() {
  const name = find("recipe").value;
  const preset = presets[name];
  const changed = Object.entries(FIELDS)
    .filter(([id]) => find(id).value !== "")
    .map(([id, field]) => [field, Number(find(id).value)])
    .filter(([field, value]) => value !== preset[field]);
  const settings = Object.fromEntries(changed);
  if (strength() !== 1) settings.steps = Math.max(1, Math.round((settings.steps ?? preset.steps) * strength()));
  if (!Object.keys(settings).length && name !== OPENED) return name;
  return name === "natural" ? settings : { ...different(preset), ...settings };
}

function different(preset) {
  return Object.fromEntries(Object.entries(preset).filter(([field, value]) => !equal(value, presets.natural[field])));
}

const equal = (one, other) => JSON.stringify(one) === JSON.stringify(other);

export const seed = () => Number(find("seed").value) || 0;

export const signed = (feature) => (isSuppressed() ? negated(feature) : feature);

export function short(full) {
  const name = Object.keys(presets).find((one) => equal(presets[one], full));
  return name ?? different(full);
}

export function set(given, random) {
  const full = typeof given === "string" ? presets[given] : { ...presets.natural, ...given };
  const same = (preset) => Object.keys(full).every((field) => SHOWN.has(field) || equal(full[field], preset[field]));
  const name = Object.keys(presets).find((one) => same(presets[one])) ?? OPENED;
  if (name === OPENED) presets[OPENED] = full;
  list(name);
  for (const [id, field] of Object.entries(FIELDS)) find(id).value = full[field] ?? "";
  find("seed").value = random ?? 0;
  find("strength").value = 0;
  direct(false);
}

export function direct(isSuppressed) {
  find("controls").elements.direction.value = isSuppressed ? "suppress" : "raise";
  find("controls").dispatchEvent(new Event("input"));
}

export function begin() {
  const tellStrength = () => {
    const verb = isSuppressed() ? "Suppress" : "Accentuate";
    find("strength-shown").textContent = `${Number(strength().toFixed(2))}×`;
    find("strength").setAttribute("aria-valuetext", `${Number(strength().toFixed(2))} times the steps of the recipe`);
    find("run").textContent = verb;
  };
  find("recipe").addEventListener("change", fill);
  find("controls").addEventListener("input", tellStrength);
  tellStrength();
}
