// Shows the next ten times of the schedule that is typed in the form, before it is saved.
// The server does the arithmetic (the same functions as the clock), so the preview cannot disagree with it.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const box = document.getElementById("schedule-preview");
  const fields = ["schedule_type", "crontab", "interval", "interval_unit", "timezone"]
    .map((name) => document.getElementById(`id_${name}`));
  if (!box || fields.some((field) => !field)) {
    return; // A page without the form: the user may look, not edit.
  }
  const text = box.querySelector("[data-role=text]");
  const times = box.querySelector("[data-role=times]");
  let asked = 0; // Answers may come out of order; only that to the newest question counts.
  let timer;

  async function refresh() {
    const question = ++asked;
    const query = new URLSearchParams(fields.map((field) => [field.name, field.value]));
    const response = await fetch(`${box.dataset.url}?${query}`, { headers: { Accept: "application/json" } });
    const answer = await response.json();
    if (question !== asked) {
      return;
    }
    text.textContent = answer.error || answer.text;
    text.classList.toggle("text-red-600", Boolean(answer.error));
    times.replaceChildren(...(answer.times || []).map((time) => {
      const item = document.createElement("li");
      item.textContent = time;
      return item;
    }));
  }

  for (const field of fields) {
    for (const event of ["input", "change"]) {
      field.addEventListener(event, () => {
        clearTimeout(timer);
        timer = setTimeout(refresh, 200);
      });
    }
  }
  if (fields[1].value || fields[2].value) {
    refresh();
  }
});
