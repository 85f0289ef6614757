import { read } from "./api.js";
import * as batch from "./batch.js";
import * as batches from "./batches.js";
import { find, show } from "./dom.js";
import * as key from "./key.js";
import { clear, tell } from "./notices.js";
import * as recipes from "./recipes.js";
import * as studio from "./studio.js";

const HEALTH_MS = 15_000;
const PAGES = { studio, batches, batch };
const TITLES = { studio: "Accentor", batches: "Batches · Accentor", batch: "Batch · Accentor" };

let current = null;

function route() {
  const [place, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parameters = Object.fromEntries(new URLSearchParams(query));
  const [, id] = /^batches\/([a-z0-9]{1,40})$/.exec(place) ?? [];
  if (id) return ["batch", { batch: id }];
  return [place === "batches" ? "batches" : "studio", parameters];
}

async function turn() {
  if (location.hash === "#main") return;
  const [name, parameters] = route();
  PAGES[current]?.close?.();
  const isFirst = current === null;
  current = name;
  clear();
  for (const page of Object.keys(PAGES)) show(find(page), page === name);
  for (const link of document.querySelectorAll("[data-page]")) {
    const isHere = link.dataset.page === (name === "batch" ? "batches" : name);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = TITLES[name];
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

async function offerAtlases() {
  const { paths } = await read("/openapi.json");
  if (!("/v1/atlases" in paths)) return;
  find("atlases").href = "/v1/atlases";
  show(find("atlases"));
}

async function load() {
  await Promise.all([recipes.offer().catch(tell), look()]);
}

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
offerAtlases().catch(() => {});
