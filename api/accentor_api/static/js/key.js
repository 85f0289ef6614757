import { find } from "./dom.js";

const PLACE = "accentor.key";
const CHANGED = "accentor-key";

const USED = "used";

let isDismissed = false;

export const held = () => sessionStorage.getItem(PLACE) ?? "";

export function ask(reason) {
  const dialog = find("key-dialog");
  if (reason && isDismissed) return;
  if (reason) find("key-reason").textContent = `${reason[0].toUpperCase()}${reason.slice(1)}.`;
  if (dialog.open) return;
  dialog.returnValue = "";
  find("key").value = held();
  dialog.showModal();
  find("key").focus();
}

export const onChange = (call) => addEventListener(CHANGED, call);

function keep(text) {
  if (text) sessionStorage.setItem(PLACE, text);
  else sessionStorage.removeItem(PLACE);
  isDismissed = false;
  mark();
  dispatchEvent(new Event(CHANGED));
}

function mark() {
  find("key-button").textContent = held() ? "API key ✓" : "API key";
}

export function begin() {
  mark();
  find("key-button").addEventListener("click", () => ask());
  find("key-dialog").addEventListener("close", () => {
    isDismissed = find("key-dialog").returnValue !== USED;
  });
  find("key-close").addEventListener("click", () => find("key-dialog").close());
  find("key-forget").addEventListener("click", () => {
    find("key-dialog").close();
    keep("");
  });
  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    find("key-dialog").close(USED);
    keep(find("key").value.trim());
  });
}
