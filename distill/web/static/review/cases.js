/* The queue of cases; the first one is shown. */

import { draw } from "./page.js";
import { Refusal, ask, compared, face, wanted, whyUnreachable } from "./server.js";
import { SET, state } from "./state.js";

const AHEAD = 6;
export const MOST_HELD = 48; // the server's limit
const MOST_WAITING = 30;
const MOST_LATER = 1000; // the server's limit

export function current() {
  return state.cases[0];
}

export function begin() {
  state.chosen = new Set();
  state.marks = new Map();
  state.whole = [];
  state.shown = {};
  state.anchor = null;
  state.focus = 0;
  if (document.activeElement?.matches(".pick")) document.activeElement.blur();
  document.querySelectorAll(".row .faces").forEach((pane) => pane.scrollTo(0, 0));
}

/* The server sends the first and the last index of each run of images. */
function unpacked(one) {
  const images = (runs) => runs.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, n) => first + n));
  return { ...one, rows: one.rows.map((row) => ({ ...row, images: images(row.images) })) };
}

async function fetched(key) {
  return unpacked(await ask(wanted("case", { key })));
}

/* Shows a case now. */
export async function show(key) {
  try {
    const found = await fetched(key);
    state.cases = [found, ...state.cases.filter((one) => one.key !== key)];
    begin();
  } catch (error) {
    state.said = error.message;
  }
}

/* Whether the user is changing something of the current case. */
function isInHand() {
  return state.marks.size || state.whole.length || state.chosen.size || state.search || state.panel;
}

/* Shows a case again whose decision was undone or refused. One on the screen that is in hand stays there, and
   always after a refusal, which nobody expects: the next key would decide about another case than was seen. */
export async function bringBack(key, refused = "") {
  try {
    const found = { ...await fetched(key), refused };
    const before = current();
    const [one, ...others] = state.cases.filter((other) => other.key !== key);
    if (one && one === before && (refused || isInHand())) {
      state.cases = [one, found, ...others];
      state.said = `${state.said} It follows this case.`;
    } else {
      state.cases = [found, ...(one ? [one] : []), ...others];
      begin();
    }
  } catch (error) {
    if (!refused) state.said = error.message;
  }
}

/* Cases that the server must not send again: those held, and those decided but not saved yet. */
function heldKeys() {
  const waiting = state.outbox.filter((entry) => entry.path === "decide").map((entry) => entry.body.case);
  return [...new Set([...state.cases.map((one) => one.key), ...waiting])].slice(0, MOST_HELD);
}

export async function fill() {
  if (state.filling || !state.who || state.cases.length >= AHEAD - 2 || state.outbox.length > MOST_WAITING) return;
  state.filling = true;
  const { check, who, later } = state;
  try {
    const held = heldKeys();
    const found = await ask("next", { set: SET, who, count: AHEAD, check, held, later });
    state.unreachable = "";
    if (check === state.check && who === state.who) {
      const there = new Set([...held, ...heldKeys()]);
      const fresh = found.filter((one) => !there.has(one.key)).map(unpacked);
      const isFirst = state.cases.length === 0;
      state.cases.push(...fresh);
      state.empty = state.cases.length === 0 && later === state.later;
      fresh.forEach(preload);
      if (isFirst) begin();
    }
  } catch (error) {
    if (error instanceof Refusal && error.status === 422) state.said = error.message;
    else {
      state.unreachable = whyUnreachable(error);
      setTimeout(fill, 1000);
    }
  }
  state.filling = false;
  draw();
  if (check !== state.check || who !== state.who || later !== state.later) fill(); // the answer was for another question
}

/* Puts the case off until no other is open. */
export function putOff() {
  const { key } = state.cases.shift();
  state.later = [...state.later.filter((other) => other !== key), key].slice(-MOST_LATER);
  begin();
  fill();
}

export function filter(check) {
  state.check = check;
  state.cases = [];
  state.empty = false;
  begin();
  draw();
  fill();
}

const ready = new Map();

/* Decodes the faces that are visible first before the case is shown. */
function preload(one) {
  const images = [...one.faces.map(({ image }) => image), ...one.rows.flatMap((row) => row.images.slice(0, 16))];
  const shown = one.compared.filter(({ there }) => there).map((other) => compared(one, other));
  for (const address of [...shown, ...images.map(face)]) {
    if (ready.has(address)) continue;
    const picture = new Image();
    picture.src = address;
    ready.set(address, picture);
    if (ready.size > 800) ready.delete(ready.keys().next().value);
  }
}
