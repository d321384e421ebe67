"""HTML from a look: whole documents, and the parts that the stream replaces one by one.

What changes from second to second is *live*: a template writes it by `live(key, text)`, and the
stream sends that text alone. The rest of a part is its skeleton; where that is another one, the
browser fetches the part anew. Whatever is shown is escaped, and shown as `printable` has it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup

from supervisor import screen
from supervisor.core.moments import span, stamp, when
from supervisor.page import view
from supervisor.page.lately import SPANS
from supervisor.page.look import Look
from supervisor.terminal import printable

PARTS = ("verdict", "ribbon", "next", "runs", "queue", "machine", "cost", "decisions")
HERE = Path(__file__).parent

_LIVE_TEXT = re.compile(r'(data-live="[^"]*">)[^<]*')
_LIVE_VALUE = re.compile(r'(data-live-value="[^"]*" value=")[^"]*')


class Part(NamedTuple):
    """One part of the page."""

    html: str
    live: dict[str, str]
    """key: the text that stands there, or with `@value` behind the key the value of an attribute"""
    skeleton: str
    """the same as long as only live texts differ"""


class _Lives:
    """Remembers what of a part is live while a template writes it."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def text(self, key: str, text: object) -> Markup:
        """A text that changes."""
        self.known[key] = printable(text)
        return Markup('<span data-live="{}">{}</span>').format(key, self.known[key])

    def value(self, key: str, number: float) -> Markup:
        """The attribute `value` of a bar, which changes."""
        self.known[f"{key}@value"] = f"{number:.4g}"
        return Markup('data-live-value="{}" value="{}"').format(key, self.known[f"{key}@value"])


class Rendering:
    """All templates of the page.

    Args:
        static: where a file of `static/` is fetched, by its name.
    """

    def __init__(self, static: Callable[[str], str]) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters["urlencode"] = _quoted
        self._templates.globals |= {
            "static": static,
            "view": view,
            "SPANS": SPANS,
            "screen": screen,
            "span": span,
            "day_and_time": lambda at: when(stamp(at)),
        }

    def part(self, name: str, look: Look, who: str, span_asked: str = "24h") -> Part:
        """One part of the main page.

        Args:
            name: one of `PARTS`.
            look: what is true.
            who: `look` or `act`: who may act has buttons.
            span_asked: one of `SPANS`: how far back the ribbon reaches.
        """
        lives = _Lives()
        values = {"look": look, "who": who, "span_asked": span_asked}
        html = self._render(f"parts/{name}.html", values, lives)
        bones = _LIVE_VALUE.sub(r"\1", _LIVE_TEXT.sub(r"\1", html))
        return Part(html, lives.known, hashlib.sha256(bones.encode()).hexdigest()[:16])

    def page(self, template: str, look: Look | None, who: str, **values: Any) -> str:
        """A whole document.

        Args:
            template: its file.
            look: what is true; None: nothing of the home is to be told.
            who: `look` or `act`.
            values: what the template asks for.
        """
        values = {"seen": ""} | values | {"look": look, "who": who}
        if look is not None:
            span_asked = values.get("span_asked", "24h")

            def part(name: str) -> Markup:
                html = self.part(name, look, who, span_asked).html
                return Markup(html)  # noqa: S704 - everything in it is escaped

            values["part"] = part
        return self._render(template, values, _Lives())

    def _render(self, template: str, values: Mapping[str, Any], lives: _Lives) -> str:
        found = self._templates.get_template(template)
        return found.render(values, live=lives.text, live_value=lives.value)


def _quoted(value: str | Mapping[str, str]) -> str:
    """A part of an address, or what is asked behind its question mark."""
    if isinstance(value, str):
        return quote(printable(value), safe="")
    return urlencode({name: printable(text) for name, text in value.items()})


def _shown(value: object) -> object:
    """What is written by hostile hands loses what would turn the text around, or hide it."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
