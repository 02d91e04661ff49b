"use strict";

/* A spec that is dropped, chosen or typed, with its errors at their lines. */
document.addEventListener("DOMContentLoaded", () => {
  const panel = document.getElementById("submit");
  const form = document.getElementById("spec-form");
  const spec = document.getElementById("spec");
  const place = document.getElementById("submitted");
  let isSubmitting = false;

  function element(name, text, kind) {
    const made = document.createElement(name);
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  async function take(file) {
    panel.open = true;
    if (file.size > 65536) {
      place.replaceChildren(element("p", `${file.name} is larger than 64 KiB: it is no job spec`, "problem"));
      return;
    }
    spec.value = await file.text();
    place.replaceChildren();
    spec.focus();
  }

  document.getElementById("spec-file").addEventListener("change", (event) => {
    if (event.target.files[0]) take(event.target.files[0]);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });

  /* Groups "the spec:9:1: ..." and its continuation lines by line number. */
  function faults(text) {
    const found = new Map();
    const rest = [];
    let at = null;
    for (const line of text.split("\n")) {
      const placed = line.match(/^.*?:(\d+):(\d+): (.*)$/);
      if (placed) {
        at = Number(placed[1]);
        found.set(at, [...(found.get(at) || []), placed[3]]);
      } else if (at !== null && /^ {4}/.test(line)) {
        found.get(at).push(line.trim());
      } else {
        rest.push(line);
      }
    }
    return { found, rest };
  }

  function show(text) {
    const { found, rest } = faults(text);
    const said = element("p", rest.join("\n") || "The spec cannot be run:", "problem words");
    const lines = document.createElement("ol");
    lines.className = "source";
    lines.tabIndex = 0;
    lines.setAttribute("role", "list");
    lines.setAttribute("aria-label", "The spec with its faults");
    spec.value.split("\n").forEach((line, at) => {
      const item = element("li", line || " ");
      const wrong = found.get(at + 1);
      if (wrong) {
        item.className = "wrong";
        item.append(...wrong.map((each) => element("span", each, "fault")));
      }
      lines.append(item);
    });
    place.replaceChildren(said, ...(found.size ? [lines] : []));
    const first = lines.querySelector(".wrong");
    if (found.size && first) lines.scrollTop = first.offsetTop - lines.offsetTop - 60;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isSubmitting) return; // a second submit would be refused because of the first
    isSubmitting = true;
    await submit().finally(() => { isSubmitting = false; });
  });

  async function submit() {
    const asked = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value && typeof value === "string") asked.append(name, value);
    place.replaceChildren(element("p", "checking the spec ...", "fine"));
    let answer, told;
    try {
      answer = await fetch(`/api/jobs?${asked}`, { method: "POST", body: spec.value });
      told = await answer.json();
    } catch {
      place.replaceChildren(element("p", "the daemon does not answer", "problem"));
      return;
    }
    if (!answer.ok) {
      show(told.error);
      return;
    }
    const done = document.createElement("p");
    const link = element("a", told.job.name);
    link.href = `/jobs/${encodeURIComponent(told.job.name)}`;
    done.append(link, `: ${told.answer}`);
    place.replaceChildren(done, ...told.warnings.map((each) => element("p", `warning: ${each}`, "problem")));
    document.getElementById("live").dispatchEvent(new CustomEvent("live"));
  }
});
