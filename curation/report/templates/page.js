"use strict";
// Verdicts on the cases. The browser stores each under its own key, a digest of the findings and the
// proposal, so other findings have other verdicts, and windows of the same page share them. They are
// downloaded as lines of the table of decisions; only the first column of the page's lines changes.
(() => {
  const source = document.getElementById("decisions");
  if (!source) return;
  const { head, lines } = JSON.parse(source.textContent);
  const prefix = "face-curation-decision:";
  const cases = [...document.querySelectorAll(".case")];
  const decidable = cases.filter((element) => element.querySelector("button"));
  const byStorageKey = new Map(decidable.map((element) => [storageKey(element), element]));
  const verdicts = new Map();
  const filter = { check: "", show: "all" };
  let current = null;
  let isKept = true; // Some browsers have no storage for local files; verdicts then last as long as the page.

  function storageKey(element) {
    return prefix + element.dataset.decision;
  }

  function remember(element, verdict) {
    if (/^(yes|no)$/.test(verdict)) verdicts.set(element.dataset.key, verdict);
    else verdicts.delete(element.dataset.key);
  }

  function load() {
    try {
      for (const [key, element] of byStorageKey) remember(element, localStorage.getItem(key));
    } catch {
      isKept = false;
    }
  }

  function save(element) {
    const verdict = verdicts.get(element.dataset.key);
    try {
      if (verdict) localStorage.setItem(storageKey(element), verdict);
      else localStorage.removeItem(storageKey(element));
    } catch {
      isKept = false;
    }
  }

  const isChanged = (element) => {
    const verdict = verdicts.get(element.dataset.key);
    return verdict !== undefined && verdict !== element.dataset.applied;
  };

  function fits(element) {
    const isDecided = verdicts.has(element.dataset.key);
    const state = { all: true, open: !isDecided, decided: isDecided, changed: isChanged(element) };
    return (!filter.check || element.dataset.check === filter.check) && state[filter.show];
  }

  function decide(element, verdict) {
    if (!decidable.includes(element)) return;
    remember(element, verdict);
    save(element);
    draw(element);
    count();
  }

  function draw(element) {
    const verdict = verdicts.get(element.dataset.key);
    element.dataset.verdict = verdict || "";
    for (const button of element.querySelectorAll("[data-verdict]")) {
      button.setAttribute("aria-pressed", String(button.dataset.verdict === verdict));
    }
    const words = element.querySelector(".verdict");
    const now = verdict || element.dataset.applied;
    if (words) words.textContent = now === "yes" ? "Will" : "Will not";
    element.classList.toggle("changed", isChanged(element));
  }

  function count() {
    const changed = cases.filter(isChanged).length;
    document.getElementById("counter").textContent =
      `${verdicts.size} of ${decidable.length} decided, ${changed} changed` +
      (isKept ? "" : "; this browser will not remember them");
    document.getElementById("download").disabled = verdicts.size === 0;
    document.getElementById("forget").disabled = verdicts.size === 0;
  }

  function drawAll() {
    cases.forEach(draw);
    count();
  }

  function filterCases() {
    for (const element of cases) element.hidden = !fits(element);
    for (const block of document.querySelectorAll(".group, section.check")) {
      const hasCases = block.querySelector(".case:not([hidden])") !== null;
      const isAsked = !filter.check || block.closest("section").dataset.check === filter.check;
      block.hidden = !isAsked || (!hasCases && (filter.show !== "all" || block.matches(".group")));
    }
    if (current?.closest("[hidden]")) setCurrent(null);
    document.getElementById("nothing").hidden = cases.some((element) => !element.hidden);
    for (const chip of document.querySelectorAll(".chips button")) {
      chip.setAttribute("aria-pressed", String(chip.dataset.check === filter.check));
    }
  }

  // Sorts the cases of each group, and the groups of each check by their first case.
  function sortCases(order) {
    const sign = order === "up" ? 1 : -1;
    const score = (element) => element.querySelector("[data-score]")?.dataset.score ?? element.dataset.score;
    const sort = (elements) => [...elements].sort((one, other) => sign * (score(one) - score(other)));
    for (const grid of document.querySelectorAll(".cases")) grid.append(...sort(grid.children));
    for (const section of document.querySelectorAll("section.check")) {
      section.append(...sort(section.querySelectorAll(".group")));
    }
  }

  // Keys decide about the current case, which is always a visible one.
  function setCurrent(element) {
    current?.classList.remove("current");
    current = element;
    element?.classList.add("current");
  }

  function goTo(element) {
    if (!element) return;
    setCurrent(element);
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "center" });
  }

  function step(by) {
    const shown = [...document.querySelectorAll(".case:not([hidden])")]
      .filter((element) => !element.closest("[hidden]"));
    const at = shown.indexOf(current);
    goTo(at < 0 ? shown.find(isBelowTop) || shown[0]
      : shown[Math.min(Math.max(at + by, 0), shown.length - 1)]);
  }

  const isBelowTop = (element) => element.getBoundingClientRect().bottom > 120;

  function download() {
    const text = [...head];
    for (const [key, entry] of Object.entries(lines)) {
      const verdict = verdicts.get(key);
      if (verdict) text.push(...entry.map((line) => line.replace(/^[^\t]*/, verdict)));
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text.join("\n") + "\n"]));
    link.download = "override.tsv";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const element = event.target.closest(".case");
    if (button?.dataset.check !== undefined && !element) {
      filter.check = button.dataset.check;
      filterCases();
    } else if (button?.dataset.verdict) {
      const isPressed = verdicts.get(element.dataset.key) === button.dataset.verdict;
      decide(element, isPressed ? null : button.dataset.verdict);
    }
  });

  document.addEventListener("focusin", (event) => {
    const element = event.target.closest(".case");
    if (element) setCurrent(element);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (current && event.key === "u") decide(current, null);
    else if (current && (event.key === "y" || event.key === "n")) {
      if (event.repeat) return; // a key held down would decide about cases that nobody has seen
      decide(current, event.key === "y" ? "yes" : "no");
      step(1);
    } else return;
    event.preventDefault();
  });

  document.getElementById("show").addEventListener("change", (event) => {
    filter.show = event.target.value;
    filterCases();
  });
  document.getElementById("order").addEventListener("change", (event) => sortCases(event.target.value));
  document.getElementById("download").addEventListener("click", download);
  document.getElementById("forget").addEventListener("click", () => {
    if (!window.confirm("Clear all your decisions on this page?")) return;
    for (const element of decidable) {
      remember(element, null);
      save(element);
    }
    drawAll();
    filterCases();
  });

  // Another window changed its verdicts; without a key, it cleared all of them. The event may be older than
  // a decision made here, so the storage says which one counts.
  window.addEventListener("storage", (event) => {
    if (event.key !== null && !byStorageKey.has(event.key)) return;
    load();
    drawAll();
  });

  // A page restored from the back-forward cache has missed these events.
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted || !isKept) return;
    load();
    drawAll();
  });

  document.documentElement.classList.add("scripted");
  load();
  drawAll();
})();
