import { read } from "./api.js";
import { find, make } from "./dom.js";

const FIELDS = { steps: "steps", crops: "crops", pull: "regularization", size: "size" };

let presets = {};

const strength = () => 2 ** Number(find("strength").value);
const isSuppressed = () => new FormData(find("controls")).get("direction") === "suppress";

export async function offer() {
  presets = await read("/v1/recipes");
  const chosen = find("recipe").value;
  const names = Object.keys(presets);
  find("recipe").replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  find("recipe").value = names.includes(chosen) ? chosen : "natural";
  fill();
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
  if (!Object.keys(settings).length) return name;
  return name === "natural" ? settings : { ...different(preset), ...settings };
}

function different(preset) {
  const differs = ([field, value]) => JSON.stringify(value) !== JSON.stringify(presets.natural[field]);
  return Object.fromEntries(Object.entries(preset).filter(differs));
}

export const seed = () => Number(find("seed").value) || 0;

export const signed = (feature) => {
  if (!isSuppressed()) return feature;
  if (/[+\s]/.test(feature.replace(/^-\s*/, "")) && /\s[-+*]\s/.test(feature)) return negated(feature);
  return feature.startsWith("-") ? feature.slice(1).trim() : `-${feature}`;
};

function negated(sum) {
  const text = /^[-+]/.test(sum) ? sum : `+ ${sum}`;
  const turned = text.replace(/(^|\s)([-+])(\s|(?=[a-z\d]))/g, (_, before, sign, after) => `${before}${sign === "-" ? "+" : "-"}${after}`);
  return turned.replace(/^\+\s*/, "").replace(/^-\s+/, "-");
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
