"use strict";

/* The site's one global: chunks that register themselves, elements made of text alone, numbers as text. */
globalThis.Atlas = (() => {
  const KEPT = 96;
  const waiting = new Map();
  const chunks = new Map();

  function register(name, data) {
    waiting.get(name)?.resolve(data);
  }

  function load(name) {
    if (chunks.has(name)) return chunks.get(name);
    const promise = new Promise((resolve, reject) => {
      waiting.set(name, { resolve });
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onerror = () => { script.remove(); chunks.delete(name); reject(new Error(`data/${name}.js is missing`)); };
      script.onload = () => { script.remove(); waiting.delete(name); };
      document.head.append(script);
    });
    chunks.set(name, promise);
    forgetOld();
    return promise;
  }

  function forgetOld() {
    const large = [...chunks.keys()].filter((name) => /^(features|images|errors)\/\d+$/.test(name));
    for (const name of large.slice(0, Math.max(0, large.length - KEPT))) chunks.delete(name);
  }

  function el(tag, options = {}, ...children) {
    const [name, ...classes] = tag.split(".");
    const node = document.createElement(name);
    if (classes.length) node.className = classes.join(" ");
    for (const [key, value] of Object.entries(options)) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "text") node.textContent = value;
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  }

  function number(value, digits = 3) {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("-", "−").replace("e−", "e-");
    return Number(value.toPrecision(digits)).toString().replace("-", "−");
  }

  const count = (value) => value.toLocaleString("en");
  const plural = (value, name) => `${count(value)} ${name}${value === 1 ? "" : "s"}`;
  const signed = (value, digits) => (value > 0 ? "+" : "") + number(value, digits);
  const percent = (share) => (share === null || share === undefined ? "–" : `${number(share * 100)} %`);
  const ordinal = (value) => (value === null || value === undefined ? "" : `percentile ${number(value)}`);

  return { register, load, el, number, count, plural, signed, percent, ordinal };
})();
