"use strict";

/* Shows an error in the daemon's own words. */
function say(text) {
  const place = document.getElementById("said");
  if (place) place.textContent = text;
}

function reason(request) {
  try {
    return JSON.parse(request.responseText).error;
  } catch {
    return `the daemon answered ${request.status}`;
  }
}

document.addEventListener("htmx:responseError", (event) => say(reason(event.detail.xhr)));
const SILENT = "the daemon does not answer";
document.addEventListener("htmx:sendError", () => say(SILENT));
document.addEventListener("click", (event) => {
  if (event.target.id === "said") say("");
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (!event.detail.successful || event.detail.requestConfig.verb === "get") return;
  say("");
  const live = document.getElementById("live"); // shows the change at once
  if (live) live.dispatchEvent(new CustomEvent("live"));
});

/* The second click of a double click would hit what the first one put there: Resume after Pause. */
document.addEventListener("click", (event) => {
  if (event.detail > 1 && event.target.closest?.("button[hx-post]")) event.stopImmediatePropagation();
}, true);

const AGAIN = 5000; // ms until a page listens again that the daemon refused to tell of changes
const LOST = 4000; // ms until a page says that it is not told of changes; browsers try again after 3000

/* A visible page listens for changes; a page in the background does not. Changes before a connection are not told,
   so the page is updated at each, and browsers give up after an error that the daemon answers, such as too many pages.
   A page that is not told of changes says so, until it is. */
class Live {
  constructor(element) {
    this.element = element;
    this.told = new Date();
    this.losing = null;
    this.update = () => this.listen(!document.hidden);
    document.addEventListener("visibilitychange", this.update);
    this.update();
  }

  listen(wanted) {
    if (wanted && !this.source) {
      const source = (this.source = new EventSource(this.element.dataset.live));
      source.onopen = source.onmessage = () => this.tell();
      source.onerror = () => {
        this.losing ??= setTimeout(() => this.lose(source), LOST);
        if (source.readyState === EventSource.CLOSED && this.source === source) setTimeout(() => this.again(source), AGAIN);
      };
    } else if (!wanted && this.source) {
      this.source.close();
      this.source = null;
      this.find();
    }
  }

  again(source) {
    if (this.source !== source) return;
    this.source = null;
    this.update();
  }

  lose(source) {
    const why = source.readyState === EventSource.CLOSED ? "the daemon refuses to update this page, reload it" : SILENT;
    this.lost = `${why}; this page is as of ${this.told.toLocaleTimeString()}`;
    say(this.lost);
  }

  find() {
    clearTimeout(this.losing);
    this.losing = null;
    if ([this.lost, SILENT].includes(document.getElementById("said")?.textContent)) say("");
  }

  tell() {
    this.find();
    this.told = new Date();
    this.element.dispatchEvent(new CustomEvent("live", { bubbles: false }));
  }
}

document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll("[data-live]")) new Live(element);
});

/* An update of a page keeps what the user has typed, opened or requested, and what scripts have drawn. */
Object.assign(Idiomorph.defaults.callbacks, {
  beforeAttributeUpdated: (name, element, change) =>
    !(name === "value" && element.matches("input"))
    && !(name === "open" && element.matches("details"))
    && !(change === "remove" && element.matches(".plot")),
  beforeNodeMorphed: (element) => !element.matches?.("[data-kept], .htmx-request"),
  beforeNodeRemoved: (element) => !element.parentElement?.matches(".plot"),
});

/* A log opens at its newest lines, and stays there until the user scrolls back. */
function follow() {
  const log = document.getElementById("log");
  if (log) log.scrollTop = log.scrollHeight;
}

document.addEventListener("DOMContentLoaded", follow);
document.addEventListener("htmx:beforeSwap", (event) => {
  const log = event.detail.target.querySelector("#log");
  if (!log || !event.detail.shouldSwap || log.scrollHeight - log.clientHeight - log.scrollTop > 2) return;
  document.addEventListener("htmx:afterSwap", follow, { once: true });
});

/* The API takes its arguments in the address instead of as a form. */
document.addEventListener("htmx:configRequest", (event) => {
  if (!event.target.matches("[data-query]")) return;
  const asked = new URLSearchParams(event.detail.formData);
  event.detail.path += `?${asked}`;
  for (const name of [...asked.keys()]) event.detail.formData.delete(name);
});
