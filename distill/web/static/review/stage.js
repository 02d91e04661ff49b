/* The faces of a case. */

import { AT_FIRST, MORE, choose } from "./choosing.js";
import { draw } from "./page.js";
import { compared, face } from "./server.js";
import { state } from "./state.js";
import { markWord, number } from "./words.js";

const { html, useEffect, useRef } = htmPreact;

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

/* An image of an evaluation set; no decision applies to it. */
function Compared({ one, other }) {
  const name = `image ${number(other.image)} of ${other.name}`;
  return html`
    <figure class="compared">
      ${other.there
        ? html`<img src=${compared(one, other)} alt=${name} /><figcaption class="fine">${name}</figcaption>`
        : html`<figcaption class="fine">${name} cannot be shown: the set that was checked is not beside the store any more.</figcaption>`}
    </figure>`;
}

export function Stage({ one }) {
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
