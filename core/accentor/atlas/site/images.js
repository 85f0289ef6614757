"use strict";

/* The images, and one image with its features. */
Atlas.images = (() => {
  const { el, number, plural, load, store, list, viewer } = Atlas;

  async function all() {
    const about = await store.head();
    const cards = list.create("ul.grid", async (place) => {
      const [index, name, label, predicted, wrong] = await listed(place, about);
      return el("li", {}, el("a.tile", { href: `#/image/${index}` },
        store.thumbnail("images", place, "", 96),
        el("span", { text: name }),
        el("small", { class: wrong ? "wrong" : null, text: [label, wrong ? `taken for ${predicted}` : ""].filter(Boolean).join(", ") })));
    });
    cards.show([...Array(about.images).keys()]);
    return { node: el("div", {}, el("h1", { text: "Images" }), el("p.facts", { text: `${plural(about.images, "image")} of ${about.dataset}` }), cards.node), title: `Images · ${about.title}` };
  }

  async function listed(place, about) {
    const size = about.chunks.images;
    return (await load(`images/list-${Math.floor(place / size)}`))[place % size];
  }

  const addressAt = async (place, about) => (place < 0 || place >= about.images ? null : `#/image/${(await listed(place, about))[0]}`);

  async function page(index) {
    const [about, image] = await Promise.all([store.head(), load(`images/${index}`)]);
    const facts = [image.label && `label ${image.label}`, image.predicted && `${image.misclassified ? "taken for" : "predicted"} ${image.predicted}`, image.sha256 && `sha256 ${image.sha256.slice(0, 12)}…`].filter(Boolean);
    const [before, after] = await Promise.all([-1, 1].map((by) => addressAt(image.place + by, about)));
    const beside = store.beside(before, after);
    const drawn = el("div.viewers");
    let without = el("div.chips");
    let frames = [];
    for (const one of image.features) {
      let feature = null;
      try { feature = await load(`features/${one.feature}`); } catch { /* A feature beyond the atlas's limit has no page. */ }
      const shown = one.shown ?? feature?.shown?.find((other) => other.image === image.index && other.strip);
      const reached = one.percentile === null || one.percentile === undefined ? "" : `, percentile ${number(one.percentile)}`;
      if (!shown) { without.append(await store.featureLink(one.feature, `${number(one.value)} in the scan`)); continue; }
      frames = frames.length ? frames : shown.frames;
      if (without.children.length) {
        drawn.append(without);
        without = el("div.chips");
      }
      drawn.append(viewer.view(shown, { title: feature?.label || feature?.name || `feature ${one.feature}`, subtitle: `${number(one.value)} in the scan${reached}`, href: `#/feature/${one.feature}`, alt: `${feature?.label || feature?.name || one.feature} in ${image.name}` }));
    }
    const any = drawn.children.length + without.children.length > 0;
    const node = el("div", {},
      el("div.feature-head", {}, store.thumbnail("images", image.place, image.name, 72), el("div", {}, el("h1", { text: image.name }), el("p.facts", { text: facts.join(" · ") })),
        beside.node),
      drawn.children.length ? viewer.controls(frames) : null,
      drawn.children.length ? el("section", {}, el("h2", { text: "Its top features" }), drawn) : null,
      without.children.length ? el("section", {}, el("h2", { text: drawn.children.length ? "More of its top features" : "Its top features" }), without) : null,
      any ? null : el("p.note", { text: "None of its top features is in this atlas." }));
    return { node, title: `${image.name} · ${about.title}`, keys: beside.keys };
  }

  return { all, page };
})();
