"use strict";

/* The first page: the map, search, sort and filter, and what the layer is like as a whole. */
Atlas.overview = (() => {
  const { el, number, percent, store, charts, list } = Atlas;
  const NAMES = { coherence: "coherence", gain: "gain", density: "density", label: "label" };
  const SAYS = {
    coherence: "how alike its pictures are inside the network, over several images",
    gain: "rise of the value at strength 1, in standard deviations over the dataset",
    density: "share of the images on which it fires",
  };
  const FLAGS = { dead: 1, failed: 2, marked: 4, labelled: 8, pictured: 16 };
  const state = { colour: null, sort: "index", filter: "all", search: "" };

  function select(label, options, value, onchange) {
    const box = el("select", { "aria-label": label, onchange: (event) => onchange(event.target.value) },
      options.map(([key, text]) => el("option", { value: key, selected: key === value, text })));
    return el("label.field", {}, el("span", { text: label }), box);
  }

  async function page() {
    const about = await store.head();
    const places = await store.map();
    const map = Atlas.map.create(places, about);
    const legend = el("div.legend", { "aria-live": "polite" });
    const columns = ["coherence", "gain", "density"].filter((name) => about.summary[name]);
    state.colour ??= columns[0] ?? "density";

    async function recolour(name) {
      state.colour = name;
      const range = await map.colourBy(name);
      legend.replaceChildren(...(range
        ? [el("span", { text: `${NAMES[name]} ${number(range.low)}` }), el("span.ramp"), el("span", { text: number(range.high) })]
        : [el("span", { text: name === "label" ? "one colour per label" : `${NAMES[name]}: not measured` })]));
    }

    const found = el("p.count", { role: "status" });
    const rows = list.create("ul.rows", async (slot) => {
      const [title, label] = await store.name(slot);
      const [coherence, gain, density] = await Promise.all(["coherence", "gain", "density"].map(store.column));
      const value = (values) => (Number.isNaN(values[slot]) ? null : values[slot]);
      return el("li", {}, el("a.row", { href: `#/feature/${places.index[slot]}` },
        store.thumbnail("features", slot, ""),
        el("span.row-name", {}, el("strong", { text: label || title }), el("small", { text: label ? title : `feature ${places.index[slot]}` })),
        el("span.row-values", {},
          el("span", { title: SAYS.gain, text: `gain ${number(value(gain), 2)}` }),
          el("span", { title: SAYS.coherence, text: `coherence ${number(value(coherence), 2)}` }),
          el("span", { title: SAYS.density, text: `fires on ${percent(value(density))}` }))));
    });

    const whole = layer(about);

    async function refresh() {
      whole.hidden = Boolean(state.search.trim()) || state.filter !== "all";
      const flags = await store.column("flags");
      let slots = [...places.index.keys()].filter((slot) => passes(flags[slot], state.filter));
      const query = state.search.trim().toLowerCase();
      if (query) {
        const names = await store.names();
        const exact = /^#?\d+$/.test(query) ? Number(query.replace("#", "")) : null;
        slots = slots.filter((slot) => places.index[slot] === exact || names[slot].some((text) => text.toLowerCase().includes(query)));
        if (exact !== null) slots.sort((a, b) => (places.index[b] === exact) - (places.index[a] === exact));
      }
      if (!/^#?\d+$/.test(query)) await order(slots, places);
      map.only(slots.length === places.index.length ? null : new Set(slots));
      found.textContent = slots.length === places.index.length ? `${number(slots.length, 6)} features` : `${slots.length} of ${places.index.length} features`;
      rows.show(slots);
    }

    let wait = 0;
    const search = el("input", { type: "search", placeholder: "Name, index or label", value: state.search, "aria-label": "Search features", id: "search" });
    search.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(() => { state.search = search.value; refresh(); }, 120); });
    const colours = [...columns, ...(about.labelled ? ["label"] : [])].map((name) => [name, NAMES[name]]);
    const tools = el("div.tools", {},
      el("label.field.wide", {}, el("span", { text: "Search" }), search),
      select("Colour", colours.length ? colours : [["density", "density"]], state.colour, recolour),
      select("Sort", [["index", "index"], ...columns.map((name) => [name, NAMES[name]]), ...(about.labelled ? [["label", "label"]] : [])], state.sort, (value) => { state.sort = value; refresh(); }),
      select("Show", [["all", "all"], ["alive", "not dead"], ["dead", "dead"], ["labelled", "with a label"], ["marked", "with a reliability mark"], ["failed", "with a failure"]], state.filter, (value) => { state.filter = value; refresh(); }));
    map.node.append(el("div.zoom", {},
      el("button", { type: "button", "aria-label": "Zoom in", text: "+", onclick: map.zoomIn }),
      el("button", { type: "button", "aria-label": "Zoom out", text: "−", onclick: map.zoomOut })), legend);

    const node = el("div.overview", {}, intro(about), tools, found, map.node, whole, el("h2", { text: "Features" }), rows.node);
    recolour(state.colour);
    refresh();
    return { node, title: about.title, redraw: () => recolour(state.colour) };
  }

  function passes(flag, filter) {
    if (filter === "alive") return !(flag & FLAGS.dead);
    return filter === "all" || Boolean(flag & FLAGS[filter]);
  }

  async function order(slots, places) {
    if (state.sort === "index") return void slots.sort((a, b) => places.index[a] - places.index[b]);
    if (state.sort === "label") {
      const names = await store.names();
      return void slots.sort((a, b) => (names[a][1] || "\uffff").localeCompare(names[b][1] || "\uffff"));
    }
    const values = await store.column(state.sort);
    const key = (slot) => (Number.isNaN(values[slot]) ? -Infinity : values[slot]);
    return void slots.sort((a, b) => key(b) - key(a) || places.index[a] - places.index[b]);
  }

  const plural = (count, name) => `${number(count, 7)} ${name}${count === 1 ? "" : "s"}`;

  function intro(about) {
    const facts = [`${about.model}, ${about.layer}`, plural(about.features, "feature"), `${plural(about.images, "image")} of ${about.dataset}`, plural(about.pictures, "picture")];
    return el("div.intro", {}, el("h1", { text: about.title }), el("p.facts", { text: facts.join(" · ") }),
      about.gaps.length ? el("details.gaps", {}, el("summary", { text: `${plural(about.gaps.length, "gap")} in this atlas` }), el("ul", {}, about.gaps.map((text) => el("li", { text })))) : null);
  }

  function layer(about) {
    const figures = Object.entries(about.summary).filter(([, one]) => one).map(([name, one]) =>
      charts.figure(NAMES[name], charts.histogram(one, `Distribution of ${name} over ${one.known} features, median ${number(one.median)}`, [{ value: one.median, name: `median ${number(one.median)}` }]), SAYS[name]));
    const marks = Object.entries(about.marks).map(([mark, count]) => el("li", {}, el("b", { text: count }), ` ${Atlas.viewer.MARKS[mark]?.[0] ?? mark}`));
    return el("section", {}, el("h2", { text: "The layer as a whole" }), el("div.figures", {}, figures,
      el("figure.card", {}, el("h3", { text: "Reliability" }), el("ul.plain", {},
        el("li", {}, el("b", { text: about.dead }), " dead: they fire on no image"),
        el("li", {}, el("b", { text: about.failures }), " pictures that could not be made"), marks))),
      el("p.note", {}, "The data: ", ["atlas.json", "features.jsonl", "images.jsonl", "errors.jsonl", "accentuations.parquet"].flatMap((name, place) => [place ? ", " : "", el("a", { href: name, text: name })]), "."));
  }

  return { page };
})();
