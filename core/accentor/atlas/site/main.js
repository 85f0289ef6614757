"use strict";

/* Which page is open: the part of the address after the hash, and what it asks for after a question mark. */
(() => {
  const { el, store } = Atlas;
  const main = document.getElementById("main");
  const nav = document.getElementById("nav");
  const ROUTES = [
    [/^\/?$/, (_, asked) => Atlas.overview.page(asked)],
    [/^\/feature\/(\d+)$/, (index) => Atlas.feature.page(Number(index))],
    [/^\/images$/, () => Atlas.images.all()],
    [/^\/image\/(\d+)$/, (index) => Atlas.images.page(Number(index))],
    [/^\/errors$/, () => Atlas.errors.page()],
  ];
  const SCROLL_TRIES = 40;
  const SCROLL_MS = 50;
  const scrolled = new Map();
  let entry = null;
  let turn = 0;
  let current = null;

  async function open() {
    const [route, asked] = location.hash.replace(/^#/, "").split("?");
    const mine = ++turn;
    const [match, make] = ROUTES.map(([form, page]) => [form.exec(route), page]).find(([found]) => found) ?? [null, null];
    let page;
    try {
      page = match ? await make(match[1], new URLSearchParams(asked)) : lost(`There is no page ${route}.`);
    } catch (error) {
      page = lost(error.message);
    }
    if (mine !== turn) return;
    const first = current === null;
    current = page;
    main.replaceChildren(page.node);
    main.dataset.route = route || "/";
    document.title = page.title;
    if (!first) main.focus({ preventScroll: true });
    entry = history.state?.entry ?? Math.random();
    history.replaceState({ entry }, "");
    scrollTo(scrolled.get(entry) ?? 0, mine);
    const section = /^\/image\//.test(route) ? "#/images" : `#${route || "/"}`;
    for (const link of nav.children) {
      if (link.getAttribute("href") === section) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  /* A list grows as one scrolls down it, so that a place far down is reached in several turns. */
  function scrollTo(place, mine, tries = SCROLL_TRIES) {
    if (mine !== turn) return;
    window.scrollTo(0, place);
    if (window.scrollY < place - 1 && tries) setTimeout(() => scrollTo(place, mine, tries - 1), SCROLL_MS);
  }

  const lost = (text) => ({ node: el("div", {}, el("h1", { text: "Not here" }), el("p.note", { text }), el("p", {}, el("a", { href: "#/", text: "To the overview" }))), title: "Atlas" });

  function remembered() {
    try { return localStorage.getItem("accentor-theme"); } catch { return null; }
  }

  function setTheme(theme) {
    if (theme) document.documentElement.dataset.theme = theme;
    current?.redraw?.();
  }

  document.getElementById("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).getPropertyValue("--is-dark").trim() === "1";
    const next = dark ? "light" : "dark";
    try { localStorage.setItem("accentor-theme", next); } catch { /* Stored nowhere: it holds for this visit. */ }
    setTheme(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => current?.redraw?.());

  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });

  addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      const search = document.getElementById("search");
      if (search) { search.focus(); event.preventDefault(); }
    }
    const next = current?.keys?.[event.key];
    if (next) location.hash = next;
  });

  history.scrollRestoration = "manual";
  addEventListener("hashchange", () => {
    scrolled.set(entry, window.scrollY);
    open();
  });
  setTheme(remembered());
  store.head().then((about) => {
    document.getElementById("brand").textContent = about.title;
    const links = [["#/", "Overview"], about.images ? ["#/images", "Images"] : null, about.misclassified ? ["#/errors", "Errors"] : null];
    nav.replaceChildren(...links.filter(Boolean).map(([href, text]) => el("a", { href, text })));
    return open();
  }).catch(open);
})();
