/* Makes decisions, and undoes and redoes them. */

import { shownKey } from "./acting.js";
import { begin, current, fill } from "./cases.js";
import { plan } from "./marks.js";
import { send } from "./outbox.js";
import { newId } from "./server.js";
import { SET, state } from "./state.js";
import { CHOICES } from "./words.js";

export function decide(choice) {
  const one = current();
  if (!one) return;
  const lines = choice === "change" ? plan() : [];
  if (choice === "change" && !lines.length) {
    state.said = "Nothing is marked: accept, reject, or mark changes first.";
    return;
  }
  if (choice !== "change" && (state.marks.size || state.whole.length)) {
    state.said = `You have marked changes: ${shownKey("done")} carries them out, ${shownKey("clear")} removes the marks.`;
    return;
  }
  const body = {
    set: SET, who: state.who, id: newId(), case: one.key, findings: one.findings, seen: one.seen, choice, lines,
  };
  state.cases.shift();
  state.decided.push({ id: body.id, key: one.key, choice });
  state.undone = [];
  state.said = "";
  begin();
  if (state.progress) state.progress = { ...state.progress, open: Math.max(0, state.progress.open - 1) };
  state.empty = false;
  send({ path: "decide", body });
  fill();
}

export function undo() {
  const last = state.decided.pop();
  if (!last) {
    state.said = "You have decided nothing in this tab; the history shows all decisions.";
    return;
  }
  const body = { set: SET, who: state.who, id: newId(), undoes: last.id };
  state.undone.push({ ...last, undo: body.id });
  send({ path: "undo", body, show: last.key });
  state.said = `Undone: ${last.key} was ${CHOICES[last.choice]}.`;
}

export function redo() {
  const last = state.undone.pop();
  if (!last) {
    state.said = "There is nothing to redo.";
    return;
  }
  send({ path: "undo", body: { set: SET, who: state.who, id: newId(), undoes: last.undo } });
  state.decided.push(last);
  state.cases = state.cases.filter((one) => one.key !== last.key);
  begin();
  fill();
}
