// Pages that open without an account: times on the reader's wall clock, and the newest state every few seconds.
// Without JavaScript times are in UTC, as the page says.

import { note, renew } from "./renew.js";

const FAILURES_MAX = 3;
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const lang = document.documentElement.lang;
const clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(lang, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });

function localise(root) {
  const note = root.querySelector("[data-zone]");
  if (!note) return;
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    time.textContent = (at.toDateString() === today ? clock : day).format(at);
  }
  note.textContent = `${note.dataset.zone} ${zone}.`;
}

localise(document);

let etag = "";
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { redirect: "error", cache: "no-cache" });
    if (answer.status === 404) return location.reload();
    const fresh = answer.headers.get("ETag") ?? "";
    if (!answer.ok) throw new Error(String(answer.status));
    note(true, FAILURES_MAX);
    if (fresh === etag) return;
    etag = fresh;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    localise(page);
    renew(document.getElementById("main"), page.getElementById("main"));
    document.documentElement.dataset.refreshed = String(Date.now());
  } catch {
    note(false, FAILURES_MAX);  // The next round tries again.
  }
}

setInterval(refresh, Number(document.body.dataset.refresh) * 1000);
document.addEventListener("visibilitychange", refresh);
