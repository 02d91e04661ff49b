"use strict";

/* Curves load when they become visible. The server thins them to the visible range, and new points
   do not reset the user's zoom. */
const HEIGHT = 220;


/* light-dark() becomes a colour only in the computed style. */
function computed(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

class Chart {
  constructor(place) {
    this.place = place;
    this.range = null; // the range the user zoomed to
    this.seen = false;
    this.stale = true;
    this.plot = null;
    this.asking = null;
  }

  get jobs() {
    return JSON.parse(this.place.dataset.jobs);
  }

  get keys() {
    return JSON.parse(this.place.dataset.keys);
  }

  show(seen) {
    this.seen = seen;
    if (seen && this.stale) this.load();
  }

  changed() {
    this.stale = true;
    if (this.seen && !this.asking) this.load();
  }

  async load() {
    this.stale = false;
    const asked = new URLSearchParams({ step: this.place.dataset.step });
    for (const job of this.jobs) asked.append("job", job);
    for (const key of this.keys) asked.append("key", key);
    if (this.range) {
      const [first, last] = this.range;
      const margin = last - first; // shows some of the neighbouring points
      asked.set("first", first - margin);
      asked.set("last", last + margin);
    }
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    let isAnswered = false;
    try {
      const answer = await fetch(`/curves?${asked}`, { signal: asking.signal });
      isAnswered = answer.ok;
      if (isAnswered) this.draw(await answer.json());
    } catch {
      isAnswered = false;
    }
    if (this.asking !== asking) return;
    this.asking = null;
    if (!isAnswered) this.stale = true; // the next change asks again
    else if (this.seen && this.stale) this.load(); // it changed meanwhile
  }

  draw(found) {
    const told = found.filter((each) => each.x.length);
    if (!told.length) return;
    const names = told.map((each) => this.named(each));
    const data = uPlot.join(told.map((each) => [each.x, each.y]));
    if (names.join("\n") !== this.names) {
      this.plot?.destroy();
      this.names = names.join("\n");
      this.plot = new uPlot(this.options(names), data, this.place);
    }
    this.put(data);
  }

  named(each) {
    if (this.jobs.length === 1) return each.key;
    return this.keys.length === 1 ? each.job : `${each.job} ${each.key}`;
  }

  put(data) {
    this.plot.batch(() => {
      this.plot.setData(data, !this.range);
      if (this.range) {
        this.silent = true;
        this.plot.setScale("x", { min: this.range[0], max: this.range[1] });
      }
    });
    this.silent = false;
  }

  options(names) {
    const ink = computed("--muted");
    const line = computed("--line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const series = names.map((label, at) => ({
      label,
      stroke: computed(`--curve-${(at % 8) + 1}`),
      width: 1.6,
      points: { fill: computed("--card"), size: 5 },
      dash: at < 8 ? undefined : [6, 4],
      spanGaps: true,
      value: (plot, value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(5))),
    }));
    return {
      width: Math.max(200, this.place.clientWidth),
      height: HEIGHT,
      cursor: { drag: { x: true, y: false }, points: { size: 6 } },
      scales: { x: { time: false } },
      series: [{ label: "iteration" }, ...series],
      axes: [axis, { ...axis, size: 62 }],
      hooks: {
        setSelect: [(plot) => plot.select.width && this.zoom(plot)],
        init: [(plot) => plot.over.addEventListener("dblclick", () => this.zoom(null))],
      },
    };
  }

  zoom(plot) {
    if (plot === null) {
      this.range = null;
    } else {
      const { left, width } = plot.select;
      this.range = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    }
    this.place.dataset.zoom = this.range ? this.range.map(Math.round).join(" ") : "";
    setTimeout(() => this.load(), 0); // after uPlot has finished drawing
  }

  fit() {
    this.plot?.setSize({ width: Math.max(200, this.place.clientWidth), height: HEIGHT });
  }

  recolour() {
    this.names = null;
    this.stale = true;
    if (this.seen) this.load();
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const charts = new Map();
  const each = (what) => [...charts.values()].forEach(what);
  const seen = new IntersectionObserver(
    (entries) => entries.forEach((entry) => charts.get(entry.target)?.show(entry.isIntersecting)),
    { rootMargin: "100px" },
  );
  const fitted = new ResizeObserver((entries) => entries.forEach((entry) => charts.get(entry.target)?.fit()));

  /* A job gains charts while it runs. */
  function look() {
    for (const [place, chart] of charts) {
      if (place.isConnected) continue;
      charts.delete(place);
      [seen, fitted].forEach((observer) => observer.unobserve(place));
      chart.plot?.destroy();
    }
    for (const place of document.querySelectorAll(".plot")) {
      if (charts.has(place)) continue;
      charts.set(place, new Chart(place));
      [seen, fitted].forEach((observer) => observer.observe(place));
    }
  }

  look();
  document.addEventListener("htmx:afterSwap", () => {
    look();
    each((chart) => chart.changed());
  });
  document.addEventListener("htmx:configRequest", (event) => {
    const zoomed = [...charts.values()].find((chart) => chart.range);
    if (event.target.id === "live" && zoomed) event.detail.parameters.step = zoomed.place.dataset.step;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => each((chart) => chart.recolour()));
});
