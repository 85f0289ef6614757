"use strict";

/* A long list that is drawn as one scrolls down it. */
Atlas.list = (() => {
  const { el } = Atlas;
  const PAGE = 48;

  function create(tag, draw) {
    const items = el(tag);
    const more = el("div.more");
    const node = el("div", {}, items, more);
    let rows = [];
    let done = 0;
    let turn = 0;
    let busy = false;

    const watch = new IntersectionObserver((entries) => { if (entries.some((one) => one.isIntersecting)) grow(); }, { rootMargin: "1200px" });
    watch.observe(more);

    async function grow() {
      if (busy || done >= rows.length) return;
      busy = true;
      const mine = turn;
      const part = rows.slice(done, done + PAGE);
      let nodes;
      try {
        nodes = await Promise.all(part.map(draw));
      } finally {
        busy = false;
        if (mine !== turn) grow();
      }
      if (mine !== turn) return;
      items.append(...nodes);
      done += part.length;
      if (done < rows.length) { watch.unobserve(more); watch.observe(more); }
    }

    function show(next) {
      rows = next;
      done = 0;
      turn++;
      items.replaceChildren();
      watch.unobserve(more);
      watch.observe(more);
    }

    return { node, show };
  }

  return { create };
})();
