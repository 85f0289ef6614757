import { read } from "./api.js";
import { datasets } from "./catalog.js";
import { ago, find, make, replaceRows, show } from "./dom.js";
import { gather, members } from "./gathering.js";
import { clear, tell } from "./notices.js";

const ALL = 1000;
const MEGABYTE = 1e6;

const count = (value) => (value ? value.toLocaleString() : "");
const query = (values) => new URLSearchParams(values);

function bank(one) {
  const href = `#/?${query({ model: one.model, feature: `dictionary:${one.name}#0` })}`;
  return make(
    "tr",
    {},
    make("td", { class: "long", title: one.description }, make("a", { href }, one.name)),
    make("td", { class: "wide" }, one.model),
    make("td", { class: "long" }, one.layer),
    make("td", { class: "wide" }, one.kind),
    make("td", { class: "number" }, one.features.toLocaleString()),
    make("td", { class: "number wide" }, count(one.zero + one.not_finite)),
    make("td", { class: "number wide" }, count(one.duplicates)),
    make("td", { class: "number wide" }, ago(one.created_at)),
  );
}

function set(one) {
  return make(
    "tr",
    {},
    make("td", { class: "long", title: one.description }, one.name),
    make("td", { class: "number" }, one.images.toLocaleString()),
    make("td", { class: "number wide" }, `${Math.ceil(one.bytes / MEGABYTE).toLocaleString()} MB`),
    make("td", { class: "number wide" }, count(Object.keys(one.classes).length)),
    make("td", { class: "number wide" }, count(one.skipped)),
    make("td", { class: "number wide" }, count(one.duplicates)),
    make("td", { class: "number wide" }, ago(one.created_at)),
    make("td", { class: "number" }, make("a", { href: `#/atlases/new?${query({ dataset: one.name })}`, "aria-label": `New atlas of ${one.name}` }, "New atlas")),
  );
}

function list(name, rows) {
  replaceRows(find(`${name}-rows`), rows);
  show(find(`${name}-table`), rows.length > 0);
  show(find(`${name}-empty`), rows.length === 0);
}

export async function open() {
  const [banks, sets] = await Promise.all([read(`/v1/dictionaries?limit=${ALL}`), datasets()]);
  list("banks", banks.data.map(bank));
  list("sets", sets.map(set));
}

async function submit(event) {
  event.preventDefault();
  clear();
  const found = members(find("set-files").files);
  if (!found.length) {
    tell({ message: "there are no pictures among what was chosen" });
    return;
  }
  const bar = find("set-progress");
  Object.assign(bar, { max: found.length, value: 0 });
  show(bar);
  find("set-make").disabled = true;
  try {
    const card = await gather(find("set-name").value.trim(), found, (done) => {
      bar.value = done;
      find("set-state").textContent = `${done.toLocaleString()} of ${found.length.toLocaleString()} sent`;
    });
    find("set-state").textContent = `${card.name}: ${card.images.toLocaleString()} images${card.skipped ? `, ${card.skipped.toLocaleString()} left out` : ""}${card.duplicates ? `, ${card.duplicates.toLocaleString()} twice` : ""}.`;
    event.target.reset();
    await open();
  } catch (problem) {
    find("set-state").textContent = "";
    tell(problem);
  }
  show(bar, false);
  find("set-make").disabled = false;
}

export function begin() {
  find("set-form").addEventListener("submit", submit);
}
