/* The progress of the review. */

import { draw } from "./page.js";
import { Refusal, ask, wanted } from "./server.js";
import { state } from "./state.js";

let lookAgain = null;

/* Updates the progress while nobody waits for the next case. */
export function lookSoon() {
  clearTimeout(lookAgain);
  lookAgain = setTimeout(look, 1500);
}

export async function look() {
  clearTimeout(lookAgain);
  lookAgain = setTimeout(look, document.hidden ? 60000 : 15000);
  try {
    state.progress = await ask(wanted("progress"));
    draw();
    state.left = await ask(wanted("left"));
  } catch (error) {
    if (error instanceof Refusal && error.status === 422) state.said = error.message;
  }
  draw();
}
