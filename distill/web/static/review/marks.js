/* Changes marked to be decided together. */

import { current } from "./cases.js";
import { chosenOrSuspect, identities } from "./choosing.js";
import { state } from "./state.js";
import { lineOf, number } from "./words.js";

/* Whether faces are chosen, or the case is about one; says so if not. */
export function hasFaces() {
  if (chosenOrSuspect().length) return true;
  state.said = "Choose faces first: click them, or use the arrows and the space bar.";
  return false;
}

/* Where a face of this identity goes; the rival's faces go back to the case's identity. */
function destination(action, identity, into) {
  if (action !== "move") return action === "split" ? 0 : null;
  if (into !== "rival") return into;
  return identity === current().identity ? current().rival : current().identity;
}

/* Marks all chosen faces or none. A face moved to where it is stays there, whatever was marked before. */
export function mark(action, into) {
  if (!hasFaces()) return;
  const identityOf = identities();
  const lines = chosenOrSuspect().map((image) => {
    const identity = identityOf.get(image);
    return { image, line: { action, identity, into: destination(action, identity, into) } };
  });
  if (action === "move" && lines.some(({ line }) => line.into === null)) {
    state.said = "This case has no rival; choose an identity.";
    return;
  }
  let staying = 0;
  for (const { image, line } of lines) {
    if (line.into !== line.identity) state.marks.set(image, line);
    else {
      state.marks.delete(image);
      staying += 1;
    }
  }
  state.said = alreadyThere(staying, lines.length);
  if (staying < lines.length) state.chosen = new Set();
}

function alreadyThere(staying, all) {
  if (!staying) return "";
  if (staying < all) return `${number(staying)} of the ${number(all)} faces ${staying === 1 ? "is" : "are"} already there; the others are marked.`;
  return all === 1 ? "The face is already there." : "The faces are already there.";
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
