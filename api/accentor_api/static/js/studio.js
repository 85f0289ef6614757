import { Problem, post, read } from "./api.js";
import { find, make, show } from "./dom.js";
import * as features from "./features.js";
import { ENDED, follow } from "./follow.js";
import { negated, parsed, spoken, title } from "./forms.js";
import { advice, clear, tell } from "./notices.js";
import * as picture from "./picture.js";
import * as readings from "./readings.js";
import * as recipes from "./recipes.js";
import * as shelf from "./shelf.js";
import { writers } from "./snippets.js";
import * as stage from "./stage.js";
import { thumbnail } from "./thumbnail.js";

const ARTEFACTS = { "accentuated.png": "picture", "overlay.png": "overlay", "opacity.png": "opacity map" };
const COPIED_MS = 1_500;

let run = null;
let asked = null;

const say = (text) => {
  find("state").textContent = text;
};

function rest() {
  run?.stop.abort();
  run = null;
  busy(false);
  readings.clear();
  show(find("actions"), false);
  say("");
}

function busy(isBusy) {
  find("run").disabled = isBusy;
  show(find("cancel"), isBusy);
}

function onPicture(chosen) {
  rest();
  stage.setSeed(chosen.url);
}

async function submit() {
  busy(true);
  const mine = (asked = {});
  const chosen = await picture.picture();
  if (asked !== mine) return;
  if (!chosen) throw new Problem({ code: "no-picture", detail: "choose a picture first, or one of the samples" });
  if (!features.written()) throw new Problem({ code: "no-feature", detail: "pick a feature first, or write one" });
  rest();
  clear();
  stage.clear();
  busy(true);
  find("stage").scrollIntoView({ block: "nearest" });
  say("Sending…");
  const current = (run = { stop: new AbortController(), job: null, name: chosen.name, file: chosen.file, blob: chosen.blob, spec: null });
  const image = await chosen.id;
  if (run !== current) return;
  const spec = {
    model: features.model(),
    feature: parsed(recipes.signed(features.written())),
    image,
    ...(recipes.seed() ? { seed: recipes.seed() } : {}),
    recipe: recipes.recipe(),
  };
  current.spec = spec;
  const job = await post("/v1/jobs", spec);
  if (current.canceled && !ENDED.has(job.state)) await post(`/v1/jobs/${job.id}/cancel`);
  if (run !== current) return;
  current.job = job;
  await watch(current);
}

async function watch(current) {
  if (shown(current, current.job)) return;
  for await (const status of follow(`/v1/jobs/${current.job.id}/events`, current.stop.signal)) {
    if (run !== current || shown(current, status)) return;
  }
  if (run === current) shown(current, await read(`/v1/jobs/${current.job.id}`));
}

function shown(current, status) {
  current.job = status;
  if (!ENDED.has(status.state)) {
    say(status.state === "running" ? "Developing…" : "Queued: waiting for a worker…");
    if (status.progress) readings.progress(status.progress);
    if (status.progress?.preview) stage.preview(status.progress.preview);
    return false;
  }
  busy(false);
  show(find("progress"), false);
  if (status.state === "succeeded") finish(current, status);
  else if (status.state === "failed") say(`Failed: ${status.failure.detail}. ${advice(status.failure.code)}`);
  else say("Canceled.");
  return true;
}

function finish(current, status) {
  const { result, urls } = status;
  const feature = title(spoken(current.spec.feature));
  stage.result(status, current.blob, feature);
  readings.result(result);
  say(`${feature} in ${current.name}`);
  find("keep").textContent = shelf.has(current.spec) ? "Kept" : "Keep";
  const links = Object.entries(ARTEFACTS).filter(([name]) => urls[name]);
  find("downloads").replaceChildren(
    make("span", { class: "hint" }, "Open"),
    ...links.map(([name, text]) => make("a", { href: urls[name], target: "_blank", rel: "noreferrer" }, text)),
  );
  show(find("actions"));
}

function keep() {
  const { job, spec, name } = run;
  const { before, after } = job.result;
  shelf.keep({ id: job.id, name, ...spec, before, after, thumb: thumbnail(find("result-image")) });
  find("keep").textContent = "Kept";
}

async function copy(button) {
  const text = writers[button.dataset.copy](run.spec, run);
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    const area = make("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "Copied" : "Not allowed";
    area.remove();
  }
  setTimeout(() => {
    button.textContent = label;
  }, COPIED_MS);
}

async function cancel() {
  asked = null;
  if (run?.job && !ENDED.has(run.job.state)) return void (await post(`/v1/jobs/${run.job.id}/cancel`));
  if (run) run.canceled = true;
  rest();
}

function write(text) {
  const raised = text.startsWith("-") ? negated(text) : text;
  const isSuppressed = raised !== text && features.offers(raised);
  features.write(isSuppressed ? raised : text);
  recipes.direct(isSuppressed);
}

async function reopen({ id, name, model, feature, image, seed, recipe }) {
  const [job, blob] = await Promise.all([read(`/v1/jobs/${id}`), picture.fetched(image)]);
  const spec = { model, feature, image, ...(seed ? { seed } : {}), recipe };
  picture.use(blob, name ?? `picture ${image.slice(0, 8)}`, { id: image });
  const current = (run = { stop: new AbortController(), job, name: name ?? `picture ${image.slice(0, 8)}`, blob, spec });
  await features.setModel(model);
  recipes.set(recipe, seed);
  write(spoken(feature));
  find("stage").scrollIntoView({ block: "nearest" });
  await watch(current);
}

export async function open({ job, ...wanted }) {
  await features.renew();
  if (wanted.feature) {
    if (wanted.model) await features.setModel(wanted.model);
    write(wanted.feature);
  }
  if (!job) return;
  const status = await read(`/v1/jobs/${job}`);
  const { model, feature, image, seed } = status.spec;
  await reopen({ id: job, model, feature: parsed(spoken(feature)), image, seed, recipe: recipes.short(status.spec.recipe) });
}

export const refresh = (models) => features.offerModels(models);

export async function begin() {
  const guarded = (call) => (...given) =>
    Promise.resolve()
      .then(() => call(...given))
      .catch((problem) => {
        if (!(problem instanceof Problem)) throw problem;
        tell(problem);
        busy(false);
        say("");
      });
  stage.begin();
  recipes.begin();
  features.begin();
  picture.begin(onPicture);
  shelf.begin(guarded(reopen));
  find("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(submit)();
  });
  find("cancel").addEventListener("click", guarded(cancel));
  find("keep").addEventListener("click", keep);
  find("actions").addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
}
