"""The pages: each is one file that loads nothing from anywhere else."""

import base64
import hashlib
import re
from pathlib import Path

from fastapi import Response

from utils.pages.render import render

TEMPLATES = Path(__file__).parent / "templates"


class Page:
    """A page of `templates/`.

    Args:
        name: The name of its template, style and script.
    """

    def __init__(self, name: str) -> None:
        text = render(
            TEMPLATES / f"{name}.html", {}, generator="serve.py",
            styles=("base.css", f"{name}.css"), scripts=(f"{name}.js",),
        )  # fmt: skip
        self._body = text.encode()
        script, style = (_hash(text, tag) for tag in ("script", "style"))
        policy = (
            f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
            "img-src data: blob:; base-uri 'none'; form-action 'none'"
        )
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Frame-Options": "DENY",
            "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        }

    async def answer(self) -> Response:
        """Return the page."""
        return Response(self._body, headers=self._headers, media_type="text/html")


def _hash(text: str, tag: str) -> str:
    """Return the hash of the only script or style of a page, as its policy names it."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
