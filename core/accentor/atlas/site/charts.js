"use strict";

/* Small figures in SVG, each with a sentence for those who do not see it. */
Atlas.charts = (() => {
  const { el, number } = Atlas;
  const SPACE = "http://www.w3.org/2000/svg";
  const WIDTH = 320;
  const HEIGHT = 130;
  const LEFT = 8;
  const BOTTOM = 22;

  function svg(tag, options = {}, text = null) {
    const node = document.createElementNS(SPACE, tag);
    for (const [key, value] of Object.entries(options)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    return node;
  }

  function frame(label) {
    const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "chart" });
    root.append(svg("line", { x1: LEFT, x2: WIDTH - LEFT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM, class: "axis" }));
    return root;
  }

  const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

  function ends(root, low, high, middle = "") {
    const y = HEIGHT - 6;
    root.append(svg("text", { x: LEFT, y }, number(low)), svg("text", { x: WIDTH - LEFT, y, "text-anchor": "end" }, number(high)));
    if (middle) root.append(svg("text", { x: WIDTH / 2, y, "text-anchor": "middle" }, middle));
  }

  function histogram({ low, high, counts }, label, marks = []) {
    const root = frame(label);
    const tallest = Math.max(...counts, 1);
    const wide = (WIDTH - 2 * LEFT) / counts.length;
    const tall = HEIGHT - BOTTOM - 14;
    counts.forEach((count, place) => {
      if (!count) return;
      const height = Math.max(1, Math.sqrt(count / tallest) * tall);
      const bar = svg("rect", { x: LEFT + place * wide, y: HEIGHT - BOTTOM - height, width: Math.max(1, wide - 1), height, class: "bar-fill", rx: 1 });
      bar.append(svg("title", {}, `${number(low + (place / counts.length) * (high - low))} to ${number(low + ((place + 1) / counts.length) * (high - low))}: ${count}`));
      root.append(bar);
    });
    const across = scale(low, high, LEFT, WIDTH - LEFT);
    for (const { value, name } of marks) {
      const x = Math.min(WIDTH - LEFT, Math.max(LEFT, across(value)));
      root.append(svg("line", { x1: x, x2: x, y1: 12, y2: HEIGHT - BOTTOM, class: "mark" }));
      root.append(svg("text", { x, y: 9, "text-anchor": x > WIDTH - 40 ? "end" : x < 40 ? "start" : "middle" }, name));
    }
    ends(root, low, high);
    return root;
  }

  function lines(series, label, { xName = "", names = null } = {}) {
    const root = frame(label);
    const points = series.flatMap((one) => one.points);
    if (!points.length) return root;
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    const [lowX, highX] = [Math.min(...xs), Math.max(...xs)];
    const [lowY, highY] = [Math.min(...ys), Math.max(...ys)];
    const across = scale(lowX, highX, LEFT + 4, WIDTH - LEFT - 4);
    const down = scale(lowY, highY, HEIGHT - BOTTOM - 6, 16);
    for (const { points: own, kind } of series) {
      const path = own.map(([x, y], place) => `${place ? "L" : "M"}${across(x).toFixed(1)} ${down(y).toFixed(1)}`).join("");
      root.append(svg("path", { d: path, class: `line ${kind}` }));
      if (kind !== "reference") for (const [x, y] of own) root.append(svg("circle", { cx: across(x), cy: down(y), r: 2.4, class: `dot ${kind}` }));
    }
    root.append(svg("text", { x: LEFT, y: 10 }, number(highY)));
    root.append(svg("text", { x: LEFT, y: HEIGHT - BOTTOM - 3 }, lowY === highY ? "" : number(lowY)));
    if (names) {
      const y = HEIGHT - 6;
      root.append(svg("text", { x: LEFT, y }, names[0]), svg("text", { x: WIDTH - LEFT, y, "text-anchor": "end" }, names[names.length - 1]));
    } else ends(root, lowX, highX, xName);
    return root;
  }

  const figure = (title, chart, caption = "") =>
    el("figure.card", {}, el("h3", { text: title }), chart, caption ? el("figcaption", { text: caption }) : null);

  return { histogram, lines, figure };
})();
