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
