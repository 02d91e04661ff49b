/* The actions and their keys. */

export const ACTIONS = {
  accept: ["y", "Accept what is proposed"],
  reject: ["n", "Reject it: change nothing"],
  unsure: ["i", "Unsure: somebody else may know"],
  done: ["Enter", "Carry out the marked changes"],
  later: ["j", "Put this case off until no other is open"],
  undo: ["u", "Undo your last decision"],
  redo: ["U", "Redo the decision you undid"],
  choose: [" ", "Choose the face, or drop it from the choice"],
  all: ["a", "Choose all faces of the row"],
  clear: ["Escape", "Clear the choice, then all marks"],
  drop: ["d", "Leave the chosen faces out"],
  move: ["m", "Move the chosen faces to the rival, or back"],
  moveTo: ["g", "Move the chosen faces to any identity"],
  split: ["s", "Split the chosen faces off as a new person"],
  merge: ["w", "Merge the identity into its rival; press again for the other direction"],
  mergeTo: ["e", "Merge the identity into any other identity"],
  dropIdentity: ["X", "Leave the whole identity out"],
  proposal: ["p", "Mark the proposal, to change it"],
  larger: ["+", "Larger faces"],
  smaller: ["-", "Smaller faces"],
  history: ["h", "History"],
  conflicts: ["o", "Conflicts"],
  numbers: ["b", "Progress and calibration"],
  keys: ["?", "Keys"],
};

export const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };

export function defaultKeys() {
  return Object.fromEntries(Object.entries(ACTIONS).map(([name, [key]]) => [name, key]));
}
