import { duration, find, make, number, pairs, show } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 240;
const HEIGHT = 64;
const MARGIN = 4;

let points = [];

export function clear() {
  points = [];
  show(find("readings"), false);
  show(find("notes"), false);
  show(find("progress"), false);
}

export function progress({ step, steps, value }) {
  const bar = find("progress");
  bar.max = steps;
  bar.value = step;
  show(bar);
  if (value !== null) points.push([step, value]);
  figures({ step: `${step} of ${steps}`, "value over crops": number(value) });
  curve("The feature’s value over the steps");
}

export function result(done) {
  show(find("progress"), false);
  points = done.trajectory.map(({ step, value }) => [step, value]);
  if (points.length && points[0][0] > 0) points.unshift([0, done.before]);
  figures({
    before: number(done.before),
    after: number(done.after),
    gain: `${done.after >= done.before ? "+" : ""}${number(done.after - done.before)}`,
    distance: number(done.trajectory.at(-1)?.distance),
    size: `${done.width}×${done.height}`,
    took: duration(done.seconds),
  });
  curve(`The feature’s value from ${number(done.before)} to ${number(done.after)}`);
  find("notes").replaceChildren(...done.notes.map((note) => make("li", {}, note)));
  show(find("notes"), done.notes.length > 0);
}

function figures(entries) {
  show(find("readings"));
  find("figures").replaceChildren(...pairs(entries));
}

function curve(description) {
  const svg = find("curve");
  svg.setAttribute("aria-label", description);
  if (points.length < 2) {
    svg.replaceChildren();
    return;
  }
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const place = (value, values, from, to) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return high === low ? (from + to) / 2 : from + ((value - low) / (high - low)) * (to - from);
  };
  const line = document.createElementNS(SVG, "polyline");
  const at = ([x, y]) => `${place(x, xs, MARGIN, WIDTH - MARGIN).toFixed(1)},${place(y, ys, HEIGHT - MARGIN, MARGIN).toFixed(1)}`;
  line.setAttribute("points", points.map(at).join(" "));
  svg.replaceChildren(line);
}
