import { held } from "./key.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const python = (value) =>
  JSON.stringify(value)
    .replace(/("(?:[^"\\]|\\.)*")|\b(null|true|false)\b/g, (_, text, word) => text ?? { null: "None", true: "True", false: "False" }[word]);

export const json = (spec) => JSON.stringify(spec, null, 2);

export function curl(spec, { name }) {
  const key = held() ? " \\\n  -H \"Authorization: Bearer $ACCENTOR_API_KEY\"" : "";
  const api = location.origin;
  return [
    "# the picture, once",
    `curl -s -X PUT --data-binary @${quoted(name)} ${api}/v1/images/${spec.image} \\\n  -H 'Content-Type: application/octet-stream'${key}`,
    `curl -s ${api}/v1/jobs -H 'Content-Type: application/json' -H 'Prefer: wait=60'${key} \\\n  -d ${quoted(JSON.stringify(spec))}`,
    "",
  ].join("\n");
}

export function pythonOf(spec, { name }) {
  const key = held() ? ', api_key=os.environ["ACCENTOR_API_KEY"]' : "";
  const seed = spec.seed ? `\n    seed=${spec.seed},` : "";
  return `${held() ? "import os\n\n" : ""}from accentor_client import Client

client = Client("${location.origin}"${key})
job = client.jobs.create(
    model=${python(spec.model)},
    feature=${python(spec.feature)},
    image=${python(name)},${seed}
    recipe=${python(spec.recipe)},
).wait(timeout=120)
job.result.overlay.show()
`;
}

export const writers = { curl, python: pythonOf, json };
