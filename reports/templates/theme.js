"use strict";
// Before anything is drawn, so that a page in the dark doesn't flash.
try {
  const kept = localStorage.getItem("harness-theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
} catch { /* a browser that keeps nothing for local files */ }
