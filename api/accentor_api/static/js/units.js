import { path, read } from "./api.js";

export const LOGITS = "logits";

const DICTIONARY = "dictionary:";
const PLAIN = /^[A-Za-z][A-Za-z ]*$/;
const FOUND = 100;

export function layersOf(card, dictionaries) {
  const logits = card.outputs === null ? [] : [{ value: LOGITS, label: LOGITS, detail: `the ${card.outputs} outputs` }];
  const layers = card.layers.map((one) => ({ value: one.name, label: one.name, detail: `${one.type}, ${one.shape.join("×")}` }));
  const banks = dictionaries.map((one) => ({
    value: DICTIONARY + one.name,
    other: DICTIONARY + reference(one),
    label: one.name,
    detail: `dictionary of ${one.layer}, ${one.features.toLocaleString()} features`,
  }));
  return [...logits, ...banks, ...layers];
}

export function unitsOf(card, dictionaries, name) {
  if (name === LOGITS) return { title: card.labels ? "Label" : "Unit", options: logits(card) };
  const bank = dictionaries.find((one) => name === DICTIONARY + one.name);
  if (!bank) return { title: "Unit", options: channels(card.layers.find((one) => one.name === name)) };
  return { title: bank.labeled ? "Label or index" : "Feature", options: entries(bank), search: bank.labeled ? labelled(bank) : null };
}

export const channelsOf = ({ layout, shape }) => (layout === "CHW" ? shape[0] : shape.at(-1));

export const atlasOf = (card, atlases, dictionaries, name) => {
  const bank = dictionaries.find((one) => name === DICTIONARY + one.name);
  const layer = name === LOGITS ? outputLayer(card) : name;
  return atlases.find(({ spec }) => (bank ? spec.dictionary === reference(bank) : spec.layer === layer)) ?? null;
};

export function layerOf(feature) {
  if (/^logit:[^:]+$/.test(feature)) return LOGITS;
  return /^channel:(.+):\d+$/.exec(feature)?.[1] ?? /^(dictionary:.+)#\d+$/.exec(feature)?.[1] ?? null;
}

function outputLayer({ layers, outputs }) {
  const last = layers.at(-1);
  return last && channelsOf(last) === outputs ? last.name : LOGITS;
}

const reference = ({ name, version }) => `${name}@${version}`;

function logits({ labels, outputs }) {
  const count = new Map();
  for (const label of labels ?? []) count.set(label.toLowerCase(), (count.get(label.toLowerCase()) ?? 0) + 1);
  return Array.from({ length: outputs }, (_, index) => {
    const label = labels?.[index];
    const isNamed = label && PLAIN.test(label) && count.get(label.toLowerCase()) === 1;
    return { index, value: `logit:${isNamed ? label : index}`, other: `logit:${index}`, label: label ?? String(index), detail: label ? `logit ${index}` : "" };
  });
}

function channels(layer) {
  const { name } = layer;
  return Array.from({ length: channelsOf(layer) }, (_, index) => ({ index, value: `channel:${name}:${index}`, label: String(index), detail: `channel of ${name}` }));
}

function entries(bank) {
  const dead = new Set(bank.dead_features);
  const entry = (_, index) => ({ ...named(bank, index), label: String(index), detail: `feature of ${bank.name}` });
  return Array.from({ length: bank.features }, entry).filter((_, index) => !dead.has(index));
}

const named = (bank, index) => ({ index, value: `${DICTIONARY}${bank.name}#${index}`, other: `${DICTIONARY}${reference(bank)}#${index}` });

const labelled = (bank) => async (text) => {
  const query = new URLSearchParams({ search: text, limit: FOUND });
  const { data } = await read(`/v1/dictionaries/${path(reference(bank))}/features?${query}`);
  const usable = data.filter(({ state }) => state === "ok" || state === "duplicate");
  return usable.map(({ index, label }) => ({ ...named(bank, index), label, detail: `feature ${index}` }));
};
