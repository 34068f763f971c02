// What every page for people needs: the reader's zone, the theme, keys, buttons that copy, and what is live.
// Without JavaScript buttons are forms and links are links; nothing updates, and the wall ends with its first rows.

import "./cells.js";
import "./many.js";
import { fetchPage, note, renew } from "./renew.js";
import { refreshRows } from "./wall.js";

const YEAR = 60 * 60 * 24 * 365;

function remember(name, value) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${name}=${encodeURIComponent(value)}; path=/; max-age=${value ? YEAR : 0}; SameSite=Lax${secure}`;
}

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
if (!document.cookie.includes(`watchclock_zone=${encodeURIComponent(zone)}`)) remember("watchclock_zone", zone);

// On a narrow screen strips have fewer cells, so that each can be made out: the server learns which it is.
const narrow = matchMedia("(max-width: 48rem)");
function sayWidth() {
  const isKnown = () => document.cookie.includes("watchclock_narrow=1") === narrow.matches;
  if (isKnown()) return;
  remember("watchclock_narrow", narrow.matches ? "1" : "");
  if (isKnown()) document.querySelector("form[hx-target='#wall']")?.dispatchEvent(new Event("input", { bubbles: true }));
}
narrow.addEventListener("change", sayWidth);
addEventListener("load", sayWidth);

for (const button of document.querySelectorAll("[data-theme-choice]")) {
  button.addEventListener("click", () => {
    const theme = button.dataset.themeChoice;
    remember("watchclock_theme", theme);
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy)?.textContent ?? "";
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = button.dataset.done ?? "Copied";
  } catch {
    getSelection()?.selectAllChildren(document.getElementById(button.dataset.copy));
  }
});

// A menu closes when something else is clicked, and with Escape.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

// --- keys

const keys = document.getElementById("keys");
document.querySelector("[data-keys]")?.addEventListener("click", () => keys.showModal());

let before = "";
const rows = () => [...document.querySelectorAll("[data-row]")].filter((row) => row.checkVisibility());
const current = () => document.querySelector("[data-row].current");

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(current());
  const next = all[Math.min(Math.max(at + step, 0), all.length - 1)];
  current()?.classList.remove("current");
  next.classList.add("current");
  next.scrollIntoView({ block: "nearest" });
  next.querySelector("[data-open]")?.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  if (event.ctrlKey || event.metaKey || event.altKey || keys?.open) return;
  if (event.target.closest("input:not(.pick), textarea, select, [contenteditable]")) return;
  const key = event.key;
  if (key.length === 1 && "withoutSingleKeys" in document.body.dataset) return; // As the person prefers.
  const pair = before + key;
  before = key === "g" ? "g" : "";
  const places = { gn: "/", gw: "/wall/", gm: "/wall/?mine=1", gp: "/projects/", gc: "/clock/" };
  if (places[pair]) location.assign(places[pair]);
  else if (key === "x" && current()?.querySelector(".pick")) current().querySelector(".pick").click();
  else if (key === "?") keys?.showModal();
  else if (key === "/") document.querySelector("[data-search]")?.focus();
  else if (key === "b" && document.querySelector(".many.on")) document.querySelector(".many.on .acts button").focus();
  else if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (key === "Enter" && current() && event.target === document.body) current().querySelector("[data-open]")?.click();
  else {
    // Without a selected row only what there is once on the page, so that no stray key acts on the first of many.
    const found = (current() ?? document.querySelector("main")).querySelectorAll(`[data-key="${CSS.escape(key)}"]`);
    if (found.length !== 1) return;
    found[0].click();
  }
  event.preventDefault();
});

// --- live: an event says that something has changed, and the page asks for what it shows

const JITTER_MS = 400;
const GAP_MS = 3_000; // Between two refreshes, however many events come.
const SLOW_MS = 60_000;
const WAIT_MS = 2_000;
const AGAIN_MS = 3_000;
const FAILURES_MAX = 2;

// Whether a part of a newer page is what a part of the older one was: a link to the same page, or a heading of details.
function isSame(one, old) {
  if (old.matches("a")) return one.getAttribute("href") === old.getAttribute("href");
  return old.matches("summary") ? one.textContent === old.textContent : one.matches(".strip-large");
}

async function refreshPart(part) {
  // What somebody works with is not taken away: an open menu, a text that is being written.
  if (part.querySelector("details.menu[open], :focus:not(a, .strip, details:not(.menu) > summary), dialog[open]")) return;
  const page = await fetchPage(location.href);
  const fresh = page.getElementById(part.id);
  if (!fresh) return;
  const focused = part.querySelector(":focus");
  const open = part.querySelector("[data-row].current [data-open]");
  for (const name of ["clock", "findings"]) {
    document.getElementById(name)?.replaceWith(page.getElementById(name) ?? "");
  }
  const wasOpen = new Map([...part.querySelectorAll("details > summary")].map((one) => [one.textContent, one.parentNode.open]));
  renew(part, fresh);
  const shown = document.getElementById(part.id);
  for (const one of shown.querySelectorAll("details > summary")) {
    one.parentNode.open = wasOpen.get(one.textContent) ?? one.parentNode.open;
  }
  const again = (old) => old && [...shown.querySelectorAll(old.localName)].find((one) => isSame(one, old));
  again(open)?.closest("[data-row]")?.classList.add("current");
  again(focused)?.focus({ preventScroll: true });
  document.title = page.title;
  document.dispatchEvent(new Event("page:renewed"));
}

let isRefreshing = false;
let isStale = false;
let timer = 0;
let next = 0;
function soon() {
  clearTimeout(timer);
  timer = setTimeout(refresh, Math.max(next - performance.now(), 0) + Math.random() * JITTER_MS);
}

async function refresh() {
  const part = document.querySelector("[data-live]");
  if (!part || document.hidden) return;
  if (isRefreshing) {
    isStale = true;  // What is on its way was perhaps read before the change.
    return;
  }
  isRefreshing = true;
  try {
    await (part.dataset.live === "rows" ? refreshRows() : refreshPart(part));
    document.documentElement.dataset.refreshed = String(Date.now());
    note(true, FAILURES_MAX);
  } catch {
    // The next event or the slow timer tries again, and this once more soon.
    if (note(false, FAILURES_MAX) === 1) setTimeout(refresh, AGAIN_MS);
  } finally {
    isRefreshing = false;
    next = performance.now() + GAP_MS;
    if (isStale) soon();
    isStale = false;
  }
}

const live = document.querySelector("[data-live]");
if (live) {
  const events = new EventSource(`/events?since=${encodeURIComponent(live.dataset.mark ?? "")}`);
  for (const name of ["message", "open", "error"]) events.addEventListener(name, soon);
  document.addEventListener("visibilitychange", soon);
  setInterval(soon, SLOW_MS);
  // Nothing marks a first check-in before the next tick, and somebody watches for it now.
  setInterval(() => document.querySelector("[data-wait]") && refresh(), WAIT_MS);
}

// --- forms with a schedule: only the fields of the chosen kind, and the reader's zone for a new monitor

const scheduleForm = document.querySelector("form[data-schedule]");
if (scheduleForm) {
  const kind = scheduleForm.elements.schedule_type;
  const show = () => {
    for (const [name, of] of [["crontab", "crontab"], ["interval", "interval"], ["interval_unit", "interval"]]) {
      scheduleForm.querySelector(`[data-field="${name}"]`).hidden = kind.value !== of;
    }
  };
  kind.addEventListener("change", show);
  show();
  const zones = scheduleForm.elements.timezone;
  if (scheduleForm.matches("[data-proposes-zone]") && zones.value === "UTC" && zone) zones.value = zone;
}

// --- the form of a new monitor: a slug that follows the name until somebody types one

const newMonitor = document.getElementById("new-monitor");
if (newMonitor) {
  // The server has the last word (monitors/slugs.py).
  const { name, slug } = newMonitor.elements;
  const slugOf = (text) =>
    text.normalize("NFKD").replace(/[^\x00-\x7f]/g, "").toLowerCase().replace(/[^a-z0-9_\s-]/g, "").replace(/[-\s]+/g, "-")
      .replace(/^[-_]+|[-_]+$/g, "");
  let follows = !slug.value || slug.value === slugOf(name.value);
  name.addEventListener("input", () => {
    const found = slugOf(name.value);
    // A long one is cut with digits that only the server makes: it stays empty then.
    if (follows) slug.value = found.length <= 50 ? found : "";
  });
  slug.addEventListener("input", () => { follows = !slug.value; });
}
