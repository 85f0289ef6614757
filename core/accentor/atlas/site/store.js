"use strict";

/* What all pages read: the head, the features' places, columns, names and thumbnails. A slot is a place in the order
   in which the map, the columns, the names and the thumbnail sheets are written. */
Atlas.store = (() => {
  const { load, el, packing } = Atlas;
  const ACROSS = 8;
  const TILE = 64;
  const sheets = new Map();
  let places = null;

  const head = () => load("head");

  function map() {
    places ??= load("map").then((data) => {
      const index = packing.integers(data.index, data.index_bytes);
      const slots = new Map();
      index.forEach((feature, slot) => slots.set(feature, slot));
      return { index, slots, x: unit(data.x), y: unit(data.y) };
    });
    return places;
  }

  function unit(column) {
    const values = packing.numbers(column);
    const span = column.high - column.low;
    return values.map((value) => (span ? (value - column.low) / span : 0.5));
  }

  const column = (name) => load(`columns/${name}`).then((data) =>
    name === "flags" ? packing.integers(data, 2) : packing.numbers(data));

  async function name(slot) {
    const size = (await head()).chunks.names;
    return (await load(`names/${Math.floor(slot / size)}`))[slot % size];
  }

  async function names() {
    const about = await head();
    const chunks = Math.ceil(about.features / about.chunks.names);
    return (await Promise.all(Array.from({ length: chunks }, (_, chunk) => load(`names/${chunk}`)))).flat();
  }

  function tile(kind, slot) {
    const inside = slot % (ACROSS * ACROSS);
    const sheet = Math.floor(slot / (ACROSS * ACROSS));
    return { url: `thumbnails/${kind}/${sheet}.webp`, x: (inside % ACROSS) * TILE, y: Math.floor(inside / ACROSS) * TILE };
  }

  function sheet(url, onload) {
    if (!sheets.has(url)) {
      const image = new Image();
      image.onload = () => onload();
      image.src = url;
      sheets.set(url, image);
    }
    const image = sheets.get(url);
    return image.complete && image.naturalWidth ? image : null;
  }

  const lazily = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      target.style.backgroundImage = `url("${target.dataset.url}")`;
      lazily.unobserve(target);
    }
  }, { rootMargin: "200px" });

  function thumbnail(kind, slot, label, size = TILE) {
    const { url, x, y } = tile(kind, slot);
    const node = el("span.thumb", label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" });
    node.dataset.url = url;
    node.style.width = node.style.height = `${size}px`;
    node.style.backgroundSize = `${ACROSS * size}px auto`;
    node.style.backgroundPosition = `${(-x * size) / TILE}px ${(-y * size) / TILE}px`;
    lazily.observe(node);
    return node;
  }

  /* Ways to the pages before and after, as links and as keys. */
  function beside(before, after) {
    const link = (href, text, rel) => href && el("a.quiet", { href, text, rel });
    return { node: el("div.steps", {}, link(before, "← previous", "prev"), link(after, "next →", "next")), keys: { "[": before, "]": after } };
  }

  async function featureLink(feature, note = "") {
    const { slots } = await map();
    const slot = slots.get(feature);
    if (slot === undefined) return el("span.chip.missing", { text: `feature ${feature}: not in this atlas` });
    const [title, label] = await name(slot);
    return el("a.chip", { href: `#/feature/${feature}` },
      thumbnail("features", slot, "", 48),
      el("span.chip-text", {}, el("strong", { text: label || title }), el("small", { text: note || (label ? title : "") })));
  }

  return { head, map, column, name, names, tile, sheet, thumbnail, beside, featureLink, TILE };
})();
