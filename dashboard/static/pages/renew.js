// How a page that is shown takes over a newer one of the server: what somebody works with stays where it is.

// Ask the server for a page, or for a part of one.
export async function fetchPage(address) {
  const answer = await fetch(address, { headers: { "X-Live": "1" }, redirect: "error" });
  if (!answer.ok) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// Make `wanted` the children of `parent`, in this order. The one with the focus is not moved, which would take it away:
// all others are moved around it.
export function arrange(parent, wanted) {
  const kept = new Set(wanted);
  for (const node of [...parent.childNodes]) if (!kept.has(node)) node.remove();
  const pinned = wanted.find((node) => node.parentNode === parent && node.contains(document.activeElement));
  let at = parent.firstChild;
  for (const node of wanted) {
    if (node === pinned || node === at) at = node.nextSibling;
    else parent.insertBefore(node, at);
  }
}

// Who looks at a page that gets no answer any more has to know it: after `limit` times the page says since when.
// Returns how many times in a row there was none.
const stale = document.getElementById("stale");
let failures = 0;
let answeredAt = new Date();
export function note(isAnswered, limit) {
  failures = isAnswered ? 0 : failures + 1;
  if (isAnswered) answeredAt = new Date();
  stale.hidden = failures < limit;
  if (!stale.hidden) stale.querySelector("time").textContent = answeredAt.toLocaleTimeString(document.documentElement.lang);
  return failures;
}

const READ_OUT = "[aria-live], [role='status'], [role='alert']";

// Show a newer version of a part of the page. What is read out when it changes stays, and only what is in it changes: of
// a new node nothing would be read. Such a node has an id, by which the newer one is found.
export function renew(old, fresh) {
  if (!old.matches(READ_OUT) && !old.querySelector(READ_OUT)) return old.replaceWith(fresh);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old.matches(READ_OUT)) {
    if (old.innerHTML !== fresh.innerHTML) old.replaceChildren(...fresh.childNodes);
    return undefined;
  }
  const own = [...old.children];
  const wanted = [...fresh.childNodes].map((node) => {
    const id = (node.matches?.(READ_OUT) ? node : node.querySelector?.(READ_OUT))?.id;
    const same = id && own.find((one) => one.tagName === node.tagName && one.contains(document.getElementById(id)));
    if (same) renew(same, node);
    return same || node;
  });
  return arrange(old, wanted);
}
