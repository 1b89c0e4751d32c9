"""An HTML page, read element by element."""

import json
from html.parser import HTMLParser

VOID = {"meta", "img", "input", "path", "rect", "link", "br", "wbr"}


class Page(HTMLParser):
    """Elements with attributes and text; fails where tags do not close in order.

    A name stays one text where a line may end in it.
    """

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.texts = [], [], []
        self.joined = False
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.joined = tag == "wbr"
        self.found.append((tag, dict(attrs), len(self.texts)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), len(self.texts)))

    def handle_endtag(self, tag):
        self.joined = False
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.joined:
            self.texts[-1] += data
        else:
            self.texts.append(data)
        self.joined = False

    def all(self, tag, **wanted):
        """Attributes of the elements of a name that have these attributes."""
        return [attrs for name, attrs, _ in self.found if name == tag
                and all(attrs.get(key) == value for key, value in wanted.items())]  # fmt: skip

    def text_in(self, key, value):
        """The words that follow an element until the next tag of its kind."""
        (place, tag), *_ = [(n, tag) for n, (tag, attrs, _) in enumerate(self.found)
                            if attrs.get(key) == value]  # fmt: skip
        start = self.found[place][2]
        end = next((at for name, _, at in self.found[place + 1 :] if name == tag), None)
        return " ".join("".join(self.texts[start:end]).split())

    def data(self):
        at = next(at for _, attrs, at in self.found if attrs.get("id") == "report-data")
        return json.loads(self.texts[at])
