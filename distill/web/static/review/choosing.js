/* Selects faces by click or key. */

import { current } from "./cases.js";
import { drawNow } from "./page.js";
import { state } from "./state.js";

export const AT_FIRST = 60;
export const MORE = 120;

function flat() {
  const one = current();
  if (!one) return [];
  const faces = one.faces.map(({ image, identity }) => ({ image, identity, row: -1 }));
  const rows = one.rows.flatMap((row, number) =>
    row.images.slice(0, state.shown[number] ?? AT_FIRST).map((image) => ({ image, identity: row.identity, row: number })));
  return [...faces, ...rows];
}

/* The identity of each face of the current case. */
export function identities() {
  const one = current();
  return new Map([
    ...one.rows.flatMap((row) => row.images.map((image) => [image, row.identity])),
    ...one.faces.map(({ image, identity }) => [image, identity]),
  ]);
}

export function choose(index, isRange) {
  const faces = flat();
  if (!faces[index]) return;
  if (isRange && state.anchor !== null) {
    const [from, to] = [state.anchor, index].sort((a, b) => a - b);
    faces.slice(from, to + 1).forEach(({ image }) => state.chosen.add(image));
  } else {
    const { image } = faces[index];
    if (!state.chosen.delete(image)) state.chosen.add(image);
    state.anchor = index;
  }
  state.focus = index;
}

export function chosenOrSuspect() {
  const one = current();
  return state.chosen.size ? [...state.chosen] : one && one.image !== null ? [one.image] : [];
}

/* Includes the row's faces that are not drawn yet. */
export function chooseRow() {
  const row = current().rows[flat()[state.focus]?.row];
  (row ? row.images : current().faces.map(({ image }) => image)).forEach((image) => state.chosen.add(image));
}

export function step(key, isRange) {
  const faces = [...document.querySelectorAll(".pick")];
  if (!faces.length) return;
  let to = state.focus + (key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0);
  if (key === "ArrowUp" || key === "ArrowDown") to = beside(faces, key === "ArrowDown");
  to = Math.max(0, Math.min(faces.length - 1, to));
  if (isRange) {
    if (state.anchor === null) state.anchor = state.focus;
    choose(to, true);
  }
  state.focus = to;
  drawNow();
  const element = document.querySelectorAll(".pick")[to];
  element?.focus({ preventScroll: true });
  element?.scrollIntoView({ block: "nearest" });
}

/* The face above or below, nearest to the centre of the focused one. */
function beside(faces, isBelow) {
  const here = (faces[state.focus] ?? faces[0]).getBoundingClientRect();
  let best = state.focus, least = Infinity;
  faces.forEach((element, index) => {
    const there = element.getBoundingClientRect();
    const away = isBelow ? there.top - here.bottom : here.top - there.bottom;
    const distance = Math.abs(away) * 3 + Math.abs(there.left - here.left);
    if (away > -4 && distance < least) [best, least] = [index, distance];
  });
  return best;
}

export function zoom(by) {
  state.zoom = Math.min(320, Math.max(40, Math.round(state.zoom * by)));
  localStorage.setItem("review-zoom", state.zoom);
}
