/* Keys are for the case: what the mouse has clicked, and a check that was chosen, give the focus back. */

/* Captured, because a dialog that opens remembers what had the focus. A click by key has no detail. */
document.addEventListener("click", (event) => {
  if (event.detail) event.target.closest?.(".top button, .decision button, summary")?.blur();
}, true);

const LEAVING = ["Enter", "Escape"];
let isBrowsing = false;

/* In a closed select, arrows and letters go from check to check, and Enter or Escape leaves it. In an open one,
   whose keys never get here, each choice is final. */
export const leftByChoice = {
  onPointerDown: () => { isBrowsing = false; },
  onKeyDown: (event) => {
    isBrowsing = !event.altKey && event.key !== " ";
    if (LEAVING.includes(event.key)) event.currentTarget.blur();
  },
};

export function leave(select) {
  if (!isBrowsing) select.blur();
}
