/* Actions by key. */

import { NAMES } from "./actions.js";
import { current, putOff } from "./cases.js";
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
  later: putOff,
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
/* Keys that only change others, and keys without a character. */
const NAMELESS = ["Shift", "Control", "Alt", "AltGraph", "Meta", "CapsLock", "Dead", "Process", "Unidentified"];

export function act(name) {
  if (!current() && !ALWAYS.includes(name)) return;
  DO[name]();
  draw();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (state.awaiting) {
    event.preventDefault();
    if (!event.repeat && !NAMELESS.includes(event.key)) take(event.key);
    return;
  }
  if (document.querySelector("dialog[open]") || !state.who || event.target.matches?.("input, select, textarea")) return;
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

/* The next key becomes that of the action. Escape leaves the key as it is, except that of its own action. */
function take(key) {
  const name = state.awaiting;
  if (key === "Escape" && name !== "clear") state.awaiting = null;
  else if (key.startsWith("Arrow") || key === "Tab") {
    state.said = `${key === "Tab" ? "Tab moves from control to control" : "The arrows move from face to face"}; press another key.`;
  } else setKey(name, key);
  draw();
}

function setKey(name, key) {
  const other = Object.keys(state.keys).find((action) => state.keys[action] === key);
  if (other) state.keys[other] = state.keys[name];
  state.keys[name] = key;
  localStorage.setItem("review-keys", JSON.stringify(state.keys));
  state.awaiting = null;
  state.said = "";
}

export function shownKey(name) {
  const key = state.keys[name];
  return NAMES[key] ?? key;
}
