// What is in a cell of a strip: its time, and how often what happened. Under the mouse or a finger; and with the arrow
// keys in the row that has the focus, where it is read out too. One attribute of the strip says it all (cells.py).

const legend = () => document.getElementById("legend");
const detail = document.getElementById("cell");
const said = document.getElementById("cell-said");
const FIRST_LETTER = "a".charCodeAt(0);
const CELL_WIDTH = 9; // In the units of the drawing, with the gap.

let shown = null; // { row, at, isByKey }: which strip, from when on its cell is (s), and whether keys led to it.
let mark = null;

function read(strip) {
  const [start, seconds, cells] = strip.dataset.cells.split(" ");
  return { start: Number(start), seconds: Number(seconds), cells: cells.split(",") };
}

const stripOf = (row) => (row ? document.getElementById(row) : document)?.querySelector(".strip[data-cells]");

function inWords({ start, seconds, cells }, number) {
  const clock = new Intl.DateTimeFormat(document.documentElement.lang, {
    timeZone: legend().dataset.zone, weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
  });
  const from = (start + number * seconds) * 1000;
  const words = [...legend().children].map((one) => one.textContent.trim());
  const counts = [...cells[number].matchAll(/([a-z])(\d+)/g)].map(([, letter, count]) => {
    const word = words[letter.charCodeAt(0) - FIRST_LETTER];
    return count === "0" ? word : `${count} ${word}`;
  });
  return `${clock.formatRange(from, from + seconds * 1000)}: ${counts.join(", ") || legend().dataset.nothing}`;
}

function show(strip, number, isByKey) {
  const facts = read(strip);
  const at = facts.start + number * facts.seconds;
  const row = strip.closest("[data-row]")?.id ?? "";
  const text = inWords(facts, number);
  mark ??= document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ class: "cell-mark", x: number * CELL_WIDTH, width: CELL_WIDTH - 1, height: 16 })) mark.setAttribute(name, value);
  if (mark.parentNode !== strip) strip.append(mark);
  detail.textContent = text;
  detail.hidden = false;
  const box = strip.getBoundingClientRect();
  const own = detail.getBoundingClientRect();
  const middle = box.left + ((number + 0.5) * box.width) / facts.cells.length;
  detail.style.left = `${Math.max(Math.min(middle - own.width / 2, document.documentElement.clientWidth - own.width - 4), 4)}px`;
  detail.style.top = `${box.top < own.height ? box.bottom : box.top - own.height}px`;
  if (isByKey && said.textContent !== text) said.textContent = text;
  shown = { row, at, isByKey };
}

function hide() {
  shown = null;
  mark?.remove();
  detail.hidden = true;
  said.textContent = "";
}

// Rows are drawn anew while somebody looks: the same time stays shown, as long as it is there.
function showAgain() {
  if (!shown) return;
  const strip = stripOf(shown.row);
  const facts = strip && read(strip);
  const number = facts ? Math.floor((shown.at - facts.start) / facts.seconds) : -1;
  if (number >= 0 && number < facts.cells.length) show(strip, number, shown.isByKey);
  else hide();
}

function point(event) {
  const strip = event.target.closest?.(".strip[data-cells]");
  if (strip) {
    const box = strip.getBoundingClientRect();
    const count = read(strip).cells.length;
    show(strip, Math.min(Math.max(Math.floor(((event.clientX - box.left) / box.width) * count), 0), count - 1), false);
  } else if (shown && !shown.isByKey && !detail.contains(event.target)) {
    hide();
  }
}

function move(event) {
  if (event.key === "Escape" && shown) hide();
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  const strip = event.target.closest(".strip[data-cells]") ?? event.target.closest("[data-row]")?.querySelector(".strip[data-cells]");
  if (!strip) return;
  const { start, seconds, cells } = read(strip);
  const isSame = shown && stripOf(shown.row) === strip;
  // The first key leads to the newest cell.
  const number = isSame ? Math.round((shown.at - start) / seconds) + step : cells.length - 1;
  show(strip, Math.min(Math.max(number, 0), cells.length - 1), true);
  event.preventDefault();
}

if (detail) {
  for (const name of ["pointermove", "pointerdown"]) document.addEventListener(name, point);
  document.addEventListener("keydown", move);
  // A node that is gone afterwards was replaced by a newer one, which has the focus now: see `showAgain`.
  document.addEventListener("focusout", ({ target }) => setTimeout(() => target.isConnected && shown?.isByKey && hide()));
  document.addEventListener("scroll", () => (shown?.isByKey ? showAgain() : shown && hide()), { passive: true });
  document.addEventListener("page:renewed", showAgain);
}
