"use strict";

/* The review of flagged identities. One object holds what is shown; after every change the page is
   drawn from it. Decisions go through a queue that the browser keeps: it is emptied in order, what
   was not confirmed is sent again under the same id, and the server takes each id once. */

const { html, render, useEffect, useRef } = htmPreact;

const root = document.getElementById("review");
const SET = root.dataset.set;
const AHEAD = 6;
const MOST_HELD = 48; // that the server takes
const MOST_WAITING = 30;
const AT_FIRST = 60;
const MORE = 120;

const ACTIONS = {
  accept: ["y", "Accept what is proposed"],
  reject: ["n", "Reject it: all stays"],
  unsure: ["i", "Unsure: somebody else may know"],
  done: ["Enter", "Do what you have marked"],
  later: ["j", "Look at this case later"],
  undo: ["u", "Undo your last decision"],
  redo: ["U", "Redo it"],
  choose: [" ", "Choose the face, or not"],
  all: ["a", "Choose all faces of its row"],
  clear: ["Escape", "Choose nothing, then take all marks away"],
  drop: ["d", "Leave the chosen faces out"],
  move: ["m", "Move the chosen faces to the rival, or back from it"],
  moveTo: ["g", "Move the chosen faces to any identity"],
  split: ["s", "Split the chosen faces off as a new person"],
  merge: ["w", "Merge the identity into its rival; again: the other way round"],
  mergeTo: ["e", "Merge the identity into any other"],
  dropIdentity: ["X", "Leave the whole identity out"],
  proposal: ["p", "Mark what is proposed, to change it"],
  larger: ["+", "Larger faces"],
  smaller: ["-", "Smaller faces"],
  history: ["h", "History"],
  conflicts: ["o", "Conflicts"],
  numbers: ["b", "Progress and calibration"],
  keys: ["?", "Keys"],
};
const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };

const state = {
  about: null,
  who: localStorage.getItem("review-who") || "",
  cases: [],
  filling: false,
  empty: false,
  check: null,
  chosen: new Set(),
  anchor: null,
  focus: 0,
  marks: new Map(),
  whole: [],
  shown: {},
  zoom: Number(localStorage.getItem("review-zoom")) || 104,
  outbox: [],
  sending: false,
  trouble: "",
  decided: [],
  undone: [],
  said: "",
  progress: null,
  left: null,
  panel: null,
  search: null,
  keys: { ...defaultKeys(), ...stored("review-keys", {}) },
};

function defaultKeys() {
  return Object.fromEntries(Object.entries(ACTIONS).map(([name, [key]]) => [name, key]));
}

