"use strict";

/* Misclassified images: the predicted and the true class, accentuated from the same seed. */
Atlas.errors = (() => {
  const { el, percent, load, store, list, viewer } = Atlas;

  async function page() {
    const about = await store.head();
    const first = about.errors ? (await load("errors/0")).flatMap((one) => [one.shown_truth, one.shown_predicted]).find((one) => one?.frames?.length) : null;
    const rows = list.create("div.errors", async (place) => {
      const size = about.chunks.errors;
      const error = (await load(`errors/${Math.floor(place / size)}`))[place % size];
      const image = await load(`images/${error.image}`);
      const side = (shown, title, name) => shown
        ? viewer.view(shown, { title, subtitle: name, alt: `${title} class ${name} in ${image.name}` })
        : el("article.viewer", {}, el("div.missing-picture", {}, el("strong", { text: name }), el("span", { text: "not accentuated" })));
      return el("section.error", {},
        el("div.feature-head", {}, store.thumbnail("images", image.place, image.name, 72),
          el("div", {}, el("h2", {}, el("a", { href: `#/image/${error.image}`, text: image.name })),
            el("p.facts", {}, `Taken for `, el("b", { text: error.predicted }), error.probability === null ? "" : ` (${percent(error.probability)})`, `; it is `, el("b", { text: error.truth })))),
        el("div.viewers", {}, side(error.shown_predicted, "predicted", error.predicted), side(error.shown_truth, "true", error.truth)));
    });
    rows.show([...Array(about.errors).keys()]);
    const node = el("div", {}, el("h1", { text: "Errors" }),
      el("p.facts", { text: about.errors ? `${about.errors} misclassified image${about.errors === 1 ? "" : "s"}: what speaks for the predicted class, and what for the true one, from the same seed.` : "No image was misclassified, or the images have no labels." }),
      first ? viewer.controls(first.frames) : null, rows.node);
    return { node, title: `Errors · ${about.title}` };
  }

  return { page };
})();
