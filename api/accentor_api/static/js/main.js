import { read } from "./api.js";
import * as atlas from "./atlas.js";
import * as atlases from "./atlases.js";
import * as batch from "./batch.js";
import * as batches from "./batches.js";
import { find, show } from "./dom.js";
import * as key from "./key.js";
import { clear, tell } from "./notices.js";
import * as library from "./library.js";
import * as recipes from "./recipes.js";
import * as start from "./start.js";
import * as studio from "./studio.js";

const HEALTH_MS = 15_000;
const PAGES = { studio, batches, batch, atlases, atlas, start, library };
const TITLES = { batches: "Batches", batch: "Batch", atlases: "Atlases", atlas: "Atlas", start: "New atlas", library: "Library" };
const PARTS = { batch: "batches", atlas: "atlases", start: "atlases" };

let current = null;

function route() {
  const [place, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parameters = Object.fromEntries(new URLSearchParams(query));
  if (place === "atlases/new") return ["start", parameters];
  const [, part, id] = /^(batch|atlas)es\/([a-z0-9]{1,40})$/.exec(place) ?? [];
  if (id) return [part, { id }];
  return [["batches", "atlases", "library"].includes(place) ? place : "studio", parameters];
}

async function turn() {
  const [name, parameters] = route();
  PAGES[current]?.close?.();
  const isFirst = current === null;
  current = name;
  clear();
  for (const page of Object.keys(PAGES)) show(find(page), page === name);
  for (const link of document.querySelectorAll("[data-page]")) {
    const isHere = link.dataset.page === (PARTS[name] ?? name);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = TITLES[name] ? `${TITLES[name]} · Accentor` : "Accentor";
  if (!isFirst) find("main").focus({ preventScroll: true });
  try {
    await PAGES[name].open(parameters);
  } catch (problem) {
    tell(problem);
  }
}

async function look() {
  try {
    const { data } = await read("/v1/models");
    const ready = data.filter((model) => model.ready).length;
    await studio.refresh(data);
    find("health").dataset.kind = ready ? "good" : "waiting";
    find("health").textContent = ready ? "ready" : "no worker is ready";
  } catch (problem) {
    find("health").dataset.kind = "bad";
    find("health").textContent = problem.status === 401 ? "needs a key" : "not answering";
  }
}

async function load() {
  await Promise.all([recipes.offer().catch(tell), look()]);
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  find("main").focus();
});
key.begin();
for (const page of Object.values(PAGES)) page.begin();
key.onChange(async () => {
  await load();
  turn();
});
await load();
addEventListener("hashchange", turn);
await turn();
setInterval(() => {
  if (!document.hidden) look();
}, HEALTH_MS);
