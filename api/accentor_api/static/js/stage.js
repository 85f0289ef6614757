import { find, make, show } from "./dom.js";

const TAGS = { compare: "accentuated", where: "where", opacity: "opacity map", difference: "difference ×4" };

let seedOnCanvas = "";

const plate = () => find("plate");

export function setSeed(url) {
  clear();
  put("seed-image", url, "The seed picture");
  show(find("invitation"), false);
  show(plate());
  state("seed");
}

export function clear() {
  for (const id of ["result-image", "overlay-image", "opacity-image"]) {
    find(id).removeAttribute("src");
    show(find(id), false);
  }
  show(find("split"), false);
  show(find("views"), false);
  view("compare");
  state("seed");
}

export function preview(url) {
  put("result-image", url, "The picture as it is now");
  show(find("split"));
  state("live");
  tag();
}

export function result({ urls, result: size }, seed, description) {
  put("result-image", urls["accentuated.png"], `Accentuated: ${description}`);
  put("overlay-image", urls["overlay.png"], `Where, by opacity: ${description}`);
  put("opacity-image", urls["opacity.png"], `Opacity map: ${description}`);
  show(find("split"));
  show(find("views"));
  state("done");
  view(find("stage").dataset.view);
  alike(seed, size, urls).catch(() => {});
}

async function alike(seed, { width, height }, urls) {
  const bitmap = await createImageBitmap(seed, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve));
  if (find("result-image").getAttribute("src") !== urls["accentuated.png"]) return;
  URL.revokeObjectURL(seedOnCanvas);
  seedOnCanvas = URL.createObjectURL(blob);
  put("seed-image", seedOnCanvas, "The seed picture");
}

export function view(name) {
  find("stage").dataset.view = name;
  tag();
  const radio = find("views").querySelector(`[value=${name}]`);
  radio.checked = true;
  find("split").setAttribute("aria-label", name === "where" ? "How much of the seed shows through" : `Seed on the left, ${TAGS[name]} on the right`);
}

function put(id, url, text) {
  const node = find(id);
  if (!url) return;
  node.src = url;
  node.alt = text;
  show(node);
}

function state(name) {
  find("stage").dataset.state = name;
}

function tag() {
  const { view: name, state: stage } = find("stage").dataset;
  const faded = name === "where" ? `, the seed at ${Math.round(find("split").value)} %` : "";
  find("right-tag").textContent = stage === "live" ? "developing" : `${TAGS[name]}${faded}`;
}

function setSplit() {
  tag();
  plate().style.setProperty("--split", `${find("split").value}%`);
  plate().style.setProperty("--share", find("split").value / 100);
}

export function begin() {
  find("split").addEventListener("input", setSplit);
  find("views").addEventListener("change", (event) => view(event.target.value));
  find("seed-image").addEventListener("load", (event) => {
    const { naturalWidth, naturalHeight } = event.target;
    plate().style.setProperty("--aspect", naturalWidth / naturalHeight);
  });
  setSplit();
}
