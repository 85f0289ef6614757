import { make, show } from "./dom.js";

const SHOWN = 80;
const TYPED_MS = 200;

export class Combobox {
  #input;
  #list;
  #options = [];
  #found = [];
  #text = "";
  #at = -1;
  #picked = null;
  #search = null;
  #picture = () => null;
  #typed = null;
  #onPick;

  constructor(input, list, onPick) {
    this.#input = input;
    this.#list = list;
    this.#onPick = onPick;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", `${input.id} options`);
    for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id })) {
      input.setAttribute(name, value);
    }
    input.addEventListener("focus", () => input.select());
    input.addEventListener("click", () => this.#open(""));
    input.addEventListener("input", () => {
      this.#open(input.value);
      this.#lookFurther(input.value);
    });
    input.addEventListener("keydown", (event) => this.#onKey(event));
    input.addEventListener("blur", () => this.#close());
    list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const row = event.target.closest("[role=option]");
      if (row) this.pick(this.#found[Number(row.dataset.at)]);
    });
  }

  set options(options) {
    this.#options = options;
  }

  set search(search) {
    this.#search = search;
  }

  set picture(picture) {
    this.#picture = picture;
  }

  get picked() {
    return this.#picked;
  }

  pick(option, { quiet = false } = {}) {
    this.#picked = option ?? null;
    this.#input.value = option?.label ?? "";
    this.#close();
    if (option && !quiet) this.#onPick(option);
  }

  pickValue(value, options) {
    const found = this.#options.find((option) => option.value === value || option.other === value);
    this.pick(found, options);
    return found ?? null;
  }

  has(value) {
    return this.#options.some((option) => option.value === value || option.other === value);
  }

  redraw() {
    if (this.isOpen) this.#draw(this.#found, this.#text);
  }

  get isOpen() {
    return !this.#list.hidden;
  }

  #open(text) {
    this.#draw(matching(this.#options, text), text);
  }

  #lookFurther(text) {
    clearTimeout(this.#typed);
    if (!this.#search || !text.trim()) return;
    this.#typed = setTimeout(async () => {
      const further = await this.#search(text.trim()).catch(() => []);
      if (further.length && this.isOpen && this.#input.value === text) {
        this.#draw([...further, ...matching(this.#options, text)], text);
      }
    }, TYPED_MS);
  }

  #draw(found, text) {
    this.#found = found;
    this.#text = text;
    const shown = this.#found.slice(0, SHOWN);
    const rest = this.#found.length - shown.length;
    this.#list.replaceChildren(
      ...shown.map((option, at) =>
        make(
          "li",
          { role: "option", id: `${this.#list.id}-${at}`, "data-at": at, "aria-selected": String(option.value === this.#picked?.value) },
          this.#picture(option),
          make("span", { class: "label" }, option.label),
          option.detail ? make("small", {}, option.detail) : null,
        ),
      ),
      ...(rest > 0 ? [make("li", { class: "rest", role: "presentation" }, `${rest.toLocaleString()} more: type to narrow`)] : []),
      ...(this.#found.length ? [] : [make("li", { class: "rest", role: "presentation" }, "nothing of that name")]),
    );
    show(this.#list);
    this.#input.setAttribute("aria-expanded", "true");
    this.#mark(text ? 0 : shown.findIndex(({ value }) => value === this.#picked?.value));
  }

  #close() {
    if (!this.isOpen) return;
    show(this.#list, false);
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
    this.#input.value = this.#picked?.label ?? "";
  }

  #mark(at) {
    this.#list.querySelector(".at")?.classList.remove("at");
    const row = this.#list.querySelectorAll("[role=option]")[at];
    this.#at = row ? at : -1;
    if (!row) return;
    row.classList.add("at");
    row.scrollIntoView({ block: "nearest" });
    this.#input.setAttribute("aria-activedescendant", row.id);
  }

  #onKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step) {
      event.preventDefault();
      if (!this.isOpen) this.#open("");
      const last = Math.min(this.#found.length, SHOWN) - 1;
      this.#mark(Math.min(Math.max(this.#at + step, 0), last));
    } else if (event.key === "Enter" && this.isOpen) {
      event.preventDefault();
      if (this.#at >= 0) this.pick(this.#found[this.#at]);
    } else if (event.key === "Escape" && this.isOpen) {
      event.stopPropagation();
      this.#close();
    }
  }
}

export function matching(options, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return options;
  const rank = (option) => {
    const label = option.label.toLowerCase();
    if (label === wanted || option.value === wanted) return 0;
    if (label.startsWith(wanted)) return 1;
    if (label.split(/[\s._]/).some((word) => word.startsWith(wanted))) return 2;
    return label.includes(wanted) || option.detail?.toLowerCase().includes(wanted) ? 3 : 4;
  };
  return options
    .map((option) => [rank(option), option])
    .filter(([place]) => place < 4)
    .sort(([one], [other]) => one - other)
    .map(([, option]) => option);
}
