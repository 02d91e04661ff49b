/* Decisions on their way to the server, sent in order. An unconfirmed one is sent again under the
   same id, and the server accepts each id once. */

import { MOST_HELD, current, fill, show } from "./cases.js";
import { draw } from "./page.js";
import { lookSoon } from "./progress.js";
import { Refusal, ask } from "./server.js";
import { state } from "./state.js";

export function outboxName() {
  return `review-outbox:${state.about.digest}`;
}

export function send(entry) {
  state.outbox.push(entry);
  keepOutbox();
  empty();
}

/* Unconfirmed decisions are kept in the browser's storage as far as they fit. */
function keepOutbox() {
  try {
    localStorage.setItem(outboxName(), JSON.stringify(state.outbox));
  } catch {
    localStorage.removeItem(outboxName());
  }
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
  if (!(error instanceof Refusal)) return "the server does not answer; your decisions are kept here and sent again";
  if (error.status === 401) return "you are signed out: open the page's link again";
  return `${error.message}; it is sent again`;
}

function sent(entry) {
  state.outbox = state.outbox.filter((other) => other !== entry);
  keepOutbox();
}

async function taken(entry, answer) {
  if (entry.path === "decide") {
    const [current, ...others] = state.cases;
    const open = others.filter((one) => answer.open[one.key] !== false);
    state.cases = current ? [current, ...open] : [];
    fill();
  } else if (entry.path === "undo" && entry.show) {
    await show(entry.show);
  }
}

async function refused(entry, error) {
  state.said = error.message;
  state.decided = state.decided.filter((one) => one.id !== entry.body.id);
  if (entry.body.case) await show(entry.body.case);
}
