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
    const step = (to, text, key) => (sorted[to] === undefined ? null : el("a.quiet", { href: `#/feature/${sorted[to]}`, text, rel: key, title: `Feature ${sorted[to]}` }));
    const title = feature.label || feature.name;
    const framed = shown.find((one) => one.frames?.length);
    const node = el("div.feature", {},
      el("div.feature-head", {}, store.thumbnail("features", slot, `${title}: its first picture`, 72),
        el("div", {}, el("h1", { text: title }), el("p.facts", { text: `${feature.label ? `${feature.name} · ` : ""}feature ${feature.index} of ${about.dictionary}` }), badges(feature)),
        el("div.steps", {}, step(at - 1, "← previous", "prev"), step(at + 1, "next →", "next"))),
      facts(feature),
      shown.length ? viewer.controls(framed?.frames ?? []) : el("p.note", { text: "This feature is shown in no image." }),
      section("Images that excite it most", top, images, title),
      section("Over its range", others, images, title),
      el("div.figures", {}, figures(feature, top)),
      await neighbours(feature),
      el("p.note", {}, el("a", { href: `data/features/${feature.index}.js`, download: "", text: "Download this page's data" })));
    return { node, title: `${title} · ${about.title}`, keys: { "[": sorted[at - 1], "]": sorted[at + 1] } };
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
    const marks = new Set((feature.shown ?? []).flatMap((one) => one.marks ?? []));
    return el("p.badges", {},
      feature.dead ? el("span.badge.warn", { text: "dead: fires on no image" }) : null,
      feature.coherence === undefined || feature.coherence === null ? null : el("span.badge", { text: `coherence ${number(feature.coherence, 2)}` }),
      [...marks].map((mark) => el("span.badge.warn", { title: viewer.MARKS[mark]?.[1], text: `${viewer.MARKS[mark]?.[0] ?? mark}: in some images` })));
  }

  function facts(feature) {
    const pairs = [["gain", `${number(feature.gain, 3)} σ`], ["fires on", percent(feature.density)], ["mean", number(feature.mean)], ["deviation", number(feature.std)]];
    return el("dl.facts-row", {}, pairs.map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: value }))));
  }

  function section(title, shown, images, feature) {
    if (!shown.length) return null;
    return el("section", {}, el("h2", { text: title }), el("div.viewers", {}, shown.map((one) => {
      const [name, label] = images.get(one.image);
      const why = one.chosen === "percentile" ? `percentile ${number(one.percentile)}${(feature && one.value <= 0) ? ", off" : ""}` : `value ${number(one.value)}`;
      return viewer.view(one, { title: name, subtitle: [label, why].filter(Boolean).join(" · "), href: `#/image/${one.image}`, alt: `${feature} in ${name}${label ? `, ${label}` : ""}` });
    })));
  }

  function figures(feature, top) {
    const drawn = [];
    if (feature.histogram) {
      const best = top[0]?.frames?.find((frame) => frame.strength === 1);
      const marks = best ? [{ value: best.value, name: "accentuated" }] : [];
      const one = feature.histogram;
      const shownLow = Math.min(one.low, ...marks.map((mark) => mark.value));
      drawn.push(charts.figure("Values over the dataset", charts.histogram(one, `Histogram of the feature's values, ${number(shownLow)} to ${number(one.high)}`, marks),
        "Bars grow with the square root of the count. A mark at the edge lies beyond the dataset's range."));
    }
    const ways = top.filter((one) => one.frames?.length > 1).map((one) => ({ kind: "way", points: [...one.frames].filter((frame) => frame.strength >= 0).map((frame) => [frame.distance, frame.value]) }));
    const back = top.filter((one) => one.frames?.some((frame) => frame.strength < 0)).map((one) => ({ kind: "back", points: [...one.frames].filter((frame) => frame.strength <= 0).map((frame) => [frame.distance, frame.value]) }));
    if (ways.length) drawn.push(charts.figure("Gain against distance", charts.lines([...back, ...ways], "The feature's value against the distance to the seed, a line for each top image", { xName: "distance to the seed" }),
      "Each line is one image, from its seed: up with strength, down (lighter) into suppression."));
    if (feature.depths?.length) {
      const line = (key) => feature.depths.map((depth, place) => [place, depth[key]]).filter(([, value]) => value !== null && value !== undefined);
      const series = [{ kind: "reference", points: line("random") }, { kind: "reference natural", points: line("natural") }, { kind: "way", points: line("coherence") }].filter((one) => one.points.length);
      drawn.push(charts.figure("Coherence by depth", charts.lines(series, "Coherence at each layer, with natural and random images for comparison", { names: feature.depths.map((depth) => depth.layer) }),
        "Solid: accentuated pictures. Dashed: natural images that excite it; dotted: random images."));
    }
    return drawn;
  }

  async function neighbours(feature) {
    if (!feature.nearest?.length) return null;
    return el("section", {}, el("h2", { text: "Nearest features" }), el("div.chips", {}, await Promise.all(feature.nearest.map((one) => store.featureLink(one)))));
  }

  return { page };
})();
