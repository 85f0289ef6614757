import { send } from "./api.js";
import { make } from "./dom.js";

const ACROSS = 8;
const PER_SHEET = ACROSS * ACROSS;

const sites = new Map();

export function tilesOf(atlas) {
  const base = new URL(".", new URL(atlas.site.url, location.href)).href;
  if (!sites.has(base)) sites.set(base, read(base).catch(() => new Map()));
  return sites.get(base);
}

async function read(base) {
  const text = await (await send(`${base}data/map.js`, { accept: "*/*" })).text();
  const { index, index_bytes: size } = JSON.parse(text.slice(text.indexOf(",") + 1, text.lastIndexOf(")")));
  const view = new DataView(Uint8Array.from(atob(index), (letter) => letter.charCodeAt(0)).buffer);
  const tiles = new Map();
  for (let slot = 0; slot < view.byteLength / size; slot += 1) {
    const feature = size === 2 ? view.getUint16(slot * size, true) : view.getUint32(slot * size, true);
    const [sheet, place] = [Math.floor(slot / PER_SHEET), slot % PER_SHEET];
    tiles.set(feature, { url: `${base}thumbnails/features/${sheet}.webp`, column: place % ACROSS, row: Math.floor(place / ACROSS) });
  }
  return tiles;
}

const whenSeen = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    if (!isIntersecting) continue;
    whenSeen.unobserve(target);
    target.style.backgroundImage = `url("${target.dataset.url}")`;
  }
});

export function tile({ url, column, row }) {
  const node = make("span", { class: "tile", "data-url": url });
  node.style.setProperty("--column", column);
  node.style.setProperty("--row", row);
  whenSeen.observe(node);
  return node;
}
