"use strict";

/* A feature in one image: the picture at any strength, the opacity map over it, or what changed. */
Atlas.viewer = (() => {
  const { el, number, signed } = Atlas;
  const DIM = 0.65;
  const COPIED_MS = 2000;
  const DIFFERENCE_DOUBLINGS = 2;
  const MARKS = {
    "dead-on-seed": ["dead on the seed", "The feature does not fire on the seed: the way starts without a gradient of its own."],
    "not-converged": ["not converged", "The value was still rising at the last step."],
    "seeds-disagree": ["seeds disagree", "Two random seeds gave pictures that differ."],
  };

  const settings = { view: "what", opacity: 0 };
  const open = new Set();

  function scratch(width, height) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    return canvas;
  }

  function between(frames, strength) {
    let right = frames.findIndex((frame) => frame.strength >= strength);
    if (right < 0) right = frames.length - 1;
    const left = frames[right].strength > strength && right > 0 ? right - 1 : right;
    const span = frames[right].strength - frames[left].strength;
    return { left, right, share: span ? (strength - frames[left].strength) / span : 0 };
  }

  function paint(state) {
    const { canvas, strip, where, shown, strength } = state;
    if (!strip?.complete || !strip.naturalWidth) return;
    const { width, height, frames } = shown;
    const draw = canvas.getContext("2d");
    const seedPlace = Math.max(0, frames.findIndex((frame) => frame.strength === 0));
    const put = (target, place) => target.drawImage(strip, place * width, 0, width, height, 0, 0, width, height);
    const mix = scratch(width, height);
    const mixer = mix.getContext("2d");
    const { left, right, share } = between(frames, strength);
    put(mixer, left);
    if (right !== left) {
      mixer.globalAlpha = share;
      put(mixer, right);
      mixer.globalAlpha = 1;
    }
    draw.globalAlpha = 1;
    draw.globalCompositeOperation = "source-over";
    const map = where?.complete && where.naturalWidth ? where : null;
    if (settings.view === "where") {
      draw.fillStyle = "#000";
      draw.fillRect(0, 0, width, height);
      if (map) draw.drawImage(map, 0, 0, width, height);
      return;
    }
    if (settings.view === "difference") {
      put(draw, seedPlace);
      draw.globalCompositeOperation = "difference";
      draw.drawImage(mix, 0, 0);
      draw.globalCompositeOperation = "lighter";
      for (let doubling = 0; doubling < DIFFERENCE_DOUBLINGS; doubling++) {
        const copy = scratch(width, height);
        copy.getContext("2d").drawImage(canvas, 0, 0);
        draw.drawImage(copy, 0, 0);
      }
      return;
    }
    draw.drawImage(mix, 0, 0);
    if (!map || settings.opacity === 0) return;
    const backdrop = scratch(width, height);
    const behind = backdrop.getContext("2d");
    put(behind, seedPlace);
    behind.fillStyle = `rgba(0, 0, 0, ${DIM})`;
    behind.fillRect(0, 0, width, height);
    draw.globalAlpha = settings.opacity;
    draw.drawImage(backdrop, 0, 0);
    draw.globalAlpha = 1;
    mixer.globalCompositeOperation = "destination-in";
    mixer.drawImage(map, 0, 0, width, height);
    draw.drawImage(mix, 0, 0);
  }

  function readout(state) {
    const { frames } = state.shown;
    const { left, right, share } = between(frames, state.strength);
    const nearest = frames[share < 0.5 ? left : right];
    const seed = frames.find((frame) => frame.strength === 0) ?? frames[0];
    const ranks = [seed, nearest].map((frame) => frame.percentile).filter((one) => one !== null && one !== undefined);
    const reached = [ranks.length === 2 && `percentile ${ranks.map((one) => number(one)).join(" → ")}`, nearest.distance && `distance ${number(nearest.distance)}`].filter(Boolean).join(" · ");
    state.before.textContent = number(seed.value);
    state.after.textContent = number(nearest.value);
    state.reached.textContent = reached;
    state.at.textContent = state.strength === 0 ? "seed" : `${state.strength < 0 ? "suppressed" : "strength"} ${signed(state.strength, 2)}`;
    state.slider.setAttribute("aria-valuetext", `${state.at.textContent}: value ${number(seed.value)} → ${number(nearest.value)} ${reached}`);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      target.fetchPictures();
    }
  }, { rootMargin: "300px" });

  function start(frames) {
    const strengths = frames.map((frame) => frame.strength);
    return strengths.includes(1) ? 1 : Math.max(...strengths);
  }

  function view(shown, { title, subtitle = "", href = null, alt }) {
    const heading = href ? el("a", { href, text: title }) : el("span", { text: title });
    const marks = (shown.marks ?? []).map((mark) => el("span.badge.warn", { title: MARKS[mark]?.[1], text: MARKS[mark]?.[0] ?? mark }));
    const caption = el("div.viewer-head", {}, heading, subtitle ? el("small", { text: subtitle }) : null);
    if (!shown.strip || !shown.frames?.length) {
      return el("article.viewer", {}, el("div.missing-picture", { role: "img", "aria-label": `No picture: ${shown.failure ?? "not made"}` },
        el("strong", { text: "No picture" }), el("span", { text: shown.failure ?? "It was not made." })), caption, el("div.marks", {}, marks));
    }
    const strengths = shown.frames.map((frame) => frame.strength);
    const ticks = `ticks-${Math.random().toString(36).slice(2)}`;
    const state = {
      shown, strength: start(shown.frames), strip: null, where: null,
      canvas: el("canvas", { width: shown.width, height: shown.height, role: "img", "aria-label": alt }),
      slider: el("input", { type: "range", min: Math.min(...strengths), max: Math.max(...strengths), step: 0.01, list: ticks, "aria-label": `Strength: ${alt}` }),
      before: el("b"), after: el("b"), reached: el("small"), at: el("output.at"),
    };
    const set = (strength) => {
      state.strength = Math.min(Math.max(strength, strengths[0]), strengths[strengths.length - 1]);
      state.slider.value = state.strength;
      readout(state);
      paint(state);
    };
    state.slider.addEventListener("input", () => set(Number(state.slider.value)));
    const box = el("div.canvas-box", {}, state.canvas);
    box.style.width = `${100 * Math.min(1, shown.width / shown.height)}%`;
    if (shown.box) {
      const [x, y, w, h] = shown.box;
      const peak = el("span.peak", { title: "Where the feature is highest" });
      Object.assign(peak.style, { left: `${x * 100}%`, top: `${y * 100}%`, width: `${w * 100}%`, height: `${h * 100}%` });
      box.append(peak);
    }
    const node = el("article.viewer", {}, el("div.canvas-frame", {}, box),
      el("div.scrub", {}, state.slider, el("datalist", { id: ticks }, strengths.map((one) => el("option", { value: one })))),
      el("div.reading", {}, state.at, el("span.values", {}, state.before, " → ", state.after), state.reached),
      caption, marks.length ? el("div.marks", {}, marks) : null,
      el("div.actions", {},
        shown.job ? copyButton(shown.job) : null,
        el("a.quiet", { href: `pictures/${shown.strip}`, download: "", title: "All strengths side by side", text: "download" }),
        shown.where ? el("a.quiet", { href: `pictures/${shown.where}`, download: "", title: "The opacity map, as the alpha of a white picture", text: "map" }) : null));
    node.fetchPictures = () => {
      state.strip = Object.assign(new Image(), { onload: () => { node.dataset.ready = "yes"; paint(state); } });
      state.strip.src = `pictures/${shown.strip}`;
      if (shown.where) {
        state.where = Object.assign(new Image(), { onload: () => paint(state) });
        state.where.src = `pictures/${shown.where}`;
      }
    };
    node.setStrength = set;
    node.repaint = () => paint(state);
    set(state.strength);
    seen.observe(node);
    open.add(node);
    return node;
  }

  function copyButton(job) {
    const button = el("button.quiet", { type: "button", text: "copy as job" });
    button.addEventListener("click", async () => {
      const text = JSON.stringify(job, null, 2);
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "copied";
        setTimeout(() => { button.textContent = "copy as job"; }, COPIED_MS);
      } catch {
        const area = el("textarea.copied", { readonly: true, rows: 6, "aria-label": "The job" });
        area.value = text;
        button.replaceWith(area);
        area.select();
      }
    });
    return button;
  }

  function controls(frames = []) {
    const all = (change) => { for (const node of open) if (node.isConnected) change(node); else open.delete(node); };
    const toggle = el("div.toggle", { role: "group", "aria-label": "What is drawn" });
    for (const [name, text] of [["what", "what"], ["where", "where"], ["difference", "difference"]]) {
      toggle.append(el("button", {
        type: "button", "aria-pressed": String(settings.view === name), text,
        onclick: (event) => {
          settings.view = document.documentElement.dataset.view = name;
          for (const one of toggle.children) one.setAttribute("aria-pressed", String(one === event.target));
          all((node) => node.repaint());
        },
      }));
    }
    const opacity = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: settings.opacity, id: "opacity" });
    opacity.addEventListener("input", () => { settings.opacity = Number(opacity.value); all((node) => node.repaint()); });
    const strengths = frames.map((frame) => frame.strength);
    const strength = strengths.length > 1
      ? el("input", { type: "range", min: Math.min(...strengths), max: Math.max(...strengths), step: 0.01, value: start(frames), id: "strength" }) : null;
    strength?.addEventListener("input", () => all((node) => node.setStrength(Number(strength.value))));
    return el("div.controls", { role: "group", "aria-label": "All pictures" },
      toggle,
      strength ? el("label", {}, el("span", { text: "strength" }), strength) : null,
      el("label", {}, el("span", { text: "opacity map" }), opacity));
  }

  return { view, controls, MARKS };
})();
