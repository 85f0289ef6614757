import { Problem, path, post, read } from "./api.js";

const AT_ONCE = 4;
const LOOK_MS = 500;
const REFUSED = new Set(["invalid-image", "too-large", "unsupported-media-type"]);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function members(files) {
  return [...files]
    .filter((file) => file.type.startsWith("image/"))
    .map((file) => {
      const parts = (file.webkitRelativePath || file.name).split("/");
      const inside = parts.length > 1 ? parts.slice(1) : parts;
      return { file, id: inside.join("/"), label: inside.length > 1 ? inside.at(-2) : null };
    })
    .sort((one, other) => (one.id < other.id ? -1 : 1));
}

async function upload(file) {
  for (;;) {
    try {
      return (await read("/v1/images", { method: "POST", body: file, type: file.type })).id;
    } catch (problem) {
      if (problem.status !== 429) throw problem;
      await pause((problem.retryAfter ?? 1) * 1000);
    }
  }
}

export async function gather(name, found, onUpload) {
  const [images, skipped, waiting] = [[], [], [...found]];
  async function work() {
    for (let one = waiting.shift(); one; one = waiting.shift()) {
      try {
        images.push({ image: await upload(one.file), id: one.id, ...(one.label ? { label: one.label } : {}) });
      } catch (problem) {
        if (!REFUSED.has(problem.code)) {
          waiting.length = 0;
          throw problem;
        }
        skipped.push({ id: one.id, reason: problem.message });
      }
      onUpload(images.length + skipped.length);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  images.sort((one, other) => (one.id < other.id ? -1 : 1));
  await post("/v1/datasets", { name, images, skipped });
  for (;;) {
    const { state, failure, card } = await read(`/v1/datasets/${path(name)}`);
    if (state === "ready") return card;
    if (state === "failed") throw new Problem(failure);
    await pause(LOOK_MS);
  }
}