function stored(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/* ---- talking to the server ---- */

class Refusal extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

async function ask(path, sent) {
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

function wanted(path, more = {}) {
  return `${path}?${new URLSearchParams({ set: SET, ...more })}`;
}

function face(image) {
  return `/review/face/${state.about.digest}/${image}?${new URLSearchParams({ set: SET })}`;
}

function compared(one, { set, image }) {
  return `/review/compared/${one.findings}/${set}/${image}?${new URLSearchParams({ set: SET })}`;
}

function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((n) => n.toString(16).padStart(2, "0")).join("");
}

function outboxName() {
  return `review-outbox:${state.about.digest}`;
}

function send(entry) {
  state.outbox.push(entry);
  keepOutbox();
  empty();
}

/* What the server has not confirmed survives the browser, as far as that has room for it. */
function keepOutbox() {
  try {
    localStorage.setItem(outboxName(), JSON.stringify(state.outbox));
  } catch {
    localStorage.removeItem(outboxName());
  }
}

async function empty() {
  if (state.sending) return;
  state.sending = true;
  let pause = 250;
  while (state.outbox.length) {
    const entry = state.outbox[0];
    try {
      const answer = await ask(entry.path, { ...entry.body, ...(entry.path === "decide" ? { held: state.cases.map((one) => one.key).slice(0, MOST_HELD) } : {}) });
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
  if (!(error instanceof Refusal)) return "the server does not answer; it is sent again";
  if (error.status === 401) return "you are signed out: open the link again";
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

/* A case as it is sent has the first and the last of each run of images in a row. */
function unpacked(one) {
  const images = (runs) => runs.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, n) => first + n));
  return { ...one, rows: one.rows.map((row) => ({ ...row, images: images(row.images) })) };
}

/* A case that is to be looked at now. */
async function show(key) {
  try {
    const found = unpacked(await ask(wanted("case", { key })));
    state.cases = [found, ...state.cases.filter((one) => one.key !== key)];
    begin();
  } catch (error) {
    state.said = error.message;
  }
}

/* What the server is not to give again: what is shown, and what is decided but not saved. */
function heldKeys() {
  const waiting = state.outbox.filter((entry) => entry.path === "decide").map((entry) => entry.body.case);
  return [...new Set([...state.cases.map((one) => one.key), ...waiting])].slice(0, MOST_HELD);
}

async function fill() {
  if (state.filling || !state.who || state.cases.length >= AHEAD - 2 || state.outbox.length > MOST_WAITING) return;
  state.filling = true;
  const check = state.check;
  try {
    const held = heldKeys();
    const found = await ask("next", { set: SET, who: state.who, count: AHEAD, check, held });
    if (check === state.check) {
      const there = new Set([...held, ...heldKeys()]);
      const fresh = found.filter((one) => !there.has(one.key)).map(unpacked);
      const isFirst = state.cases.length === 0;
      state.cases.push(...fresh);
      state.empty = state.cases.length === 0;
      fresh.forEach(preload);
      if (isFirst) begin();
    }
  } catch (error) {
    if (error instanceof Refusal && error.status === 422) state.said = error.message;
    else setTimeout(fill, 1000);
  }
  state.filling = false;
  draw();
}

const ready = new Map();

/* The faces that are seen first, decoded before the case is shown. */
function preload(one) {
  const images = [...one.faces.map(({ image }) => image), ...one.rows.flatMap((row) => row.images.slice(0, 16))];
  const shown = one.compared.filter(({ there }) => there).map((other) => compared(one, other));
  for (const address of [...shown, ...images.map(face)]) {
    if (ready.has(address)) continue;
    const picture = new Image();
    picture.src = address;
    ready.set(address, picture);
    if (ready.size > 800) ready.delete(ready.keys().next().value);
  }
}

let lookAgain = null;

/* Progress is looked at while nobody is waiting for the next case. */
function lookSoon() {
  clearTimeout(lookAgain);
  lookAgain = setTimeout(look, 1500);
}

async function look() {
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

/* ---- what a person does ---- */

function current() {
  return state.cases[0];
}

function begin() {
  state.chosen = new Set();
  state.marks = new Map();
  state.whole = [];
  state.shown = {};
  state.anchor = null;
  state.focus = 0;
  if (document.activeElement?.matches(".pick")) document.activeElement.blur();
  document.querySelectorAll(".row .faces").forEach((pane) => pane.scrollTo(0, 0));
}

function flat() {
  const one = current();
  if (!one) return [];
  const faces = one.faces.map(({ image, identity }) => ({ image, identity, row: -1 }));
  const rows = one.rows.flatMap((row, number) =>
    row.images.slice(0, state.shown[number] ?? AT_FIRST).map((image) => ({ image, identity: row.identity, row: number })));
  return [...faces, ...rows];
}

/* The identity of each face of the case that is shown. */
function identities() {
  const one = current();
  return new Map([
    ...one.rows.flatMap((row) => row.images.map((image) => [image, row.identity])),
    ...one.faces.map(({ image, identity }) => [image, identity]),
  ]);
}

function choose(index, isRange) {
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

function chosenOrSuspect() {
  const one = current();
  return state.chosen.size ? [...state.chosen] : one && one.image !== null ? [one.image] : [];
}

function mark(action, into) {
  const images = chosenOrSuspect();
  if (!images.length) {
    state.said = "Choose faces first: click them, or use the arrows and the space bar.";
    return;
  }
  const identityOf = identities();
  for (const image of images) {
    const identity = identityOf.get(image);
    const to = into === "rival" ? (identity === current().identity ? current().rival : current().identity) : into;
    if (action === "move" && (to === null || to === identity)) {
      state.said = to === null ? "This case has no rival; choose an identity." : "It is there already.";
      return;
    }
    state.marks.set(image, { action, identity, into: action === "move" ? to : action === "split" ? 0 : null });
  }
  state.chosen = new Set();
}

function mergeInto(into) {
  const { identity } = current();
  if (into === null || into === identity) {
    state.said = "This case has no rival; choose an identity to merge into.";
    return;
  }
  const before = state.whole.find((line) => line.action === "merge");
  const isSame = before && before.identity === identity && before.into === into;
  const line = isSame ? { action: "merge", identity: into, into: identity } : { action: "merge", identity, into };
  state.whole = [...state.whole.filter((other) => other.action !== "merge"), line];
}

function markProposal() {
  for (const text of current().proposed) {
    const [action, ...numbers] = text.split(" ");
    const n = numbers.map(Number);
    if (action === "drop-identity") state.whole.push({ action, identity: n[0], into: null });
    else if (action === "merge") state.whole.push({ action, identity: n[0], into: n[1] });
    else state.marks.set(n[0], { action, identity: n[1], into: n[2] ?? null });
  }
}

function plan() {
  const groups = new Map();
  for (const [image, line] of state.marks) {
    const name = `${line.action} ${line.identity} ${line.into}`;
    if (!groups.has(name)) groups.set(name, { ...line, images: [] });
    groups.get(name).images.push(image);
  }
  return [...groups.values(), ...state.whole.map((line) => ({ ...line, images: [] }))];
}

function decide(choice) {
  const one = current();
  if (!one) return;
  const lines = choice === "change" ? plan() : [];
  if (choice === "change" && !lines.length) {
    state.said = "Nothing is marked: accept, reject, or mark what is to be done.";
    return;
  }
  if (choice !== "change" && (state.marks.size || state.whole.length)) {
    state.said = `You have marked something: ${shownKey("done")} does that, ${shownKey("clear")} takes the marks away.`;
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

function undo() {
  const last = state.decided.pop();
  if (!last) {
    state.said = "You have decided nothing here yet; the history has all that was decided.";
    return;
  }
  const body = { set: SET, who: state.who, id: newId(), undoes: last.id };
  state.undone.push({ ...last, undo: body.id });
  send({ path: "undo", body, show: last.key });
  state.said = `Undone: ${last.choice} on ${last.key}.`;
}

function redo() {
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

function zoom(by) {
  state.zoom = Math.min(320, Math.max(40, Math.round(state.zoom * by)));
  localStorage.setItem("review-zoom", state.zoom);
}

function step(key, isRange) {
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

/* The face above or below, nearest to the middle of the one that has the focus. */
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

/* Also those of its faces that are not drawn yet. */
function chooseRow() {
  const row = current().rows[flat()[state.focus]?.row];
  (row ? row.images : current().faces.map(({ image }) => image)).forEach((image) => state.chosen.add(image));
}

function clear() {
  if (state.chosen.size) state.chosen = new Set();
  else [state.marks, state.whole] = [new Map(), []];
  state.said = "";
}

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
  moveTo: () => search("move"),
  split: () => mark("split", null),
  merge: () => mergeInto(current().rival),
  mergeTo: () => search("merge"),
  dropIdentity: () => state.whole.push({ action: "drop-identity", identity: current().identity, into: null }),
  proposal: markProposal,
  larger: () => zoom(1.25),
  smaller: () => zoom(0.8),
  history: () => openPanel("history"),
  conflicts: () => openPanel("conflicts"),
  numbers: () => openPanel("numbers"),
  keys: () => openPanel("keys"),
};
const ALWAYS = ["undo", "redo", "larger", "smaller", "history", "conflicts", "numbers", "keys", "clear"];

function act(name) {
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
    act(name);
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

function shownKey(name) {
  const key = state.keys[name];
  return NAMES[key] ?? key;
}

/* ---- panels ---- */

async function openPanel(name) {
  state.panel = { name, content: null };
  draw();
  try {
    if (name === "history") state.panel.content = await ask(wanted("history"));
    if (name === "conflicts") state.panel.content = await ask(wanted("conflicts"));
    if (name === "numbers") await look();
  } catch (error) {
    state.said = error.message;
  }
  draw();
}

function closePanel() {
  state.panel = null;
  state.search = null;
  state.awaiting = null;
  draw();
}

function search(action) {
  state.search = { action, text: "", found: [] };
  draw();
}

let typing = null;

function searchFor(text) {
  state.search.text = text;
  clearTimeout(typing);
  typing = setTimeout(async () => {
    if (!state.search) return;
    try {
      const found = text.trim() ? await ask(wanted("identities", { q: text })) : [];
      if (state.search?.text === text) state.search.found = found;
    } catch (error) {
      state.said = error.message;
    }
    draw();
  }, 150);
}

function takeFound(identity) {
  const { action } = state.search;
  closePanel();
  if (action === "move") mark("move", identity);
  else mergeInto(identity);
  draw();
}

async function undoOf(event) {
  send({ path: "undo", body: { set: SET, who: state.who, id: newId(), undoes: event.id } });
  await new Promise((resume) => setTimeout(resume, 200));
  openPanel("history");
}

async function settle(conflict, event) {
  try {
    await ask("settle", { set: SET, who: state.who, id: newId(), conflict: conflict.key, keep: event.id });
  } catch (error) {
    state.said = error.message;
  }
  openPanel("conflicts");
  look();
}

/* ---- drawing ---- */

const number = (n) => n.toLocaleString("en");

function words(line) {
  const count = line.images.length;
  const faces = count === 1 ? "1 face" : `${number(count)} faces`;
  switch (line.action) {
    case "drop": return `leave out ${faces}`;
    case "move": return `move ${faces} to identity ${line.into}`;
    case "split": return line.into ? `split off ${faces} (new person ${line.into})` : `split off ${faces} as a new person`;
    case "merge": return `merge identity ${line.identity} → into identity ${line.into}`;
    default: return `leave out identity ${line.identity}`;
  }
}

function markWord(line) {
  return line && { drop: "leave out", move: `→ ${line.into}`, split: "split off" }[line.action];
}

function Pick({ image, identity, index, isSuspect, role, done }) {
  const line = state.marks.get(image);
  const word = markWord(line) ?? done;
  const label = `image ${image} of identity ${identity}${word ? `, ${word}` : ""}`;
  return html`
    <button type="button" class=${`pick ${isSuspect ? "suspect" : ""} ${line ? "marked" : ""}`} data-image=${image}
      aria-pressed=${state.chosen.has(image)} aria-label=${label} tabindex=${index === state.focus ? 0 : -1}
      onClick=${(event) => { choose(index, event.shiftKey); draw(); }}>
      <img src=${face(image)} alt="" loading=${index < 80 ? "eager" : "lazy"} decoding=${index < 40 ? "sync" : "async"} />
      ${(word || role) && html`<span class="word">${word || role}</span>`}
    </button>`;
}

function Row({ row, number: place, offset }) {
  const most = state.shown[place] ?? AT_FIRST;
  const end = useRef(null);
  useEffect(() => {
    if (!end.current) return undefined;
    const observer = new IntersectionObserver(([seen]) => {
      if (seen.isIntersecting) {
        state.shown[place] = most + MORE;
        draw();
      }
    }, { root: end.current.parentElement, rootMargin: "400px" });
    observer.observe(end.current);
    return () => observer.disconnect();
  }, [most, row]);
  const images = row.images.slice(0, most);
  return html`
    <section class="row" aria-label=${row.title}>
      <h3>${row.title}</h3>
      <div class="faces" tabindex="-1">
        ${images.map((image, at) => html`<${Pick} key=${image} image=${image} identity=${row.identity} index=${offset + at} done=${row.done[image]} />`)}
        ${most < row.images.length && html`<span ref=${end} class="fine">${number(row.images.length - most)} more</span>`}
      </div>
    </section>`;
}

/* A picture of an evaluation set, which nothing can be done about. */
function Compared({ one, other }) {
  const name = `image ${number(other.image)} of ${other.name}`;
  return html`
    <figure class="compared">
      ${other.there
        ? html`<img src=${compared(one, other)} alt=${name} /><figcaption class="fine">${name}</figcaption>`
        : html`<figcaption class="fine">${name} cannot be shown: the set that was checked is not beside the store any more.</figcaption>`}
    </figure>`;
}

function Stage({ one }) {
  let offset = one.faces.length;
  const rows = one.rows.map((row, place) => {
    const begins = offset;
    offset += Math.min(row.images.length, state.shown[place] ?? AT_FIRST);
    return html`<${Row} key=${`${one.key} ${place}`} row=${row} number=${place} offset=${begins} />`;
  });
  return html`
    <div class="stage" style=${{ "--face": `${state.zoom}px` }}>
      ${one.faces.length > 0 && html`
        <section class="suspects" aria-label="In question">
          <h3>In question</h3>
          <div class="faces">
            ${one.faces.map((shown, at) => html`<${Pick} key=${`s${shown.image}`} image=${shown.image} identity=${shown.identity}
              index=${at} isSuspect=${shown.suspect} role=${shown.role} />`)}
          </div>
        </section>`}
      ${one.compared.length > 0 && html`
        <section class="suspects" aria-label="In the evaluation set">
          <h3>In the evaluation set</h3>
          ${one.compared.map((other) => html`<${Compared} key=${`${other.set} ${other.image}`} one=${one} other=${other} />`)}
        </section>`}
      <div class="rows">${rows}</div>
    </div>`;
}

function Key({ name }) {
  return html`<kbd>${shownKey(name)}</kbd>`;
}

function Do({ name, children, kind, disabled }) {
  return html`<button type="button" class=${kind || ""} disabled=${disabled} onClick=${() => act(name)}>${children} <${Key} name=${name} /></button>`;
}

function Decision({ one }) {
  const lines = plan();
  const count = state.chosen.size;
  return html`
    <div class="decision">
      ${lines.length > 0 && html`
        <ul class="plan" aria-label="What you have marked">
          ${lines.map((line) => html`<li>${words(line)}</li>`)}
        </ul>`}
      <div class="chips">
        ${lines.length > 0
          ? html`<${Do} name="done" kind="primary">Do this<//><${Do} name="clear">Clear<//>`
          : html`
            <${Do} name="accept" kind="yes">Accept: ${one.words || "nothing is proposed"}<//>
            <${Do} name="reject" kind="no">Reject<//>
            <${Do} name="unsure">Unsure<//>`}
        <${Do} name="later">Later<//>
        <${Do} name="undo">Undo<//>
      </div>
      <details class="tools" open=${count > 0 || innerWidth > 760}>
        <summary>${count ? `${number(count)} chosen` : "Change something else"}</summary>
        <div class="chips">
          <${Do} name="drop">Leave out<//><${Do} name="split">Split off<//>
          <${Do} name="move" disabled=${one.rival === null}>Move to the rival<//><${Do} name="moveTo">Move to ...<//>
          <${Do} name="merge" disabled=${one.rival === null}>Merge with the rival<//><${Do} name="mergeTo">Merge into ...<//>
          <${Do} name="dropIdentity">Leave the identity out<//><${Do} name="proposal">Mark the proposal<//>
        </div>
      </details>
    </div>`;
}

function Progress() {
  const { progress, left, outbox } = state;
  const decided = progress ? progress.decided + progress.unsure : 0;
  const all = progress ? decided + progress.open : 0;
  return html`
    <header class="top">
      ${root.dataset.home && html`<a href=${root.dataset.home}>distill</a>`}
      <h1>Review <span class="fine">${state.about?.name}</span></h1>
      ${progress && html`
        <div class="meter" role="progressbar" aria-label="Cases done" aria-valuemin="0" aria-valuemax=${all}
          aria-valuenow=${decided}><span style=${{ width: `${(100 * decided) / Math.max(1, all)}%` }}></span></div>
        <span class="fine">${number(progress.open)} open, ${number(decided)} decided</span>`}
      ${left && left.images !== undefined && html`<span class="fine kept">keeps ${number(left.images)} of ${number(left.images_before)} images;
        ${" "}${number(left.identities)} identities, ${number(left.identities_before)} before</span>`}
      <span class="saved" role="status">${state.trouble || (outbox.length ? `saving ${outbox.length} ...` : "all saved")}</span>
      <nav class="chips" aria-label="More">
        <select aria-label="Check" value=${state.check ?? ""} onChange=${(event) => filter(event.target.value || null)}>
          <option value="">All checks</option>
          ${(state.about?.checks ?? []).map((check) => html`<option value=${check}>${check}${progress ? ` (${number(progress.open_of_check[check] ?? 0)})` : ""}</option>`)}
        </select>
        <${Do} name="history">History<//>
        <${Do} name="conflicts" kind=${progress?.conflicts ? "wrong" : ""}>Conflicts${progress?.conflicts ? ` (${progress.conflicts})` : ""}<//>
        <${Do} name="numbers">Numbers<//>
        <${Do} name="keys">Keys<//>
        <button type="button" onClick=${() => { state.who = ""; draw(); }}>${state.who}</button>
      </nav>
    </header>`;
}

function filter(check) {
  state.check = check;
  state.cases = [];
  state.empty = false;
  begin();
  draw();
  fill();
}

function Dialog({ title, children, onClose }) {
  const dialog = useRef(null);
  useEffect(() => { if (!dialog.current.open) dialog.current.showModal(); }, []);
  return html`
    <dialog ref=${dialog} aria-label=${title} onClose=${onClose} onCancel=${onClose}>
      <div class="head"><h2>${title}</h2><button type="button" onClick=${onClose}>Close <kbd>Esc</kbd></button></div>
      ${children}
    </dialog>`;
}

function Happened({ event, children }) {
  return html`
    <li class=${event.counts ? "" : "void"}>
      <strong>${event.who}</strong> ${event.undoes ? "undid a decision on" : event.choice} <code>${event.case}</code>
      ${" "}<span class="fine">${event.at.replace("T", " ").slice(0, 19)}${event.undone_by ? `, undone by ${event.undone_by}` : ""}</span>
      ${event.lines.length > 0 && html`<div class="fine">${event.lines.slice(0, 4).join("; ")}${event.lines.length > 4 ? "; ..." : ""}</div>`}
      ${children}
    </li>`;
}

function Panel() {
  const { name, content } = state.panel;
  if (name === "keys") {
    return html`
      <${Dialog} title="Keys" onClose=${closePanel}>
        <p class="fine">Arrows go from face to face, with Shift they choose a range; a click chooses, with Shift a range. Press a
          button to give it another key.</p>
        <ul class="keys">${Object.entries(ACTIONS).map(([action, [, what]]) => html`
          <li><span>${what}</span> <button type="button" aria-label=${`${what}: ${shownKey(action)}; change`}
            onClick=${() => { state.awaiting = action; draw(); }}>
            ${state.awaiting === action ? "press a key ..." : html`<${Key} name=${action} />`}</button></li>`)}</ul>
        <button type="button" onClick=${() => { state.keys = defaultKeys(); localStorage.removeItem("review-keys"); draw(); }}>As they were at first</button>
      <//>`;
  }
  if (name === "history") {
    return html`
      <${Dialog} title="History" onClose=${closePanel}>
        ${content && !content.length && html`<p>Nothing was decided yet.</p>`}
        <ol class="events">${(content ?? []).map((event) => html`
          <${Happened} key=${event.id} event=${event}>
            <div class="chips">
              ${event.counts && html`<button type="button" onClick=${() => undoOf(event)}>Undo</button>`}
              <button type="button" onClick=${async () => { closePanel(); await show(event.case); draw(); }}>Look at it</button>
            </div>
          <//>`)}</ol>
        ${content?.length >= 50 && html`<button type="button" onClick=${() => older(content)}>Older</button>`}
      <//>`;
  }
  if (name === "conflicts") {
    return html`
      <${Dialog} title="Conflicts" onClose=${closePanel}>
        ${content && !content.length && html`<p>Nobody contradicts anybody.</p>`}
        ${(content ?? []).map((conflict) => html`
          <section class="conflict" key=${conflict.key}>
            <h3>${conflict.about}</h3>
            ${conflict.image !== null && html`<img src=${face(conflict.image)} alt=${`image ${conflict.image}`} />`}
            <ol class="events">${conflict.events.map((event) => html`
              <${Happened} key=${event.id} event=${event}>
                <button type="button" onClick=${() => settle(conflict, event)}>This one stays</button>
              <//>`)}</ol>
          </section>`)}
      <//>`;
  }
  const { progress, left } = state;
  return html`
    <${Dialog} title="Progress and calibration" onClose=${closePanel}>
      ${progress && html`
        <dl class="tiles">
          ${[["cases", progress.cases], ["open", progress.open], ["decided", progress.decided], ["unsure", progress.unsure],
            ["settled by others", progress.settled], ["conflicts", progress.conflicts]].map(([what, count]) => html`
            <div><dt>${what}</dt><dd>${number(count)}</dd></div>`)}
        </dl>
        ${left?.images !== undefined && html`<p>${number(left.images)} of ${number(left.images_before)} images are left when
          ${" "}<code>curate clean</code> carries this out, in ${number(left.identities)} identities (${number(left.identities_before)} before).</p>`}
        ${progress.set_aside > 0 && html`<p class="fine">${number(progress.set_aside)} events are about other findings and are set aside.</p>`}
        <h3>Reviewers</h3>
        <ul>${Object.entries(progress.reviewers).map(([who, count]) => html`<li>${who}: ${number(count)}</li>`)}</ul>
        <h3>Calibration</h3>
        ${progress.calibration.length
          ? html`<ul>${progress.calibration.map((one) => html`<li>${one.words}</li>`)}</ul>`
          : html`<p class="fine">After 20 decisions on scores that are near each other it says here how often the check was right.</p>`}`}
    <//>`;
}

async function older(content) {
  const more = await ask(wanted("history", { before: content[content.length - 1].number }));
  state.panel.content = [...content, ...more];
  draw();
}

function Search() {
  const { action, text, found } = state.search;
  const what = action === "move" ? "Move the chosen faces to" : `Merge identity ${current()?.identity} into`;
  return html`
    <${Dialog} title=${`${what} ...`} onClose=${closePanel}>
      <form onSubmit=${(event) => { event.preventDefault(); if (found[0]) takeFound(found[0].identity); }}>
        <label>Number, label or name <input autofocus value=${text} autocomplete="off" onInput=${(event) => searchFor(event.target.value)} /></label>
      </form>
      <ul class="found">${found.map((one) => html`
        <li key=${one.identity}><button type="button" onClick=${() => takeFound(one.identity)}>
          <span>identity ${one.identity}${one.name ? ` ${one.name}` : ""}${one.label === null ? "" : `, label ${one.label}`}, ${number(one.count)} images</span>
          <span class="faces">${one.images.map((image) => html`<img src=${face(image)} alt="" />`)}</span>
        </button></li>`)}</ul>
      ${text && !found.length && html`<p class="fine">Nobody is called so.</p>`}
    <//>`;
}

function Who() {
  return html`
    <main class="who">
      <h1>Review <span class="fine">${state.about?.name}</span></h1>
      <form onSubmit=${(event) => {
        event.preventDefault();
        const name = new FormData(event.target).get("who").trim();
        if (!name) return;
        state.who = name;
        localStorage.setItem("review-who", name);
        draw();
        fill();
      }}>
        <label>Your name, which stands beside each of your decisions
          <input name="who" maxlength="64" required autofocus autocomplete="name" defaultValue=${localStorage.getItem("review-who") ?? ""} /></label>
        <button class="primary">Begin</button>
      </form>
    </main>`;
}

function Page() {
  if (!state.about) return html`<main class="who" aria-busy="true"><h1>Review</h1><p class="fine">${state.said || "Reading what was found ..."}</p></main>`;
  if (!state.who) return html`<${Who} />`;
  const one = current();
  return html`
    <${Progress} />
    <main id="case" data-key=${one?.key ?? ""}>
      ${state.said && html`<p class="said" role="alert">${state.said}</p>`}
      ${one ? html`
        <div class="case" aria-live="polite">
          <h2>${one.title} <span class="badge">${one.check} ${one.score.toFixed(2)}</span>
            ${one.decided && html`<span class="badge active">${one.decided.who}: ${one.decided.choice}</span>`}
            ${one.held_by && one.held_by !== state.who && html`<span class="badge flagged">${one.held_by} looks at it</span>`}</h2>
          <p class="fine">${one.reason} ${one.look}</p>
        </div>
        <${Stage} one=${one} />
        <${Decision} one=${one} />`
        : html`<p class="empty">${state.empty ? html`Nothing is open${state.check ? ` of ${state.check}` : ""}: every flag is decided, or
            somebody else looks at it. <code>curate clean</code> carries it out. <button type="button" onClick=${() => { state.empty = false; fill(); }}>Look again</button>`
          : "Looking for the next case ..."}</p>`}
    </main>
    ${state.panel && html`<${Panel} key=${state.panel.name} />`}
    ${state.search && html`<${Search} />`}`;
}

let isWaiting = false;

function drawNow() {
  render(html`<${Page} />`, root);
}

function draw() {
  if (isWaiting) return;
  isWaiting = true;
  queueMicrotask(() => {
    isWaiting = false;
    drawNow();
  });
}

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
  document.title = `Review ${state.about.name}`;
  state.outbox = stored(outboxName(), []);
  draw();
  empty();
  fill();
}

addEventListener("beforeunload", (event) => {
  if (state.outbox.length) event.preventDefault();
});
start();
