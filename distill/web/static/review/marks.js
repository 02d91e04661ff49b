/* Changes marked to be decided together. */

import { current } from "./cases.js";
import { chosenOrSuspect, identities } from "./choosing.js";
import { state } from "./state.js";
import { lineOf } from "./words.js";

/* Whether faces are chosen, or the case is about one; says so if not. */
export function hasFaces() {
  if (chosenOrSuspect().length) return true;
  state.said = "Choose faces first: click them, or use the arrows and the space bar.";
  return false;
}

export function mark(action, into) {
  if (!hasFaces()) return;
  const images = chosenOrSuspect();
  const identityOf = identities();
  for (const image of images) {
    const identity = identityOf.get(image);
    const to = into === "rival" ? (identity === current().identity ? current().rival : current().identity) : into;
    if (action === "move" && (to === null || to === identity)) {
      state.said = to === null ? "This case has no rival; choose an identity." : "The face is already there.";
      return;
    }
    state.marks.set(image, { action, identity, into: action === "move" ? to : action === "split" ? 0 : null });
  }
  state.chosen = new Set();
}

function isSame(one, other) {
  return one.action === other.action && one.identity === other.identity && one.into === other.into;
}

export function mergeInto(into) {
  const { identity } = current();
  if (into === null || into === identity) {
    state.said = into === null
      ? "This case has no rival; choose an identity to merge into."
      : "This is the identity itself; choose another one to merge into.";
    return;
  }
  const before = state.whole.find((line) => line.action === "merge");
  const line = before && isSame(before, { action: "merge", identity, into }) ? { action: "merge", identity: into, into: identity } : { action: "merge", identity, into };
  state.whole = [...state.whole.filter((other) => other.action !== "merge"), line];
}

export function dropIdentity() {
  const line = { action: "drop-identity", identity: current().identity, into: null };
  state.whole = [...state.whole.filter(({ action }) => action !== line.action), line];
}

export function markProposal() {
  for (const { images, ...line } of current().proposed.map(lineOf)) {
    if (images.length) state.marks.set(images[0], line);
    else state.whole = [...state.whole.filter((other) => !isSame(other, line)), line];
  }
}

export function plan() {
  const groups = new Map();
  for (const [image, line] of state.marks) {
    const name = `${line.action} ${line.identity} ${line.into}`;
    if (!groups.has(name)) groups.set(name, { ...line, images: [] });
    groups.get(name).images.push(image);
  }
  return [...groups.values(), ...state.whole.map((line) => ({ ...line, images: [] }))];
}

export function clear() {
  if (state.chosen.size) state.chosen = new Set();
  else [state.marks, state.whole] = [new Map(), []];
  state.said = "";
}
