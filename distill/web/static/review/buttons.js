/* Buttons that show their keys. */

import { DECISIONS, act, shownKey } from "./acting.js";

const { html } = htmPreact;

export function Key({ name }) {
  return html`<kbd>${shownKey(name)}</kbd>`;
}

export function Do({ name, children, kind, disabled }) {
  /* The second click of a double click would decide about the next case. */
  const onClick = (event) => { if (event.detail < 2 || !DECISIONS.includes(name)) act(name); };
  return html`<button type="button" class=${kind || ""} disabled=${disabled} onClick=${onClick}>${children} <${Key} name=${name} /></button>`;
}
