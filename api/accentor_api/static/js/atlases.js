import { read } from "./api.js";
import { ago, duration, find, make, replaceRows, show, words } from "./dom.js";
import { ENDED } from "./follow.js";
import { tell } from "./notices.js";
import { polled } from "./polling.js";
import { told } from "./steps.js";

const PAGE = 25;
const LARGEST_PAGE = 1000;

let wanted = PAGE;

function row(atlas) {
  const step = atlas.steps.find((one) => one.name === atlas.step);
  const isOver = ENDED.has(atlas.state);
  return make(
    "tr",
    {},
    make("td", { class: "long" }, make("a", { href: `#/atlases/${atlas.id}` }, atlas.title)),
    make("td", { class: "wide" }, atlas.spec.model),
    make("td", {}, make("span", { class: "state", "data-kind": atlas.state }, words(atlas.state))),
    make("td", { class: "wide" }, isOver ? "" : told(step)),
    make("td", { class: "number wide" }, isOver ? "" : duration(step.eta_s)),
    make("td", { class: "number wide" }, ago(atlas.created_at)),
    make("td", {}, atlas.site?.url ? make("a", { href: atlas.site.url, target: "_blank", rel: "noreferrer", "aria-label": `Open the site of ${atlas.title}` }, "Open") : ""),
  );
}

async function draw() {
  const page = await read(`/v1/atlases?limit=${wanted}`);
  replaceRows(find("atlas-rows"), page.data.map(row));
  show(find("atlases-empty"), page.data.length === 0);
  show(find("atlases-table"), page.data.length > 0);
  show(find("atlases-more"), page.next_cursor !== null && wanted < LARGEST_PAGE);
}

const list = polled(draw);

export function open() {
  wanted = PAGE;
  return list.open();
}

export const { close } = list;

export function begin() {
  find("atlases-more").addEventListener("click", () => {
    wanted = Math.min(wanted * 2, LARGEST_PAGE);
    draw().catch(tell);
  });
}
