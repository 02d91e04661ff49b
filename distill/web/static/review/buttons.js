/* Buttons that show their keys. */

import { act, shownKey } from "./acting.js";

const { html } = htmPreact;

export function Key({ name }) {
  return html`<kbd>${shownKey(name)}</kbd>`;
}

export function Do({ name, children, kind, disabled }) {
  return html`<button type="button" class=${kind || ""} disabled=${disabled} onClick=${() => act(name)}>${children} <${Key} name=${name} /></button>`;
}
