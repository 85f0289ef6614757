import { ago, duration, make, words } from "./dom.js";
import { ENDED } from "./follow.js";
import { listing } from "./listing.js";
import { told } from "./steps.js";

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

export const { open, close, begin } = listing("/v1/atlases", { rows: "atlas-rows", empty: "atlases-empty", table: "atlases-table", more: "atlases-more" }, row);
