r"""A Page is one HTML file with everything in it: style, script and data; it opens anywhere and asks no network.

Data stands in a `<script type="application/json">`, where the only thing that could end it is `</script>`; as `<` is
written `\u003c`, nothing in the data can. The page's content security policy allows its own style and script by their
SHA-256 and nothing else, so that a browser would refuse markup even if some got in.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from quantlab.graph.files import atomic_write

NOTEBOOK_HEIGHT = 720
"""Height of a page in a notebook, in pixels."""

_SCRIPT_ENDS = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


@dataclass(frozen=True, kw_only=True)
class Page:
    """One HTML page.

    Attributes:
        html: The whole file.

    Example:
        >>> Page(html="<!doctype html><p>fine</p>").html
        '<!doctype html><p>fine</p>'
    """

    html: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, all of it or nothing.

        Args:
            path: Where to write; the folder has to exist.

        Raises:
            ModelError: The folder is missing or not writable, or `path` is a directory.
        """
        with atomic_write(path) as temporary:
            temporary.write_text(self.html, encoding="utf-8")

    def _repr_html_(self) -> str:
        """Show the page in a notebook: in a frame, so that neither's style or script reaches the other."""
        inside = html.escape(self.html, quote=True)
        return (
            f'<iframe sandbox="allow-scripts" width="100%" height="{NOTEBOOK_HEIGHT}" style="border:0" '
            f'srcdoc="{inside}"></iframe>'
        )


def embedded(data: Any) -> str:
    r"""Write plain values as JSON that can stand inside a `<script>`, whatever the strings in it.

    Args:
        data: Plain JSON values; numbers have to be finite.

    Returns:
        JSON of the same values, in which no markup can begin or end.

    Example:
        >>> embedded({"name": "</script>"})
        '{"name":"\\u003c/script\\u003e"}'
    """
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_SCRIPT_ENDS)


def assembled(title: str, data: Any, *, template: str, style: str, scripts: Sequence[str]) -> Page:
    """Put a page together from the files in `template/`.

    Args:
        title: Title of the page.
        data: Plain JSON values for the element `data`.
        template: Name of the HTML file, with places for `{{title}}`, `{{policy}}`, `{{style}}`,
            `{{data}}` and `{{script}}`.
        style: Name of the CSS file.
        scripts: Names of the JavaScript files; they share one scope and run in this order.

    Returns:
        The page.
    """
    css = _read(style)
    script = "\n".join(['"use strict";\n(() => {', *map(_read, scripts), "})();"])
    policy = f"default-src 'none'; style-src {_allowed(css)}; script-src {_allowed(script)}"
    parts = {"title": html.escape(title), "policy": policy, "style": css, "data": embedded(data), "script": script}
    page = _read(template)
    before, *rest = page.split("{{")
    # One pass over the template: what is put in is never searched for places itself.
    filled = [before]
    for piece in rest:
        name, _, after = piece.partition("}}")
        filled += [parts[name], after]
    return Page(html="".join(filled))


def _read(name: str) -> str:
    return (files("quantlab.pages") / "template" / name).read_text(encoding="utf-8")


def _allowed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
