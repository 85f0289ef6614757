import { post, read, send } from "./api.js";
import { ago, find, make, pairs, show, words } from "./dom.js";
import { ENDED } from "./follow.js";
import { advice, clear, tell } from "./notices.js";
import { polled } from "./polling.js";
import { line } from "./steps.js";

const GAPS = 20;

let id = null;

function draw(atlas) {
  const { state, spec, steps, step, failure, site } = atlas;
  const isOver = ENDED.has(state);
  find("atlas-title").textContent = atlas.title;
  find("atlas-state").textContent = failure ? `${words(state)}: ${failure.detail}. ${advice(failure.code)}` : words(state);
  find("atlas-state").dataset.kind = state;
  find("atlas-steps").replaceChildren(...steps.map((one) => line(one, one.name === step && !isOver)));
  find("atlas-figures").replaceChildren(
    ...pairs({
      model: spec.model,
      [spec.layer ? "layer" : "dictionary"]: spec.layer ?? short(spec.dictionary),
      dataset: short(spec.dataset),
      ...(site ? counts(site) : {}),
      "top images": spec.top_k,
      submitted: ago(atlas.created_at),
      ...spec.metadata,
    }),
  );
  show(find("atlas-cancel"), !isOver && state !== "canceling");
  show(find("atlas-delete"), isOver);
  show(find("atlas-open"), Boolean(site?.url));
  if (site?.url) publish(atlas);
  gaps(site?.gaps ?? []);
  show(find("atlas-body"));
}

function publish({ site, title }) {
  find("atlas-open").href = find("atlas-cover").href = site.url;
  const sheet = new URL("thumbnails/features/0.webp", new URL(site.url, location.href)).href;
  const image = find("atlas-sheet");
  if (image.src !== sheet) image.src = sheet;
  image.alt = `Thumbnails of ${title}: open the site`;
}

function gaps(found) {
  show(find("atlas-gaps-part"), found.length > 0);
  const rest = found.length - GAPS;
  find("atlas-gaps").replaceChildren(
    ...found.slice(0, GAPS).map((text) => make("li", {}, text)),
    ...(rest > 0 ? [make("li", {}, `and ${rest.toLocaleString()} more, which the site tells`)] : []),
  );
}

function counts({ features, images, pictures, failures }) {
  return {
    features: features.toLocaleString(),
    images: images.toLocaleString(),
    pictures: pictures.toLocaleString(),
    ...(failures ? { "not made": failures.toLocaleString() } : {}),
  };
}

const short = (reference) => reference.split("@")[0];

const watch = polled(async () => {
  const mine = id;
  const atlas = await read(`/v1/atlases/${mine}`);
  if (mine !== id) return;
  draw(atlas);
  if (ENDED.has(atlas.state)) watch.close();
});

export function open(given) {
  id = given.id;
  find("atlas-title").textContent = "";
  show(find("atlas-body"), false);
  show(find("atlas-cover"), false);
  find("atlas-sheet").removeAttribute("src");
  return watch.open();
}

export const { close } = watch;

export function begin() {
  find("atlas-sheet").addEventListener("load", () => show(find("atlas-cover")));
  const guarded = (call) => async ({ target }) => {
    target.disabled = true;
    clear();
    await call().catch(tell);
    target.disabled = false;
  };
  find("atlas-cancel").addEventListener(
    "click",
    guarded(async () => {
      draw(await post(`/v1/atlases/${id}/cancel`));
      await watch.open();
    }),
  );
  find("atlas-delete").addEventListener(
    "click",
    guarded(async () => {
      if (!confirm("Delete this atlas and its site? Its pictures stay for whoever asks for the same again.")) return;
      await send(`/v1/atlases/${id}`, { method: "DELETE" });
      location.hash = "#/atlases";
    }),
  );
}
