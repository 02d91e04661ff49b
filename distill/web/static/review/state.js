/* The state of the page; every change redraws the page from this object. */

import { defaultKeys } from "./actions.js";

export const root = document.getElementById("review");
export const SET = root.dataset.set;

export const state = {
  about: null,
  who: localStorage.getItem("review-who") || "",
  cases: [],
  later: [], // cases put off, which come after all others
  filling: false,
  empty: false,
  unreachable: "", // why the next cases did not come
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
  awaiting: null, // the action that takes the next key
  keys: { ...defaultKeys(), ...stored("review-keys", {}) },
};

export function stored(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}
