"""A page's form as a browser sends it: what its fields hold, those that nobody sees too."""

from html.parser import HTMLParser


def form_of(text: str, form_id: str) -> dict[str, list[str]]:
    """Return what the form with this id would send if it were sent as it is."""
    reader = _FormReader(form_id)
    reader.feed(text)
    assert reader.found, f"there is no form {form_id}"
    return reader.sent


class _FormReader(HTMLParser):
    def __init__(self, form_id: str) -> None:
        super().__init__()
        self.form_id, self.is_inside, self.found = form_id, False, False
        self.sent: dict[str, list[str]] = {}
        self._select = ""
        self._textarea = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.is_inside = given.get("id") == self.form_id
            self.found = self.found or self.is_inside
        if not self.is_inside:
            return
        name, value = given.get("name") or "", given.get("value") or ""
        if tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in given:
            self._keep(self._select, value)
        elif tag == "textarea":
            self._textarea = name
            self._keep(name, "")
        elif tag == "input" and name and given.get("type") not in ("submit", "button", "file"):
            if given.get("type") in ("checkbox", "radio"):
                if "checked" in given:
                    self._keep(name, value or "on")
            else:
                self._keep(name, value)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.is_inside = False
        if tag == "select":
            self._select = ""
        if tag == "textarea":
            self._textarea = ""

    def handle_data(self, data: str) -> None:
        if self.is_inside and self._textarea:
            self.sent[self._textarea][-1] += data.removeprefix("\n").removeprefix("\r\n")

    def _keep(self, name: str, value: str) -> None:
        if "__prefix__" not in name:
            self.sent.setdefault(name, []).append(value)
