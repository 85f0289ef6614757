"use strict";

/* The map of features on a canvas: drag, wheel, pinch or keys move it; thumbnails come as there is room for them. */
Atlas.map = (() => {
  const { el, plural, store } = Atlas;
  const LANDMARKS = 64;
  const CROWD = 900;
  const MARGIN = 40;
  const ZOOM = [1, 400];
  const REACH_PX = 22;
  const CLIPPED = 0.02;
  const TURN = 137.5;

  function ramp(share, dark) {
    const stops = dark ? [[64, 84, 120], [86, 140, 160], [236, 186, 110]] : [[176, 190, 212], [88, 138, 168], [190, 98, 40]];
    const at = Math.min(0.9999, Math.max(0, share)) * 2;
    const from = stops[Math.floor(at)];
    const to = stops[Math.floor(at) + 1];
    return `rgb(${from.map((value, one) => Math.round(value + (to[one] - value) * (at % 1))).join(" ")})`;
  }

  const STEPS = 32;
  const palette = (dark) => Array.from({ length: STEPS }, (_, one) => ramp(one / (STEPS - 1), dark));

  const hue = (place, dark) => `hsl(${Math.round((20 + place * TURN) % 360)} 45% ${dark ? 65 : 45}%)`;
  const kept = { scale: 1, x: 0, y: 0 };

  function create(places, about) {
    const canvas = el("canvas.map", { tabindex: 0, role: "application", "aria-label": `Map of ${plural(about.features, "feature")}. Arrows move, plus and minus zoom, Enter opens the feature nearest to the middle.` });
    const tip = el("div.tip", { hidden: true, role: "status" });
    const node = el("div.map-box", {}, canvas, tip);
    const count = places.index.length;
    const view = { ...kept, width: 1, height: 1 };
    let colours = null;
    let shown = null;
    let pending = false;
    let hovered = -1;

    const dark = () => getComputedStyle(document.documentElement).getPropertyValue("--is-dark").trim() === "1";
    const sx = (slot) => MARGIN + places.x[slot] * (view.width - 2 * MARGIN) * view.scale + view.x;
    const sy = (slot) => MARGIN + (1 - places.y[slot]) * (view.height - 2 * MARGIN) * view.scale + view.y;

    function invalidate() {
      if (pending) return;
      pending = true;
      requestAnimationFrame(() => { pending = false; draw(); });
    }

    function draw() {
      const started = performance.now();
      const context = canvas.getContext("2d");
      const ratio = canvas.width / view.width;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, view.width, view.height);
      const visible = [];
      for (let slot = 0; slot < count; slot++) {
        const x = sx(slot);
        const y = sy(slot);
        if (x > -40 && y > -40 && x < view.width + 40 && y < view.height + 40) visible.push(slot);
      }
      const dot = Math.min(9, Math.max(2.5, 60 / Math.sqrt(visible.length + 1)));
      for (const slot of visible) {
        context.fillStyle = colours ? colours(slot) : "#888";
        context.globalAlpha = !shown || shown.has(slot) ? 0.9 : 0.12;
        context.fillRect(sx(slot) - dot / 2, sy(slot) - dot / 2, dot, dot);
      }
      context.globalAlpha = 1;
      const tiles = drawTiles(context, visible);
      if (hovered >= 0) ring(context, hovered);
      node.dataset.tiles = tiles;
      node.dataset.scale = view.scale.toFixed(2);
      node.dataset.drawMs = (performance.now() - started).toFixed(1);
    }

    function drawTiles(context, visible) {
      const side = visible.length < 80 ? 56 : visible.length < 300 ? 44 : 34;
      const cell = side + 6;
      const taken = new Map();
      let tiles = 0;
      for (const slot of visible) {
        if (shown && !shown.has(slot)) continue;
        if (slot >= LANDMARKS && visible.length > CROWD) break;
        const x = sx(slot);
        const y = sy(slot);
        const [column, row] = [Math.round(x / cell), Math.round(y / cell)];
        if (isTaken(taken, column, row, x, y, cell)) continue;
        const { url, x: left, y: top } = store.tile("features", slot);
        const sheet = store.sheet(url, invalidate);
        if (!sheet) continue;
        taken.set(`${column},${row}`, [x, y]);
        context.fillStyle = colours ? colours(slot) : "#888";
        context.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4);
        context.drawImage(sheet, left, top, store.TILE, store.TILE, x - side / 2, y - side / 2, side, side);
        tiles++;
      }
      return tiles;
    }

    function isTaken(taken, column, row, x, y, cell) {
      for (let dx = -1; dx <= 1; dx++) {
        for (let dy = -1; dy <= 1; dy++) {
          const other = taken.get(`${column + dx},${row + dy}`);
          if (other && Math.abs(other[0] - x) < cell && Math.abs(other[1] - y) < cell) return true;
        }
      }
      return false;
    }

    function ring(context, slot) {
      context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
      context.lineWidth = 2;
      context.strokeRect(sx(slot) - 31, sy(slot) - 31, 62, 62);
    }

    function zoom(factor, x, y) {
      const before = view.scale;
      view.scale = Math.min(ZOOM[1], Math.max(ZOOM[0], view.scale * factor));
      const ratio = view.scale / before;
      view.x = x - MARGIN - (x - MARGIN - view.x) * ratio;
      view.y = y - MARGIN - (y - MARGIN - view.y) * ratio;
      settle();
    }

    function settle() {
      const room = (size) => (size - 2 * MARGIN) * (view.scale - 1);
      view.x = Math.min(0, Math.max(-room(view.width), view.x));
      view.y = Math.min(0, Math.max(-room(view.height), view.y));
      Object.assign(kept, { scale: view.scale, x: view.x, y: view.y });
      canvas.style.touchAction = view.scale > ZOOM[0] ? "none" : "pan-y";
      invalidate();
    }

    function pick(x, y) {
      let best = -1;
      let near = REACH_PX ** 2;
      for (let slot = 0; slot < count; slot++) {
        if (shown && !shown.has(slot)) continue;
        const distance = (sx(slot) - x) ** 2 + (sy(slot) - y) ** 2;
        if (distance < near) [best, near] = [slot, distance];
      }
      return best;
    }

    async function hover(slot, x, y) {
      if (slot !== hovered) { hovered = slot; invalidate(); }
      canvas.style.cursor = slot >= 0 ? "pointer" : "grab";
      if (slot < 0) { tip.hidden = true; return; }
      const [title, label] = await store.name(slot);
      if (slot !== hovered) return;
      tip.replaceChildren(el("strong", { text: label || title }), label ? el("small", { text: title }) : "");
      tip.style.left = `${Math.min(x + 14, view.width - 180)}px`;
      tip.style.top = `${Math.min(y + 14, view.height - 50)}px`;
      tip.hidden = false;
    }

    const go = (slot) => { if (slot >= 0) location.hash = `#/feature/${places.index[slot]}`; };
    const fingers = new Map();
    let moved = 0;

    canvas.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
      moved = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const here = [event.offsetX, event.offsetY];
      const last = fingers.get(event.pointerId);
      if (!last) { hover(pick(...here), ...here); return; }
      moved += Math.hypot(here[0] - last[0], here[1] - last[1]);
      if (fingers.size === 2) {
        const [, other] = [...fingers].find(([id]) => id !== event.pointerId);
        const spread = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
        zoom(spread(here) / spread(last), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
      } else {
        view.x += here[0] - last[0];
        view.y += here[1] - last[1];
        settle();
      }
      fingers.set(event.pointerId, here);
    });
    const lift = (event) => {
      const was = fingers.delete(event.pointerId);
      if (was && moved < 5 && event.type === "pointerup") go(pick(event.offsetX, event.offsetY));
    };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
    canvas.addEventListener("pointerleave", () => hover(-1));
    canvas.addEventListener("wheel", (event) => {
      if (event.deltaY > 0 && view.scale === ZOOM[0]) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const [middleX, middleY] = [view.width / 2, view.height / 2];
      const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
      if (moves[event.key]) { view.x += moves[event.key][0]; view.y += moves[event.key][1]; settle(); }
      else if (event.key === "+" || event.key === "=") zoom(1.5, middleX, middleY);
      else if (event.key === "-") zoom(1 / 1.5, middleX, middleY);
      else if (event.key === "0") zoom(0, middleX, middleY);
      else if (event.key === "Enter") go(hovered >= 0 ? hovered : nearestTo(middleX, middleY));
      else return;
      if (event.key !== "Enter") { const slot = nearestTo(middleX, middleY); hover(slot, sx(slot), sy(slot)); }
      event.preventDefault();
    });

    function nearestTo(x, y) {
      let best = 0;
      for (let slot = 1; slot < count; slot++) {
        if ((sx(slot) - x) ** 2 + (sy(slot) - y) ** 2 < (sx(best) - x) ** 2 + (sy(best) - y) ** 2) best = slot;
      }
      return best;
    }

    new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      if (!width || !height) return;
      const ratio = Math.min(2, devicePixelRatio || 1);
      Object.assign(view, { width, height });
      canvas.width = width * ratio;
      canvas.height = height * ratio;
      settle();
    }).observe(node);

    async function colourBy(name) {
      if (name === "label") {
        const names = await store.names();
        const isDark = dark();
        const counts = new Map();
        for (const [, label] of names) if (label) counts.set(label, (counts.get(label) ?? 0) + 1);
        const labels = [...counts].sort((a, b) => b[1] - a[1]).map(([label, times], place) => [label, hue(place, isDark), times]);
        const own = new Map(labels);
        colours = (slot) => own.get(names[slot][1]) ?? "#8888";
        invalidate();
        return { labels };
      }
      const values = await store.column(name);
      const known = values.filter((value) => !Number.isNaN(value)).sort();
      const end = known.length - 1;
      const [low, high] = [known[Math.floor(CLIPPED * end)] ?? 0, known[Math.ceil((1 - CLIPPED) * end)] ?? 0];
      const share = (value) => Math.min(1, Math.max(0, (value - low) / span));
      const table = palette(dark());
      const span = high - low || 1;
      colours = (slot) => Number.isNaN(values[slot]) ? "#8886" : table[Math.round(share(values[slot]) * (STEPS - 1))];
      invalidate();
      return { range: known.length ? { low, high, below: known[0] < low, above: known[end] > high } : null };
    }

    const only = (slots) => { shown = slots; invalidate(); };
    return { node, colourBy, only, zoomIn: () => zoom(1.6, view.width / 2, view.height / 2), zoomOut: () => zoom(1 / 1.6, view.width / 2, view.height / 2), redraw: invalidate };
  }

  return { create };
})();
