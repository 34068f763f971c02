// The rows of the wall: segments of rows, which are read when they are scrolled to, and anew when something has changed.

import { arrange, fetchPage } from "./renew.js";

const ROWS = 50; // In a segment, as the server cuts them.
const SEGMENTS_MAX = 4; // That are asked for at once.
const NEAR_PX = 300;
const FRAME_MS = 20;

const section = () => document.getElementById("wall");
const segments = () => [...section().querySelectorAll(".segment")];
const rowsIn = (parent) => [...parent.querySelectorAll(".wall-row")];

function isNear(segment, margin = NEAR_PX) {
  const box = segment.getBoundingClientRect();
  return box.bottom > -margin && box.top < innerHeight + margin;
}

function ask(asked, query) {
  const first = asked.length ? asked[0].dataset.from : 0;
  const filters = section().dataset.query ? `&${section().dataset.query}` : "";
  return fetchPage(`/wall/rows?from=${first}&segments=${asked.length}${filters}${query}`);
}

// Who has chosen a row, or is in it, keeps it, wherever it belongs by now; also the one from which keys go on to the next.
const isKept = (row) =>
  row.matches(document.activeElement === document.body ? ".current" : ":focus-within") || row.querySelector(".pick")?.checked;

function update(row, fresh) {
  const old = [...row.children];
  const parts = [...fresh.children].map((part) => {
    const same = old.find((one) => one.isEqualNode(part)) ?? old.find((one) => one === document.activeElement && one.tagName === part.tagName);
    if (!same) return part;
    if (!same.isEqualNode(part)) {
      for (const { name, value } of part.attributes) same.setAttribute(name, value);
      same.replaceChildren(...part.childNodes);
    }
    return same;
  });
  arrange(row, parts);
}

function put(asked, fresh) {
  if (!asked.length) return;
  // What is read in the middle of the wall stays under the eyes: the page scrolls by what came or went above.
  const isAbove = asked[0].getBoundingClientRect().top < 0;
  const near = isAbove ? segments().filter((segment) => isNear(segment, 0)).flatMap(rowsIn) : [];
  const seen = near.map((row) => [row, row.getBoundingClientRect().top]).filter(([, top]) => top >= 0 && top < innerHeight);
  const focused = document.activeElement;
  const parts = asked.map(() => []);
  let number = 0;
  for (const part of [...fresh.children]) {
    const wanted = parts[Math.min(Math.floor(number / ROWS), parts.length - 1)];
    if (!part.matches(".wall-row")) {
      wanted.push(part);
      continue;
    }
    const row = document.getElementById(part.id);
    if (row) update(row, part);
    wanted.push(row ?? part);
    number += 1;
  }
  const placed = new Set(parts.flat());
  asked.forEach((segment, at) => {
    [...segment.children].forEach((row, place) => {
      if (!placed.has(row) && row.matches(".wall-row") && isKept(row)) parts[at].splice(place, 0, row);
    });
  });
  asked.forEach((segment, at) => {
    arrange(segment, parts[at]);
    segment.dataset.read = "";
  });
  if (document.activeElement !== focused && focused.isConnected) focused.focus({ preventScroll: true });
  const moves = seen.filter(([row]) => row.isConnected).map(([row, top]) => row.getBoundingClientRect().top - top);
  if (moves.length) scrollBy(0, moves.sort((one, other) => one - other)[moves.length >> 1]);
}

// Take the rows of one segment out of those of several.
function cut(fresh) {
  const part = document.createElement("div");
  for (let rows = 0; rows < ROWS && fresh.firstElementChild; ) {
    if (fresh.firstElementChild.matches(".wall-row")) rows += 1;
    part.append(fresh.firstElementChild);
  }
  return part;
}

// There are as many segments as the rows need; one at least, for the first row to come.
function resize(all) {
  section().dataset.all = all;
  const now = segments();
  const needed = Math.max(Math.ceil(all / ROWS), 1);
  for (let number = now.length; number < needed; number += 1) {
    const segment = document.createElement("div");
    segment.className = "segment";
    segment.dataset.from = number * ROWS;
    now[now.length - 1].parentNode.append(segment);
    observer.observe(segment);
  }
  for (const segment of now.slice(needed)) {
    now[needed - 1].append(...rowsIn(segment).filter(isKept));
    segment.remove();
  }
}

function sayCounts() {
  const [said, text] = [document.getElementById("counts-said"), document.querySelector("#counts > span").textContent];
  if (said.textContent !== text) said.textContent = text;
}

// Read anew what is in view, the counts, and how many rows there are. What is not in view is read when it is.
export async function refreshRows() {
  const [of, query] = [section(), section().dataset.query];
  const asked = segments().filter((segment) => isNear(segment, 0)).slice(0, SEGMENTS_MAX);
  const page = await ask(asked, "&live=1");
  if (section() !== of || of.dataset.query !== query) return; // Meanwhile another filter was chosen.
  resize(page.getElementById("counts").dataset.all);
  for (const name of ["counts", "clock"]) {
    const fresh = page.getElementById(name);
    if (fresh) document.getElementById(name)?.replaceWith(fresh);
  }
  sayCounts();
  for (const segment of segments()) if (!asked.includes(segment)) delete segment.dataset.read;
  put(asked.filter((one) => one.isConnected), page.querySelector(".segment"));
  document.dispatchEvent(new Event("page:renewed"));
  load();
}

let isLoading = false;
async function load() {
  if (isLoading) return;
  isLoading = true;
  try {
    for (;;) {
      const all = segments();
      const first = all.findIndex((segment) => !("read" in segment.dataset) && isNear(segment));
      if (first < 0) return;
      const [of, query] = [section(), section().dataset.query];
      const end = all.findIndex((segment, at) => at > first && ("read" in segment.dataset || !isNear(segment)));
      const asked = all.slice(first, Math.min(end < 0 ? all.length : end, first + SEGMENTS_MAX));
      const fresh = (await ask(asked, "")).querySelector(".segment");
      // All segments at once would keep the browser from answering for too long: so one is put in and laid out, and is
      // painted in the next frame, before the next one.
      for (const segment of asked) {
        if (section() !== of || of.dataset.query !== query) break;
        put([segment].filter((one) => one.isConnected), cut(fresh));
        document.dispatchEvent(new Event("page:renewed"));
        segment.lastElementChild?.getBoundingClientRect(); // Of the segment alone, what is in it would not be laid out.
        await new Promise((resolve) => setTimeout(resolve, FRAME_MS));
      }
    }
  } catch {
    // Scrolling tries again, and so does the next event.
  } finally {
    isLoading = false;
  }
}

const observer = new IntersectionObserver(load, { rootMargin: `${NEAR_PX}px` });
const observe = () => segments().forEach((segment) => observer.observe(segment));
if (section()) {
  observe();
  document.addEventListener("htmx:after:swap", () => {
    observe();
    sayCounts();
  });
}
