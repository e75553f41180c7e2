"use strict";
(() => {
  const root = document.documentElement;
  const keep = {
    get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
    set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* private mode */ } },
  };
  const theme = keep.get("clawmw-theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;

  const $ = (id) => document.getElementById(id);

  function turn() {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    keep.set("clawmw-theme", root.dataset.theme);
  }

  // --- rows, by keyboard --------------------------------------------------------------------

  const rows = () =>
    [...document.querySelectorAll("#chains tbody th a, .rows summary")].filter(
      (row) => row.checkVisibility(),
    );

  function step(by) {
    const all = rows();
    if (!all.length) return;
    const here = document.activeElement && document.activeElement.closest("summary, th a");
    const at = all.indexOf(here);
    const top = all.findIndex((row) => row.getBoundingClientRect().top >= 0);
    const next = at < 0 ? Math.max(top, 0) : Math.min(Math.max(at + by, 0), all.length - 1);
    all[next].focus({ preventScroll: true });
    all[next].scrollIntoView({ block: "nearest" });
  }

  function fold() {
    const runs = [...document.querySelectorAll(".run > details")];
    const open = runs.some((run) => !run.open);
    for (const run of runs) run.open = open;
  }

  function shown() {
    // A link to a span inside a folded run opens the run.
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && $(id);
    if (!target) return;
    for (let up = target.parentElement; up; up = up.parentElement) {
      if (up.tagName === "DETAILS") up.open = true;
    }
    const row = target.querySelector("summary");
    if (row) row.focus({ preventScroll: true });
    target.scrollIntoView({ block: row ? "center" : "start" });
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const into = event.target.closest && event.target.closest("input, select, textarea");
    if (event.key === "Escape" && into) { into.blur(); return; }
    if (into || $("help").open) return;
    const acts = {
      j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
      "/": () => $("find") && $("find").focus(), "?": () => $("help").showModal(),
      e: fold, t: turn, u: () => { if (document.body.dataset.version) location.href = "/"; },
    };
    const act = acts[event.key];
    if (!act) return;
    if (event.key.startsWith("Arrow") && !document.activeElement.closest("summary, th a")) return;
    event.preventDefault();
    act();
  }

  // --- finding, in a report -----------------------------------------------------------------

  function narrow() {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.querySelectorAll("#chains tbody tr")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  }

  // --- what a served page does besides ------------------------------------------------------

  // Make `have` like `want` but keep what a reader did: what is open, focused, scrolled to.
  function morph(have, want) {
    if (have.nodeType !== want.nodeType || have.nodeName !== want.nodeName) {
      have.replaceWith(want);
      return;
    }
    if (have.nodeType !== 1) {
      if (have.data !== want.data) have.data = want.data;
      return;
    }
    if ("keep" in have.dataset || have.isEqualNode(want)) return;
    for (const { name, value } of [...want.attributes]) {
      if (have.getAttribute(name) !== value) have.setAttribute(name, value);
    }
    for (const { name } of [...have.attributes]) {
      if (!want.hasAttribute(name) && !(name === "open" && have.nodeName === "DETAILS")) {
        have.removeAttribute(name);
      }
    }
    const wanted = new Set([...want.children].map((child) => child.id).filter(Boolean));
    const had = new Map();
    for (const child of [...have.children]) {
      if (child.id && !wanted.has(child.id)) child.remove();
      else if (child.id) had.set(child.id, child);
    }
    let at = have.firstChild;
    for (const child of [...want.childNodes]) {
      const twin = child.id ? had.get(child.id) : null;
      if (twin) {
        if (twin === at) at = at.nextSibling;
        else have.insertBefore(twin, at);
        morph(twin, child);
      } else if (!child.id && at && !at.id && at.nodeName === child.nodeName) {
        const next = at.nextSibling;
        morph(at, child);
        at = next;
      } else {
        have.insertBefore(child, at);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  let asked = 0;
  async function refresh() {
    const mine = ++asked;
    const answer = await fetch(location.href.split("#")[0], { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine !== asked || !page.getElementById("main")) return;
    const focused = document.activeElement;
    const fixed = anchor(), top = fixed && fixed.getBoundingClientRect().top;
    morph($("main"), page.getElementById("main"));
    document.title = page.title;
    document.body.dataset.version = page.body.dataset.version || "";
    const link = page.getElementById("export");
    if (link && $("export")) $("export").href = link.getAttribute("href");
    if (focused && focused !== document.activeElement && focused.isConnected) {
      focused.focus({ preventScroll: true });
    }
    if (fixed && fixed.isConnected) scrollBy(0, fixed.getBoundingClientRect().top - top);
  }

  // What is to stay where it is on the screen: the row in focus, else the first one in sight.
  function anchor() {
    if (!scrollY) return null;
    const all = rows();
    const here = all.indexOf(document.activeElement);
    const seen = (row) => {
      const { top, bottom } = row.getBoundingClientRect();
      return top >= 0 && bottom <= innerHeight;
    };
    if (here >= 0 && seen(all[here])) return all[here];
    return all.find(seen) || [...document.querySelectorAll("main section")].find(seen) || null;
  }

  function watch() {
    const pulse = $("pulse");
    let lost = 0, pause = 1000;
    async function look() {
      if (!document.hidden) {
        try {
          const answer = await fetch("/api/version", { cache: "no-store" });
          if (!answer.ok) throw new Error(String(answer.status));
          const { version } = await answer.json();
          if (version !== document.body.dataset.version) {
            const began = performance.now();
            await refresh();
            pause = Math.max(1000, 5 * (performance.now() - began)); // a large store is not to be all this does
            pulse.classList.remove("beat");
            void pulse.offsetWidth;
            pulse.classList.add("beat");
          }
          if (lost) { lost = 0; pulse.classList.remove("lost"); pulse.textContent = "live"; }
        } catch {
          lost += 1;
          if (lost === 2) { pulse.classList.add("lost"); pulse.textContent = "clawmw ui has stopped"; }
        }
      }
      setTimeout(look, lost > 1 ? 3000 : pause);
    }
    setTimeout(look, 1000);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh().catch(() => {}); });

    const form = $("filters");
    if (!form) return;
    let soon = 0;
    const apply = () => {
      const said = new URLSearchParams(new FormData(form));
      for (const [name, value] of [...said]) if (!value) said.delete(name);
      history.replaceState(null, "", String(said) ? `/?${said}` : "/");
      refresh().catch(() => {});
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
    form.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(apply, 150); });
  }

  addEventListener("DOMContentLoaded", () => {
    $("theme").addEventListener("click", turn);
    $("ask").addEventListener("click", () => $("help").showModal());
    document.addEventListener("keydown", keys);
    addEventListener("hashchange", shown);
    if (location.hash) shown();
    if (document.body.dataset.version) watch();
    else if ($("find")) $("find").addEventListener("input", narrow);
  });
})();
