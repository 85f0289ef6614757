import { clear, tell } from "./notices.js";

const POLL_MS = 2_000;
const AFTER_FAILURE_MS = 10_000;

export function polled(draw) {
  let timer = null;
  let visit = 0;

  async function turn(mine, failed = false) {
    try {
      if (!document.hidden) await draw();
      if (mine !== visit) return;
      if (failed) clear();
      timer = setTimeout(turn, POLL_MS, mine);
    } catch (problem) {
      if (mine !== visit) return;
      tell(problem);
      timer = setTimeout(turn, AFTER_FAILURE_MS, mine, true);
    }
  }

  function close() {
    visit += 1;
    clearTimeout(timer);
  }

  return {
    open() {
      close();
      return turn(visit);
    },
    close,
  };
}
