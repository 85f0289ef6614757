import { held } from "./key.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const python = (value) =>
  JSON.stringify(value)
    .replace(/("(?:[^"\\]|\\.)*")|\b(null|true|false)\b/g, (_, text, word) => text ?? { null: "None", true: "True", false: "False" }[word]);

export const json = (spec) => JSON.stringify(spec, null, 2);

/* A picture that was no file here is named by its sha256: the service has it. */
export function curl(spec, { file }) {
  const key = held() ? " \\\n  -H \"Authorization: Bearer $ACCENTOR_API_KEY\"" : "";
  const api = location.origin;
  const upload = () => [
    "# the picture, once",
    `curl -s -X PUT --data-binary @${quoted(file)} ${api}/v1/images/${spec.image} \\\n  -H 'Content-Type: application/octet-stream'${key}`,
  ];
  return [
    ...(file ? upload() : []),
    `curl -s ${api}/v1/jobs -H 'Content-Type: application/json' -H 'Prefer: wait=60'${key} \\\n  -d ${quoted(JSON.stringify(spec))}`,
    "",
  ].join("\n");
}

export function pythonOf(spec, { file }) {
  const key = held() ? ', api_key=os.environ["ACCENTOR_API_KEY"]' : "";
  const seed = spec.seed ? `\n    seed=${spec.seed},` : "";
  return `${held() ? "import os\n\n" : ""}from accentor_client import Client

client = Client("${location.origin}"${key})
job = client.jobs.create(
    model=${python(spec.model)},
    feature=${python(spec.feature)},
    image=${python(file ?? spec.image)},${seed}
    recipe=${python(spec.recipe)},
).wait(timeout=120)
job.result.overlay.show()
`;
}

export const writers = { curl, python: pythonOf, json };
