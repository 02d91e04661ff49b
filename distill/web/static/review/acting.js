/* Actions by key. */

import { NAMES } from "./actions.js";
import { begin, current } from "./cases.js";
import { choose, chooseRow, step, zoom } from "./choosing.js";
import { decide, redo, undo } from "./deciding.js";
import { clear, dropIdentity, hasFaces, mark, markProposal, mergeInto } from "./marks.js";
import { draw } from "./page.js";
import { openPanel } from "./panels.js";
import { search } from "./search.js";
import { state } from "./state.js";

const DO = {
  accept: () => decide("accept"),
  reject: () => decide("reject"),
  unsure: () => decide("unsure"),
  done: () => decide("change"),
  later: () => {
    if (state.cases.length > 1) state.cases.push(state.cases.shift());
    begin();
  },
  undo, redo, clear,
  choose: () => choose(state.focus, false),
  all: chooseRow,
  drop: () => mark("drop", null),
  move: () => mark("move", "rival"),
  moveTo: () => { if (hasFaces()) search("move"); },
  split: () => mark("split", null),
  merge: () => mergeInto(current().rival),
  mergeTo: () => search("merge"),
  dropIdentity,
  proposal: markProposal,
  larger: () => zoom(1.25),
  smaller: () => zoom(0.8),
  history: () => openPanel("history"),
  conflicts: () => openPanel("conflicts"),
  numbers: () => openPanel("numbers"),
  keys: () => openPanel("keys"),
};

const ALWAYS = ["undo", "redo", "larger", "smaller", "history", "conflicts", "numbers", "keys", "clear"];
export const DECISIONS = ["accept", "reject", "unsure", "done", "later"];
/* What a key does again while it is held down: never a decision about a case that nobody has seen. */
const REPEATED = ["larger", "smaller"];

export function act(name) {
  if (!current() && !ALWAYS.includes(name)) return;
  DO[name]();
  draw();
}

document.addEventListener("keydown", (event) => {
  if (state.awaiting) {
    event.preventDefault();
    if (!["Shift", "Control", "Alt", "Meta"].includes(event.key)) setKey(state.awaiting, event.key);
    return;
  }
  if (document.querySelector("dialog[open]") || !state.who) return;
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input, select, textarea")) return;
  if (event.key.startsWith("Arrow")) {
    event.preventDefault();
    step(event.key, event.shiftKey);
    return;
  }
  const isControl = event.target.matches?.("button:not(.pick), a, summary");
  if (isControl && (event.key === "Enter" || event.key === " ")) return;
  const name = Object.keys(state.keys).find((action) => state.keys[action] === event.key);
  if (name) {
    event.preventDefault();
    if (!event.repeat || REPEATED.includes(name)) act(name);
  }
});

function setKey(name, key) {
  const other = Object.keys(state.keys).find((action) => state.keys[action] === key);
  if (other) state.keys[other] = state.keys[name];
  state.keys[name] = key;
  localStorage.setItem("review-keys", JSON.stringify(state.keys));
  state.awaiting = null;
  draw();
}

export function shownKey(name) {
  const key = state.keys[name];
  return NAMES[key] ?? key;
}
