/* Requests to the server, and the addresses of images. */

import { SET, state } from "./state.js";

export class Refusal extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

export async function ask(path, sent) {
  const options = sent
    ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) }
    : {};
  const answer = await fetch(`/review/${path}`, options);
  const type = answer.headers.get("content-type") || "";
  const content = type.includes("json") ? await answer.json() : null;
  if (!answer.ok || content === null) {
    throw new Refusal(answer.status, content?.error ?? `the server answered ${answer.status}`);
  }
  return content;
}

export function whyUnreachable(error) {
  if (!(error instanceof Refusal)) return "the server does not answer";
  return error.status === 401 ? "you are signed out: open the page's link again" : error.message;
}

export function wanted(path, more = {}) {
  return `${path}?${new URLSearchParams({ set: SET, ...more })}`;
}

export function face(image) {
  return `/review/face/${state.about.digest}/${image}?${new URLSearchParams({ set: SET })}`;
}

export function compared(one, { set, image }) {
  return `/review/compared/${one.findings}/${set}/${image}?${new URLSearchParams({ set: SET })}`;
}

export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((n) => n.toString(16).padStart(2, "0")).join("");
}
