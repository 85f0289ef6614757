const place = (at) => (at ? `@${at.rows.join(":")},${at.columns.join(":")}` : "");
const weight = (value) => (value === 1 ? "" : `${value}*`);

const ATOMS = {
  logit: ({ unit }) => `logit:${unit}`,
  channel: ({ layer, unit, at }) => `channel:${layer}:${unit}${place(at)}`,
  neuron: ({ layer, unit, position }) => `neuron:${layer}:${unit}${position ? `@${position}` : ""}`,
  dictionary: ({ dictionary, unit }) => `dictionary:${dictionary}#${unit}`,
  blur: () => "blur:input",
};

function atom(feature) {
  const write = ATOMS[feature.kind];
  if (!write) throw new TypeError(`${feature.kind} has no short form`);
  return write(feature);
}

const monomial = (feature) => (feature.kind === "product" ? feature.factors.map(atom).join(" * ") : atom(feature));

function sum({ terms }) {
  const written = terms.map(({ weight: factor, feature }, index) => {
    const sign = factor < 0 ? (index ? " - " : "-") : index ? " + " : "";
    return `${sign}${weight(Math.abs(factor))}${monomial(feature)}`;
  });
  return written.join("");
}

export function spoken(feature) {
  if (typeof feature === "string") return feature;
  try {
    return feature.kind === "sum" ? sum(feature) : monomial(feature);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return JSON.stringify(feature);
  }
}

export const title = (feature) => (feature.startsWith("{") ? `${JSON.parse(feature).kind} …` : feature);

export const parsed = (text) => (text.startsWith("{") ? JSON.parse(text) : text);

export function negated(text) {
  if (text.startsWith("{")) return JSON.stringify(turned(JSON.parse(text)));
  const signed = /^[-+]/.test(text) ? text : `+${text}`;
  return signed.replace(/(^|\s)([-+])(?=\s|[\d.a-z])/g, (_, before, sign) => before + (sign === "-" ? "+" : "-")).replace(/^\+\s*/, "");
}

function turned(feature) {
  const terms = feature.kind === "sum" ? feature.terms : [{ weight: 1, feature }];
  return { kind: "sum", terms: terms.map((term) => ({ ...term, weight: -term.weight })) };
}
