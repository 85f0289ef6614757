"use strict";

/* Small figures in SVG, each with a sentence for those who do not see it. */
Atlas.charts = (() => {
  const { el, number, count } = Atlas;
  const SPACE = "http://www.w3.org/2000/svg";
  const WIDTH = 320;
  const HEIGHT = 130;
  const LEFT = 8;
  const BOTTOM = 22;
  const GUTTER = 44;
  const BEYOND = 0.5;
  const LINE = 11;
  const ALONE = 15;

  function svg(tag, options = {}, text = null) {
    const node = document.createElementNS(SPACE, tag);
    for (const [key, value] of Object.entries(options)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    return node;
  }

  function frame(label, left = LEFT) {
    const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "chart" });
    root.append(svg("line", { x1: left, x2: WIDTH - LEFT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM, class: "axis" }));
    return root;
  }

  const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

  function histogram({ low, high, counts }, label, marks = []) {
    if (low < high) return bars({ low, high, counts }, label, marks, [[low, "start"], [high, "end"]]);
    const around = Array.from({ length: ALONE }, (_, place) => (2 * place + 1 === ALONE ? Math.max(...counts) : 0));
    return bars({ low: low - 1, high: low + 1, counts: around }, label, marks, [[low, "middle"]]);
  }

  function bars({ low, high, counts }, label, marks, ends) {
    const root = frame(label);
    const tallest = Math.max(...counts, 1);
    const reach = BEYOND * (high - low);
    const values = marks.map((mark) => mark.value);
    const [first, last] = [Math.max(low - reach, Math.min(low, ...values)), Math.min(high + reach, Math.max(high, ...values))];
    const across = scale(first, last, LEFT, WIDTH - LEFT);
    const edge = (place) => across(low + (place / counts.length) * (high - low));
    const tall = HEIGHT - BOTTOM - 4 - LINE * marks.length;
    counts.forEach((times, place) => {
      if (!times) return;
      const height = Math.max(1, Math.sqrt(times / tallest) * tall);
      const bar = svg("rect", { x: edge(place), y: HEIGHT - BOTTOM - height, width: Math.max(1, edge(place + 1) - edge(place) - 1), height, class: "bar-fill", rx: 1 });
      bar.append(svg("title", {}, `${number(low + (place / counts.length) * (high - low))} to ${number(low + ((place + 1) / counts.length) * (high - low))}: ${count(times)}`));
      root.append(bar);
    });
    marks.forEach(({ value, name }, row) => {
      const x = Math.min(WIDTH - LEFT, Math.max(LEFT, across(value)));
      const told = value > last ? `${name} →` : value < first ? `← ${name}` : name;
      const y = 9 + LINE * row;
      root.append(svg("line", { x1: x, x2: x, y1: y + 3, y2: HEIGHT - BOTTOM, class: "mark" }));
      root.append(svg("text", { x, y, "text-anchor": x > WIDTH - 40 ? "end" : x < 40 ? "start" : "middle" }, told));
    });
    const y = HEIGHT - 6;
    for (const [value, anchor] of ends) root.append(svg("text", { x: across(value), y, "text-anchor": anchor }, number(value)));
    return root;
  }

  function lines(series, label, { xName = "", names = null } = {}) {
    const root = frame(label, GUTTER);
    const points = series.flatMap((one) => one.points);
    if (!points.length) return root;
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    const [lowX, highX] = [Math.min(0, ...xs), Math.max(...xs)];
    const [lowY, highY] = [Math.min(...ys), Math.max(...ys)];
    const across = scale(lowX, highX, GUTTER + 4, WIDTH - LEFT - 4);
    const down = scale(lowY, highY, HEIGHT - BOTTOM - 6, 8);
    for (const { points: own, kind } of series) {
      const path = own.map(([x, y], place) => `${place ? "L" : "M"}${across(x).toFixed(1)} ${down(y).toFixed(1)}`).join("");
      root.append(svg("path", { d: path, class: `line ${kind}` }));
      if (kind === "reference") continue;
      for (const [x, y] of own) {
        const dot = svg("circle", { cx: across(x), cy: down(y), r: 2.4, class: `dot ${kind}` });
        dot.append(svg("title", {}, `${names ? names[x] : number(x)}: ${number(y)}`));
        root.append(dot);
      }
    }
    for (const value of new Set([lowY, highY])) root.append(svg("text", { x: GUTTER - 4, y: down(value) + 3, "text-anchor": "end" }, number(value)));
    const [first, last] = names ? [names[0], names[names.length - 1]] : [number(lowX), number(highX)];
    const y = HEIGHT - 6;
    root.append(svg("text", { x: GUTTER, y }, first), svg("text", { x: WIDTH / 2, y, "text-anchor": "middle" }, xName), svg("text", { x: WIDTH - LEFT, y, "text-anchor": "end" }, last));
    return root;
  }

  const figure = (title, chart, caption = "") =>
    el("figure.card", {}, el("h3", { text: title }), chart, caption ? el("figcaption", { text: caption }) : null);

  return { histogram, lines, figure };
})();
