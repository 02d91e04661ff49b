/* The review of flagged identities. */

import { fill } from "./cases.js";
import "./focus.js";
import { empty, kept } from "./outbox.js";
import { draw } from "./page.js";
import { Refusal, ask, wanted } from "./server.js";
import { root, state } from "./state.js";

async function start() {
  root.textContent = "";
  draw();
  try {
    state.about = await ask(wanted("set"));
  } catch (error) {
    state.said = error.message;
    if (!(error instanceof Refusal)) setTimeout(start, 1000);
    draw();
    return;
  }
  state.said = "";
  document.title = `Review ${state.about.name}`;
  state.outbox = kept();
  draw();
  empty();
  fill();
}

addEventListener("beforeunload", (event) => {
  if (state.outbox.length) event.preventDefault();
});

start();
