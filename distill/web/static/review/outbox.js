/* Decisions on their way to the server, sent in order. An unconfirmed one is sent again under the
   same id, and the server accepts each id once. */

import { MOST_HELD, bringBack, fill } from "./cases.js";
import { draw } from "./page.js";
import { lookSoon } from "./progress.js";
import { Refusal, ask, whyUnreachable } from "./server.js";
import { state, stored } from "./state.js";

/* Each unconfirmed decision is kept in the browser's storage under a key of its own, because all windows share it. */
function keptName(id) {
  return `review-outbox:${state.about.digest}:${id}`;
}

export function kept() {
  const names = Object.keys(localStorage).filter((name) => name.startsWith(keptName("")));
  return names.map((name) => stored(name, null)).filter((entry) => entry?.body).sort((one, other) => one.at - other.at);
}

export function send(entry) {
  const timed = { ...entry, at: performance.timeOrigin + performance.now() };
  state.outbox.push(timed);
  try {
    localStorage.setItem(keptName(entry.body.id), JSON.stringify(timed));
  } catch {
    // The storage is full: this window still has the decision.
  }
  empty();
}

export async function empty() {
  if (state.sending) return;
  state.sending = true;
  let pause = 250;
  while (state.outbox.length) {
    const entry = state.outbox[0];
    try {
      const held = entry.path === "decide" ? { held: state.cases.map((one) => one.key).slice(0, MOST_HELD) } : {};
      const answer = await ask(entry.path, { ...entry.body, ...held });
      state.trouble = "";
      pause = 250;
      sent(entry);
      await taken(entry, answer);
    } catch (error) {
      if (error instanceof Refusal && error.status < 500 && ![401, 429].includes(error.status)) {
        sent(entry);
        await refused(entry, error);
      } else {
        state.trouble = whyNotSaved(error);
        draw();
        await new Promise((resume) => setTimeout(resume, pause));
        pause = Math.min(2 * pause, 4000);
      }
    }
    draw();
  }
  state.sending = false;
  lookSoon();
}

function whyNotSaved(error) {
  const why = whyUnreachable(error);
  if (!(error instanceof Refusal)) return `${why}; your decisions are kept here and sent again`;
  return error.status === 401 ? why : `${why}; it is sent again`;
}

function sent(entry) {
  state.outbox = state.outbox.filter((other) => other !== entry);
  localStorage.removeItem(keptName(entry.body.id));
}

async function taken(entry, answer) {
  if (entry.path === "decide") {
    const [current, ...others] = state.cases;
    const open = others.filter((one) => answer.open[one.key] !== false);
    state.cases = current ? [current, ...open] : [];
    fill();
  } else if (entry.path === "undo" && entry.show) {
    await bringBack(entry.show);
  }
}

async function refused(entry, error) {
  state.said = error.message;
  state.decided = state.decided.filter((one) => one.id !== entry.body.id);
  if (entry.body.case) await bringBack(entry.body.case, error.message);
}
