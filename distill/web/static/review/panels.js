/* Dialogs: keys, history, conflicts, numbers. */

import { shownKey } from "./acting.js";
import { ACTIONS, defaultKeys } from "./actions.js";
import { Key } from "./buttons.js";
import { show } from "./cases.js";
import { send } from "./outbox.js";
import { draw } from "./page.js";
import { look } from "./progress.js";
import { ask, face, newId, wanted } from "./server.js";
import { SET, state } from "./state.js";
import { CHOICES, lineOf, number, words } from "./words.js";

const { html, useEffect, useRef } = htmPreact;

export async function openPanel(name) {
  if (!state.panel) state.said = "";
  state.panel = { name, content: null };
  draw();
  try {
    if (name === "history") state.panel.content = await ask(wanted("history"));
    if (name === "conflicts") state.panel.content = await ask(wanted("conflicts"));
    if (name === "numbers") await look();
  } catch (error) {
    state.said = error.message;
  }
  draw();
}

export function closePanel() {
  state.panel = null;
  state.search = null;
  state.awaiting = null;
  draw();
}

async function undoOf(event) {
  const { panel } = state;
  send({ path: "undo", body: { set: SET, who: state.who, id: newId(), undoes: event.id } });
  await new Promise((resume) => setTimeout(resume, 200));
  if (state.panel === panel) openPanel("history");
}

async function settle(conflict, event) {
  const { panel } = state;
  try {
    await ask("settle", { set: SET, who: state.who, id: newId(), conflict: conflict.key, keep: event.id });
  } catch (error) {
    state.said = error.message;
  }
  if (state.panel === panel) openPanel("conflicts");
  look();
}

async function older(panel) {
  const before = panel.content[panel.content.length - 1].number;
  try {
    const more = await ask(wanted("history", { before }));
    panel.content = [...panel.content.filter((event) => event.number >= before), ...more];
  } catch (error) {
    state.said = error.message;
  }
  draw();
}

/* The dialog is closed before `onClose` removes it, so that the browser returns the focus. */
export function Dialog({ title, children, onClose }) {
  const dialog = useRef(null);
  useEffect(() => { if (!dialog.current.open) dialog.current.showModal(); }, []);
  const close = () => { dialog.current.close(); onClose(); };
  /* Browsers send `close` later, and alone at a second Escape in a row. The reviewer may have opened
     another dialog by then: a removed one does nothing. */
  const closed = () => { if (dialog.current) onClose(); };
  return html`
    <dialog ref=${dialog} aria-label=${title} onCancel=${close} onClose=${closed}>
      <div class="head"><h2>${title}</h2><button type="button" onClick=${close}>Close <kbd>Esc</kbd></button></div>
      ${state.said && html`<p class="said" role="alert">${state.said}</p>`}
      ${children}
    </dialog>`;
}

function Happened({ event, children }) {
  return html`
    <li class=${event.counts ? "" : "void"}>
      <strong>${event.who}</strong> ${event.undoes ? "undid a decision on" : CHOICES[event.choice]} <code>${event.case}</code>
      ${" "}<span class="fine">${event.at.replace("T", " ").slice(0, 19)}${event.undone_by ? `, undone by ${event.undone_by}` : ""}</span>
      ${event.lines.length > 0 && html`<div class="fine">${event.lines.slice(0, 4).map((text) => words(lineOf(text))).join("; ")}${event.lines.length > 4 ? "; ..." : ""}</div>`}
      ${children}
    </li>`;
}

export function Panel() {
  const { name, content } = state.panel;
  if (name === "keys") {
    return html`
      <${Dialog} title="Keys" onClose=${closePanel}>
        <p class="fine">The arrows move from face to face; with Shift they choose a range. A click chooses a face, with Shift
          a range. Press a button to change its key.</p>
        <ul class="keys">${Object.entries(ACTIONS).map(([action, [, what]]) => html`
          <li><span>${what}</span> <button type="button" aria-label=${`${what}: ${shownKey(action)}; change`}
            onClick=${() => { state.awaiting = action; draw(); }}>
            ${state.awaiting === action ? "press a key ..." : html`<${Key} name=${action} />`}</button></li>`)}</ul>
        <button type="button" onClick=${() => { state.keys = defaultKeys(); localStorage.removeItem("review-keys"); draw(); }}>Reset all keys</button>
      <//>`;
  }
  if (name === "history") {
    return html`
      <${Dialog} title="History" onClose=${closePanel}>
        ${content && !content.length && html`<p>Nothing has been decided yet.</p>`}
        <ol class="events">${(content ?? []).map((event) => html`
          <${Happened} key=${event.id} event=${event}>
            <div class="chips">
              ${event.counts && html`<button type="button" onClick=${() => undoOf(event)}>Undo</button>`}
              <button type="button" onClick=${async () => { closePanel(); await show(event.case); draw(); }}>Show the case</button>
            </div>
          <//>`)}</ol>
        ${content?.length >= 50 && html`<button type="button" onClick=${() => older(state.panel)}>Older</button>`}
      <//>`;
  }
  if (name === "conflicts") {
    return html`
      <${Dialog} title="Conflicts" onClose=${closePanel}>
        ${content && !content.length && html`<p>There are no conflicts.</p>`}
        ${(content ?? []).map((conflict) => html`
          <section class="conflict" key=${conflict.key}>
            <h3>${conflict.about}</h3>
            ${conflict.image !== null && html`<img src=${face(conflict.image)} alt=${`image ${conflict.image}`} />`}
            <ol class="events">${conflict.events.map((event) => html`
              <${Happened} key=${event.id} event=${event}>
                <button type="button" onClick=${() => settle(conflict, event)}>Keep this one</button>
              <//>`)}</ol>
          </section>`)}
      <//>`;
  }
  const { progress, left } = state;
  return html`
    <${Dialog} title="Progress and calibration" onClose=${closePanel}>
      ${progress && html`
        <dl class="tiles">
          ${[["cases", progress.cases], ["open", progress.open], ["decided", progress.decided], ["unsure", progress.unsure],
            ["settled by others", progress.settled], ["conflicts", progress.conflicts]].map(([what, count]) => html`
            <div><dt>${what}</dt><dd>${number(count)}</dd></div>`)}
        </dl>
        ${left?.images !== undefined && html`<p><code>curate clean</code> will keep ${number(left.images)} of ${number(left.images_before)} images,
          ${" "}in ${number(left.identities)} identities (${number(left.identities_before)} before).</p>`}
        ${progress.set_aside > 0 && html`<p class="fine">${number(progress.set_aside)} events belong to other findings and do not count.</p>`}
        <h3>Reviewers</h3>
        <ul>${Object.entries(progress.reviewers).map(([who, count]) => html`<li>${who}: ${number(count)}</li>`)}</ul>
        <h3>Calibration</h3>
        ${progress.calibration.length
          ? html`<ul>${progress.calibration.map((one) => html`<li>${one.words}</li>`)}</ul>`
          : html`<p class="fine">After 20 decisions on similar scores, this shows how often the check was right.</p>`}`}
    <//>`;
}
