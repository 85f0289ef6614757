"use strict";

/* Misclassified images: the predicted and the true class, accentuated from the same seed. */
Atlas.errors = (() => {
  const { el, count, plural, percent, load, store, list, viewer } = Atlas;

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
      el("p.facts", { text: facts(about) }),
      first ? viewer.controls(first.frames) : null, rows.node);
    return { node, title: `Errors · ${about.title}` };
  }

  function facts({ errors, misclassified }) {
    const all = plural(misclassified, "misclassified image");
    if (!misclassified) return "No image was misclassified, or the images have no labels.";
    if (!errors) return `${all}; this atlas was made to show none.`;
    const shown = errors < misclassified ? `${count(errors)} of ${all}, the surest first` : all;
    return `${shown}: what speaks for the predicted class, and what for the true one, from the same seed.`;
  }

  return { page };
})();
