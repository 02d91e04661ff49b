/* The dialog that finds an identity to move to or merge into. */

import { current } from "./cases.js";
import { mark, mergeInto } from "./marks.js";
import { draw } from "./page.js";
import { Dialog, closePanel } from "./panels.js";
import { ask, face, wanted } from "./server.js";
import { state } from "./state.js";
import { number } from "./words.js";

const { html } = htmPreact;

export function search(action) {
  state.said = "";
  state.search = { action, text: "", found: [], foundFor: "" };
  draw();
}

let typing = null;

function searchFor(text) {
  state.search.text = text;
  clearTimeout(typing);
  typing = setTimeout(async () => {
    if (!state.search) return;
    try {
      const found = text.trim() ? await ask(wanted("identities", { q: text })) : [];
      if (state.search?.text === text) Object.assign(state.search, { found, foundFor: text });
    } catch (error) {
      state.said = error.message;
    }
    draw();
  }, 150);
}

/* The first identity, unless the list is still that of what was typed before. */
function takeFirst(event) {
  event.preventDefault();
  const { text, found, foundFor } = state.search;
  if (foundFor === text && found.length) takeFound(found[0].identity);
}

function takeFound(identity) {
  const { action } = state.search;
  closePanel();
  if (action === "move") mark("move", identity);
  else mergeInto(identity);
  draw();
}

export function Search() {
  const { action, text, found, foundFor } = state.search;
  const what = action === "move" ? "Move the chosen faces to" : `Merge identity ${current()?.identity} into`;
  return html`
    <${Dialog} title=${`${what} ...`} onClose=${closePanel}>
      <form onSubmit=${takeFirst}>
        <label>Number, label or name <input autofocus value=${text} autocomplete="off" onInput=${(event) => searchFor(event.target.value)} /></label>
      </form>
      <ul class="found">${found.map((one) => html`
        <li key=${one.identity}><button type="button" onClick=${() => takeFound(one.identity)}>
          <span>identity ${one.identity}${one.name ? ` ${one.name}` : ""}${one.label === null ? "" : `, label ${one.label}`}, ${number(one.count)} ${one.count === 1 ? "image" : "images"}</span>
          <span class="faces">${one.images.map((image) => html`<img src=${face(image)} alt="" />`)}</span>
        </button></li>`)}</ul>
      ${text && foundFor === text && !found.length && html`<p class="fine">No identity matches.</p>`}
    <//>`;
}
