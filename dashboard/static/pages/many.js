// The selected rows of the wall: with the mouse (a range with Shift), with the key x, or all that are shown. The bar of
// what can be done with them comes before the rows: the key b leads there, and Escape back to the row.

const many = document.getElementById("many");
const wall = () => document.getElementById("wall");
const boxes = () => [...document.querySelectorAll(".pick")];

// The bar comes and goes above the rows, which stay where they are on the screen.
function show(isOn) {
  if (many.classList.contains("on") === isOn) return;
  const before = wall().getBoundingClientRect().top;
  many.classList.toggle("on", isOn);
  scrollBy(0, wall().getBoundingClientRect().top - before);
}

let query = wall()?.dataset.query;
function count() {
  // Another filter is another choice: nobody means the rows of one that came later.
  if (query !== wall().dataset.query) many.elements.scope.checked = false;
  query = wall().dataset.query;
  many.querySelector("[data-all]").textContent = wall().dataset.all;
  const isAll = many.elements.scope.checked;
  const selected = isAll ? Number(wall().dataset.all) : boxes().filter((box) => box.checked).length;
  many.querySelector("output").textContent = selected;
  show(selected > 0);
}

let last = null;
function pick(event) {
  const box = event.target.closest?.(".pick");
  if (!box) return;
  const all = boxes();
  const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b);
  if (event.shiftKey && from >= 0) for (const one of all.slice(from, to + 1)) one.checked = box.checked;
  last = box;
  count();
}

let left = null; // Where the focus was before it came to the bar.
if (many) {
  many.elements.scope.addEventListener("change", count);
  document.addEventListener("click", pick);
  for (const button of many.querySelectorAll("[data-pick]")) {
    button.addEventListener("click", () => {
      boxes().forEach((box, at) => { box.checked = at < Number(button.dataset.pick); });
      many.elements.scope.checked = false;
      count();
      if (!many.classList.contains("on")) (left?.isConnected ? left : wall().querySelector("[data-open]"))?.focus();
    });
  }
  many.addEventListener("focusin", (event) => { if (event.relatedTarget?.closest("[data-row]")) left = event.relatedTarget; });
  many.addEventListener("keydown", (event) => { if (event.key === "Escape" && left?.isConnected) left.focus(); });
  many.addEventListener("submit", () => { many.elements.next.value = location.pathname + location.search; });
  for (const name of ["htmx:after:swap", "page:renewed"]) document.addEventListener(name, count);
  count();
}
