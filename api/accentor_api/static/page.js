const POLL_MS = 2000;
const SHOWN = 12;

const element = (id) => document.getElementById(id);

async function read(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

function filled(template, fields) {
  const node = element(template).content.firstElementChild.cloneNode(true);
  for (const [name, fill] of Object.entries(fields)) fill(node.querySelector(`[data-${name}]`));
  return node;
}

const text = (value) => (node) => {
  node.textContent = value;
};

function duration(seconds) {
  if (seconds === null) return "";
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function modelCard(model) {
  const outputs = model.outputs === null ? "" : `${model.outputs} logits, `;
  return filled("model", {
    name: text(model.name),
    facts: text(`${outputs}${model.layers} layers, ${model.input_size} px`),
  });
}

function batchRow(batch) {
  const { succeeded, failed } = batch.counts;
  return filled("batch", {
    id: (node) => {
      node.textContent = batch.id.slice(0, 8);
      node.title = batch.id;
      node.href = `/v1/batches/${batch.id}`;
    },
    model: text(batch.model),
    state: (node) => {
      node.textContent = batch.state.replace("_", " ");
      node.dataset.kind = batch.state;
    },
    progress: (node) => {
      node.max = batch.total;
      node.value = succeeded + failed;
      node.setAttribute("aria-label", `${node.value} of ${batch.total} jobs computed`);
    },
    done: text(`${succeeded} / ${batch.total}`),
    failed: text(failed || ""),
    left: text(duration(batch.eta_s)),
  });
}

async function refresh() {
  try {
    const [models, batches] = await Promise.all([read("/v1/models"), read(`/v1/batches?limit=${SHOWN}`)]);
    element("models").replaceChildren(...models.data.map(modelCard));
    element("batches").replaceChildren(...batches.data.map(batchRow));
    element("empty").hidden = batches.data.length > 0;
    element("table").hidden = batches.data.length === 0;
    element("health").textContent = models.data.length ? "Ready." : "Up; no worker has announced a model yet.";
  } catch (error) {
    element("health").textContent = `Not answering: ${error.message}`;
  }
  if (!document.hidden) setTimeout(refresh, POLL_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
for (const node of document.querySelectorAll("[data-origin]")) node.textContent = location.origin;
refresh();
