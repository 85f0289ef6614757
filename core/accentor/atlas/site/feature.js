"use strict";

/* A feature's page. */
Atlas.feature = (() => {
  const { el, number, percent, load, store, charts, viewer } = Atlas;

  async function page(index) {
    const [about, places, feature] = await Promise.all([store.head(), store.map(), load(`features/${index}`)]);
    const shown = feature.shown ?? [];
    const images = new Map(await Promise.all(shown.map(async (one) => [one.image, await imageName(one.image, about)])));
    const top = shown.filter((one) => one.chosen === "top");
    const others = shown.filter((one) => one.chosen !== "top");
    const slot = places.slots.get(feature.index);
    const sorted = [...places.index].sort((a, b) => a - b);
    const at = sorted.indexOf(feature.index);
    const [before, after] = [sorted[at - 1], sorted[at + 1]].map((one) => (one === undefined ? null : `#/feature/${one}`));
    const beside = store.beside(before, after);
    const title = feature.label || feature.name;
    const framed = shown.find((one) => one.frames?.length);
    const node = el("div.feature", {},
      el("div.feature-head", {}, store.thumbnail("features", slot, `${title}: its first picture`, 72),
        el("div", {}, el("h1", { text: title }), el("p.facts", { text: `${feature.label ? `${feature.name} · ` : ""}feature ${feature.index} of ${about.dictionary}` }), badges(feature)),
        beside.node),
      facts(feature),
      shown.length ? viewer.controls(framed?.frames ?? []) : el("p.note", { text: "This feature is shown in no image." }),
      section("Images that excite it most", top, images, title),
      section("Over its range", others, images, title),
      measured(feature, top),
      await neighbours(feature),
      el("p.note", {}, el("a", { href: `data/features/${feature.index}.js`, download: "", text: "Download this page's data" })));
    return { node, title: `${title} · ${about.title}`, keys: beside.keys };
  }

  async function imageName(image, about) {
    try {
      const entry = await load(`images/${image}`);
      return [entry.name, entry.label];
    } catch {
      return [`image ${image}`, ""];
    }
  }

  function badges(feature) {
    const shown = feature.shown ?? [];
    const counts = new Map();
    for (const mark of shown.flatMap((one) => one.marks ?? [])) counts.set(mark, (counts.get(mark) ?? 0) + 1);
    return el("p.badges", {},
      feature.dead ? el("span.badge.warn", { text: "dead: fires on no image" }) : null,
      feature.coherence === undefined || feature.coherence === null ? null : el("span.badge", { text: `coherence ${number(feature.coherence, 2)}` }),
      [...counts.keys()].map((mark) => el("details.badge.warn", {}, el("summary", { text: `${viewer.MARKS[mark]?.[0] ?? mark}: in ${counts.get(mark)} of ${shown.length} images` }), viewer.MARKS[mark]?.[1] ?? "")));
  }

  function facts(feature) {
    const pairs = [[feature.gain_at === null ? "gain" : `gain at strength ${number(feature.gain_at)}`, feature.gain === null ? "–" : `${number(feature.gain, 3)} σ`], ["fires on", percent(feature.density)], ["mean", number(feature.mean)], ["deviation", number(feature.std)]];
    return el("dl.facts-row", {}, pairs.map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: value }))));
  }

  function section(title, shown, images, feature) {
    if (!shown.length) return null;
    return el("section", {}, el("h2", { text: title }), el("div.viewers", {}, shown.map((one) => {
      const [name, label] = images.get(one.image);
      const why = one.chosen === "percentile" ? `percentile ${number(one.percentile)}${one.fires === false ? ", off" : ""}` : one.value === undefined ? "" : `${number(one.value)} in the scan`;
      return viewer.view(one, { title: name, subtitle: [label, why].filter(Boolean).join(" · "), href: `#/image/${one.image}`, alt: `${feature} in ${name}${label ? `, ${label}` : ""}` });
    })));
  }

  function measured(feature, top) {
    const drawn = figures(feature, top);
    return drawn.length ? el("section", {}, el("h2", { text: "What was measured" }), el("div.figures", {}, drawn)) : null;
  }

  function figures(feature, top) {
    const drawn = [];
    if (feature.histogram) {
      const at = (strength, name) => (top[0]?.frames ?? []).filter((frame) => frame.strength === strength).map(({ value }) => ({ value, name: `${name} ${number(value)}` }));
      const marks = [...at(0, "first image's seed"), ...at(feature.gain_at, "accentuated")];
      const one = feature.histogram;
      drawn.push(charts.figure("Values over the dataset", charts.histogram(one, `Histogram of the feature's values, ${number(one.low)} to ${number(one.high)}; ${marks.map((mark) => mark.name).join(", ")}`, marks),
        "Bars grow with the square root of the count. An arrow: it lies beyond the edge."));
    }
    const ways = top.filter((one) => one.frames?.length > 1).map((one) => ({ kind: "way", points: [...one.frames].filter((frame) => frame.strength >= 0).map((frame) => [frame.distance, frame.value]) }));
    const back = top.filter((one) => one.frames?.some((frame) => frame.strength < 0)).map((one) => ({ kind: "back", points: [...one.frames].filter((frame) => frame.strength <= 0).map((frame) => [frame.distance, frame.value]) }));
    if (ways.length) drawn.push(charts.figure("Gain against distance", charts.lines([...back, ...ways], `The feature's value against the distance to the seed, a line for each top image: ${top.filter((one) => one.frames?.length).map(told).join("; ")}`, { xName: "distance to the seed" }),
      "Each line is one image, from its seed: up with strength, down (lighter) into suppression."));
    if (feature.depths?.length) {
      const line = (key) => feature.depths.map((depth, place) => [place, depth[key]]).filter(([, value]) => value !== null && value !== undefined);
      const series = [{ kind: "reference", points: line("random") }, { kind: "reference natural", points: line("natural") }, { kind: "way", points: line("coherence") }].filter((one) => one.points.length);
      drawn.push(charts.figure("Coherence by depth", charts.lines(series, `Coherence at each layer, of accentuated pictures, natural and random images: ${feature.depths.map((depth) => [depth.layer, ...["coherence", "natural", "random"].map((key) => number(depth[key], 2))].join(" ")).join("; ")}`, { names: feature.depths.map((depth) => depth.layer) }),
        "Solid: accentuated pictures. Dashed: natural images that excite it; dotted: random images."));
    }
    return drawn;
  }

  function told({ frames }) {
    const last = frames[frames.length - 1];
    const seed = frames.find((frame) => frame.strength === 0) ?? frames[0];
    return `${number(seed.value)} to ${number(last.value)} over a distance of ${number(last.distance)}`;
  }

  async function neighbours(feature) {
    if (!feature.nearest?.length) return null;
    return el("section", {}, el("h2", { text: "Nearest features" }), el("div.chips", {}, await Promise.all(feature.nearest.map((one) => store.featureLink(one)))));
  }

  return { page };
})();
