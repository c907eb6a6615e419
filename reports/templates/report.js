"use strict";
// Comfort for the reader; without it the page says the same. Nothing here makes HTML from text.
(() => {
  const LONG = 8; // tables and lists with more entries than this get a filter

  const all = (selector, where = document) => [...where.querySelectorAll(selector)];

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const say = (() => {
    const line = make("p", { className: "unseen", role: "status" });
    document.querySelector("main").append(line);
    return (text) => { line.textContent = text; };
  })();

  // ---- light and dark ----

  function themeSwitch() {
    const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
    const button = make("button", { type: "button", id: "theme" }, "Dark");
    const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
    const show = () => button.setAttribute("aria-pressed", String(dark()));
    button.addEventListener("click", () => {
      const wanted = dark() ? "light" : "dark", theirs = wanted === (system.matches ? "dark" : "light");
      if (theirs) delete root.dataset.theme; else root.dataset.theme = wanted;
      try {
        if (theirs) localStorage.removeItem("harness-theme"); else localStorage.setItem("harness-theme", wanted);
      } catch { /* kept for this view alone */ }
      show();
    });
    system.addEventListener("change", show);
    show();
    return button;
  }

  // ---- what is folded ----

  function unfoldAll() {
    const parts = all("main details");
    const button = make("button", { type: "button", id: "unfold" }, "Unfold all");
    button.addEventListener("click", () => {
      const open = parts.some((part) => !part.open);
      for (const part of parts) part.open = open;
      button.textContent = open ? "Fold all" : "Unfold all";
    });
    return parts.length ? button : "";
  }

  function unfoldForPaper() {
    let folded = [];
    addEventListener("beforeprint", () => {
      folded = all("details:not([open])");
      for (const part of folded) part.open = true;
    });
    addEventListener("afterprint", () => { for (const part of folded) part.open = false; });
  }

  function unfoldTarget() {
    const show = () => {
      const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (!target) return;
      for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
      target.scrollIntoView();
    };
    addEventListener("hashchange", show);
    show();
  }

  // ---- contents ----

  function contents() {
    const fold = document.querySelector("nav > details"), narrow = matchMedia("(max-width: 70rem)");
    const suit = () => { fold.open = !narrow.matches; };
    narrow.addEventListener("change", suit);
    suit();
    const links = new Map(all("nav a").map((a) => [a.hash.slice(1), a]));
    const seen = new Set();
    const watch = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) seen[isIntersecting ? "add" : "delete"](target);
      const first = [...seen].sort((a, b) => (a.compareDocumentPosition(b) & 2 ? 1 : -1))[0];
      for (const a of links.values()) a.removeAttribute("aria-current");
      if (first) links.get(first.getAttribute("aria-labelledby"))?.setAttribute("aria-current", "true");
    }, { rootMargin: "0px 0px -70% 0px" });
    for (const part of all("main section[aria-labelledby]")) watch.observe(part);
  }

  // ---- tables ----

  const NUMBER = /^[<>≤≥~]?\s*([-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)/i;

  const shown = (cell) => cell?.dataset.sort ?? cell?.textContent.trim() ?? "";

  const blank = (text) => text === "" || text === "none" || text === "–";

  function number(text) {
    const found = NUMBER.exec(text.replaceAll("−", "-"));
    return found ? Number(found[1].replaceAll(",", "")) : NaN;
  }

  // The rows in order; what has no value comes last either way.
  function sorted(rows, column, direction) {
    const keys = new Map(rows.map((row) => [row, shown(row.cells[column])]));
    const filled = rows.filter((row) => !blank(keys.get(row)));
    const numeric = filled.every((row) => !Number.isNaN(number(keys.get(row))));
    const words = new Intl.Collator("en", { numeric: true });
    const compare = numeric
      ? (a, b) => number(keys.get(a)) - number(keys.get(b))
      : (a, b) => words.compare(keys.get(a), keys.get(b));
    return [...filled.sort((a, b) => direction * compare(a, b)), ...rows.filter((row) => blank(keys.get(row)))];
  }

  function sortable(table) {
    const body = table.tBodies[0], rows = [...body.rows], heads = all("thead th", table);
    if (rows.length < 2 || table.tHead.rows.length > 1 || table.querySelector("[colspan], [rowspan]")) return;
    heads.forEach((head, column) => {
      const button = make("button", { type: "button", className: "sort" }, ...head.childNodes);
      if (!button.textContent.trim()) return;
      head.append(button);
      button.addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        const next = { ascending: "descending", descending: null }[was] ?? (was ? null : "ascending");
        for (const other of heads) other.removeAttribute("aria-sort");
        if (next) head.setAttribute("aria-sort", next);
        body.append(...(next ? sorted(rows, column, next === "ascending" ? 1 : -1) : rows));
        say(next ? `Sorted by ${button.textContent}, ${next}` : "In the original order");
      });
    });
  }

  // A box that hides the entries in which not every word stands.
  function filter(entries, what, text) {
    const box = make("input", { type: "search", placeholder: "for example: head_only healthy" });
    const count = make("span", { className: "soft" });
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const entry of entries) {
        const has = text(entry).toLowerCase();
        entry.hidden = !words.every((word) => has.includes(word));
      }
      const left = entries.filter((entry) => !entry.hidden).length;
      count.textContent = words.length ? `${left} of ${entries.length}` : "";
      say(words.length ? `${left} of ${entries.length} ${what} shown` : `All ${what} shown`);
    });
    return make("div", { className: "filter" }, make("label", {}, `Filter ${what} `, box), count);
  }

  function tables() {
    for (const table of all("main table")) {
      if (!table.tHead || table.tBodies.length !== 1) continue;
      sortable(table);
      const rows = [...table.tBodies[0].rows];
      if (rows.length > LONG) table.closest(".scroll").before(filter(rows, "rows", (row) => row.innerText));
    }
    for (const list of all("section")) {
      const cells = all(":scope > details.cell", list);
      const text = (cell) => cell.querySelector("summary").textContent;
      if (cells.length > LONG) cells[0].before(filter(cells, "cells", text));
    }
  }

  // Only what can be scrolled is a stop on the way through the page by keyboard.
  function scrolling() {
    const watch = new ResizeObserver((changes) => {
      for (const { target } of changes) {
        if (target.scrollWidth > target.clientWidth) target.tabIndex = 0; else target.removeAttribute("tabindex");
      }
    });
    for (const box of all(".scroll")) watch.observe(box);
  }

  // ---- pictures, large ----

  function lightbox() {
    const figures = all("main figure").filter((figure) => figure.querySelector("svg, img"));
    if (!figures.length) return;
    const stage = make("div", { className: "stage" });
    const turn = (label, step) => make("button", { type: "button", onclick: () => go(at + step) }, label);
    const back = turn("Previous", -1), on = turn("Next", 1);
    const close = make("button", { type: "button", onclick: () => dialog.close() }, "Close");
    const dialog = make("dialog", { id: "large" }, make("div", { className: "bar" }, back, on, close), stage);
    dialog.setAttribute("aria-label", "Picture, large");
    on.autofocus = true;
    let at = 0;

    function go(to) {
      at = (to + figures.length) % figures.length;
      const copy = figures[at].cloneNode(true);
      for (const element of [copy, ...all("[id]", copy)]) element.removeAttribute("id");
      for (const button of all("button.zoom", copy)) button.replaceWith(...button.childNodes);
      stage.replaceChildren(copy);
      stage.scrollTo(0, 0);
    }

    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) { go(at + step); event.preventDefault(); }
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => {
      const whole = figures[at].querySelector("button.zoom");
      for (let part = whole; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
      whole.focus();
    });
    figures.forEach((figure, index) => {
      const looks = figure.querySelector(".looks, svg, img");
      const button = make("button", { type: "button", className: "zoom" });
      looks.before(button);
      button.append(looks);
      button.title = "Show large";
      button.addEventListener("click", () => { go(index); dialog.showModal(); });
    });
    document.body.append(dialog);
  }

  const tools = document.getElementById("tools");
  tools.append(unfoldAll(), themeSwitch());
  tools.hidden = false;
  unfoldForPaper();
  contents();
  tables();
  scrolling();
  lightbox();
  unfoldTarget();
})();
