/* The whole page. */

import { Do } from "./buttons.js";
import { current, fill, filter } from "./cases.js";
import { leave, leftByChoice } from "./focus.js";
import { plan } from "./marks.js";
import { Panel } from "./panels.js";
import { Search } from "./search.js";
import { Stage } from "./stage.js";
import { root, state } from "./state.js";
import { number, words } from "./words.js";

const { html, render } = htmPreact;

function chosen({ target }) {
  filter(target.value || null);
  leave(target);
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
        <select aria-label="Check" value=${state.check ?? ""} ...${leftByChoice} onChange=${chosen}>
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

function Decision({ one }) {
  const lines = plan();
  const count = state.chosen.size;
  return html`
    <div class="decision">
      ${lines.length > 0 && html`
        <ul class="plan" aria-label="Marked changes">
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
        <label>Your name, shown beside each of your decisions
          <input name="who" maxlength="64" required autofocus autocomplete="name" defaultValue=${localStorage.getItem("review-who") ?? ""} /></label>
        <button class="primary">Start</button>
      </form>
    </main>`;
}

function Page() {
  if (!state.about) return html`<main class="who" aria-busy="true"><h1>Review</h1><p class="fine">${state.said || "Reading the findings ..."}</p></main>`;
  if (!state.who) return html`<${Who} />`;
  const one = current();
  const said = state.said || one?.refused;
  return html`
    <${Progress} />
    <main id="case" data-key=${one?.key ?? ""}>
      ${said && html`<p class="said" role="alert">${said}</p>`}
      ${one ? html`
        <div class="case" aria-live="polite">
          <h2>${one.title} <span class="badge">${one.check} ${one.score.toFixed(2)}</span>
            ${one.decided && html`<span class="badge active">${one.decided.who}: ${one.decided.choice}</span>`}
            ${one.held_by && one.held_by !== state.who && html`<span class="badge flagged">${one.held_by} has it open</span>`}</h2>
          <p class="fine">${one.reason} ${one.look}</p>
        </div>
        <${Stage} one=${one} />
        <${Decision} one=${one} />`
        : html`<p class="empty">${state.empty ? html`Nothing is open${state.check ? ` of ${state.check}` : ""}: every flag is decided, or
            another reviewer has it open. <code>curate clean</code> carries out the decisions. <button type="button" onClick=${() => { state.empty = false; fill(); }}>Look again</button>`
          : state.unreachable || "Looking for the next case ..."}</p>`}
    </main>
    ${state.panel && html`<${Panel} key=${state.panel.name} />`}
    ${state.search && html`<${Search} />`}`;
}

let isWaiting = false;

export function drawNow() {
  render(html`<${Page} />`, root);
}

export function draw() {
  if (isWaiting) return;
  isWaiting = true;
  queueMicrotask(() => {
    isWaiting = false;
    drawNow();
  });
}
