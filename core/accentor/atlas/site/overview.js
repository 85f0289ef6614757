"use strict";

/* The first page: the map, search, sort and filter, and what the layer is like as a whole. */
Atlas.overview = (() => {
  const { el, number, count, plural, percent, store, charts, list } = Atlas;
  const NAMES = { coherence: "coherence", gain: "gain", density: "density", label: "label" };
  const says = (about) => {
    const at = about.gain_at.length ? ` at strength ${about.gain_at.join(" or ")}` : "";
    return {
      coherence: `how alike its pictures${at} are inside the network, over several images`,
      gain: `rise of the value${at}, in standard deviations over the dataset`,
      density: "share of the images on which it fires",
    };
  };
  const LEGEND_LABELS = 8;
  const FLAGS = { dead: 1, failed: 2, marked: 4, labelled: 8, pictured: 16 };
  const FILTERS = [["all", "all"], ["alive", "not dead"], ["dead", "dead"], ["labelled", "with a label"], ["marked", "with a reliability mark"], ["failed", "with a failure"]];
  const USUAL = { colour: "", sort: "index", order: "down", filter: "all", search: "" };

  /* What an address asks for, if it is on offer: names become those of files to load. */
  const offered = (options, given) => (!options || options.some(([name]) => name === given) ? given : null);

  function select(label, options, value, onchange) {
    const box = el("select", { "aria-label": label, onchange: (event) => onchange(event.target.value) },
      options.map(([key, text]) => el("option", { value: key, selected: key === value, text })));
    return el("label.field", {}, el("span", { text: label }), box);
  }

  async function page(asked) {
    const about = await store.head();
    const places = await store.map();
    const map = Atlas.map.create(places, about);
    const legend = el("p.legend", { "aria-live": "polite" });
    const columns = ["coherence", "gain", "density"].filter((name) => about.summary[name]);
    const measures = columns.map((name) => [name, NAMES[name]]);
    const byLabel = about.labelled ? [["label", NAMES.label]] : [];
    const offers = {
      colour: measures.length + byLabel.length ? [...measures, ...byLabel] : [["density", NAMES.density]],
      sort: [["index", "index"], ...measures, ...byLabel],
      order: [["down"], ["up"]],
      filter: FILTERS,
    };
    const usual = { ...USUAL, colour: offers.colour[0][0] };
    const state = Object.fromEntries(Object.entries(usual).map(([name, value]) => [name, offered(offers[name], asked.get(name)) ?? value]));

    function keepAddress() {
      const changed = Object.entries(state).filter(([name, value]) => value !== usual[name]);
      history.replaceState(history.state, "", changed.length ? `#/?${new URLSearchParams(changed)}` : "#/");
    }

    async function recolour(name) {
      state.colour = name;
      const { range, labels } = await map.colourBy(name);
      const swatch = ([text, colour, times]) => {
        const dot = el("span.swatch");
        dot.style.background = colour;
        return el("span", {}, dot, ` ${text} (${count(times)})`);
      };
      const more = labels?.length - LEGEND_LABELS;
      legend.replaceChildren(...(labels
        ? [...labels.slice(0, LEGEND_LABELS).map(swatch), more > 0 ? el("span", { text: `and ${count(more)} more` }) : ""]
        : range
          ? [el("span", { text: `${NAMES[name]} ${range.below ? "≤ " : ""}${number(range.low)}` }), el("span.ramp"), el("span", { text: `${range.above ? "≥ " : ""}${number(range.high)}` })]
          : [el("span", { text: `${NAMES[name]}: not measured` })]));
    }

    const meaning = says(about);
    const found = el("p.count", { role: "status" });
    const rows = list.create("ul.rows", async (slot) => {
      const [title, label] = await store.name(slot);
      const [coherence, gain, density] = await Promise.all(["coherence", "gain", "density"].map(store.column));
      const value = (values) => (Number.isNaN(values[slot]) ? null : values[slot]);
      return el("li", {}, el("a.row", { href: `#/feature/${places.index[slot]}` },
        store.thumbnail("features", slot, ""),
        el("span.row-name", {}, el("strong", { text: label || title }), el("small", { text: label ? title : `feature ${places.index[slot]}` })),
        el("span.row-values", {},
          el("span", { title: meaning.gain, text: `gain ${number(value(gain), 2)}` }),
          el("span", { title: meaning.coherence, text: `coherence ${number(value(coherence), 2)}` }),
          el("span", { title: meaning.density, text: `fires on ${percent(value(density))}` }))));
    });

    const whole = layer(about);
    let turn = 0;

    async function refresh() {
      const mine = ++turn;
      keepAddress();
      whole.hidden = Boolean(state.search.trim()) || state.filter !== "all";
      const flags = await store.column("flags");
      let slots = [...places.index.keys()].filter((slot) => passes(flags[slot], state.filter));
      const query = state.search.trim().toLowerCase();
      const exact = /^#?\d+$/.test(query) ? Number(query.replace("#", "")) : null;
      if (query) {
        const names = await store.names();
        slots = slots.filter((slot) => places.index[slot] === exact || names[slot].some((text) => text.toLowerCase().includes(query)));
      }
      await order(slots, places, state);
      if (mine !== turn) return;
      if (exact !== null) slots.sort((a, b) => (places.index[b] === exact) - (places.index[a] === exact));
      map.only(slots.length === places.index.length ? null : new Set(slots));
      found.textContent = slots.length === places.index.length ? plural(slots.length, "feature") : `${count(slots.length)} of ${plural(places.index.length, "feature")}`;
      rows.show(slots);
    }

    let wait = 0;
    const search = el("input", { type: "search", placeholder: "Name, index or label", value: state.search, "aria-label": "Search features", id: "search" });
    search.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(() => { state.search = search.value; refresh(); }, 120); });
    const tools = el("div.tools", {},
      el("label.field.wide", {}, el("span", { text: "Search" }), search),
      select("Colour", offers.colour, state.colour, (name) => recolour(name).then(keepAddress)),
      select("Sort", offers.sort, state.sort, (value) => { state.sort = value; refresh(); }),
      el("button.reverse", { type: "button", "aria-pressed": String(state.order === "up"), "aria-label": "Reverse the order", title: "Reverse the order", text: "⇅", onclick: (event) => {
        state.order = state.order === "up" ? "down" : "up";
        event.currentTarget.setAttribute("aria-pressed", String(state.order === "up"));
        refresh();
      } }),
      select("Show", FILTERS, state.filter, (value) => { state.filter = value; refresh(); }));
    const zoom = el("div.zoom", {},
      el("button", { type: "button", "aria-label": "Zoom in", text: "+", onclick: map.zoomIn }),
      el("button", { type: "button", "aria-label": "Zoom out", text: "−", onclick: map.zoomOut }));

    const node = el("div.overview", {}, intro(about), tools, el("div.over-map", {}, found, legend, zoom), map.node, whole, el("h2", { text: "Features" }), rows.node);
    recolour(state.colour);
    refresh();
    return { node, title: about.title, redraw: () => recolour(state.colour) };
  }

  function passes(flag, filter) {
    if (filter === "alive") return !(flag & FLAGS.dead);
    return filter === "all" || Boolean(flag & FLAGS[filter]);
  }

  /* In place: by index and label from the first, by a measure from the highest; what has none comes last either way. */
  async function order(slots, places, { sort, order: way }) {
    const sign = way === "up" ? -1 : 1;
    const byIndex = (a, b) => places.index[a] - places.index[b];
    if (sort === "index") return void slots.sort((a, b) => sign * byIndex(a, b));
    if (sort === "label") {
      const names = await store.names();
      return void slots.sort((a, b) => !names[a][1] - !names[b][1] || sign * names[a][1].localeCompare(names[b][1]) || byIndex(a, b));
    }
    const values = await store.column(sort);
    const none = (slot) => Number.isNaN(values[slot]);
    return void slots.sort((a, b) => none(a) - none(b) || (none(a) ? 0 : sign * (values[b] - values[a])) || byIndex(a, b));
  }

  function intro(about) {
    const facts = [`${about.model}, ${about.layer}`, plural(about.features, "feature"), `${plural(about.images, "image")} of ${about.dataset}`, plural(about.pictures, "picture")];
    return el("div.intro", {}, el("h1", { text: about.title }), el("p.facts", { text: facts.join(" · ") }),
      about.gaps.length ? el("details.gaps", {}, el("summary", { text: `${plural(about.gaps.length, "gap")} in this atlas` }), el("ul", {}, about.gaps.map((text) => el("li", { text })))) : null);
  }

  function layer(about) {
    const figures = Object.entries(about.summary).filter(([, one]) => one).map(([name, one]) =>
      charts.figure(NAMES[name], charts.histogram(one, `Distribution of ${name} over ${plural(one.known, "feature")}, median ${number(one.median)}`, [{ value: one.median, name: `median ${number(one.median)}` }]), says(about)[name]));
    const marks = Object.entries(about.marks).map(([mark, times]) => el("li", {}, el("b", { text: count(times) }), ` ${Atlas.viewer.MARKS[mark]?.[0] ?? mark}`));
    return el("section", {}, el("h2", { text: "The layer as a whole" }), el("div.figures", {}, figures,
      el("figure.card", {}, el("h3", { text: "Reliability" }), el("ul.plain", {},
        el("li", {}, el("b", { text: count(about.dead) }), " dead: they fire on no image"),
        el("li", {}, el("b", { text: count(about.failures) }), " pictures that could not be made"), marks))),
      el("p.note", {}, "Bars grow with the square root of the count. The data: ", ["atlas.json", "features.jsonl", "images.jsonl", "errors.jsonl", "accentuations.parquet"].flatMap((name, place) => [place ? ", " : "", el("a", { href: name, text: name })]), "."),
      el("details.made", {}, el("summary", { text: "How it was made" }), el("p.note", { text: `On ${about.made_at.slice(0, 10)}, with this recipe:` }), el("pre", { text: JSON.stringify(about.recipe, null, 1) })));
  }

  return { page };
})();
