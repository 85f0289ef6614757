import { path, read } from "./api.js";

const ALL = 1000;
const NEWEST_ATLASES = 100;

export async function catalog(model) {
  const [card, banks, atlases] = await Promise.all([
    read(`/v1/models/${path(model)}`),
    read(`/v1/dictionaries?${new URLSearchParams({ model, limit: ALL })}`),
    read(`/v1/atlases?limit=${NEWEST_ATLASES}`),
  ]);
  return {
    card,
    dictionaries: banks.data.filter((bank) => bank.model_digest === card.digest),
    atlases: atlases.data.filter(({ site, spec }) => site?.url && spec.model === model),
  };
}

export const datasets = async () => (await read(`/v1/datasets?limit=${ALL}`)).data;

export const modelOptions = (models) =>
  models.map((one) => ({ value: one.name, text: one.ready ? one.name : `${one.name} (waits for a worker)` }));
