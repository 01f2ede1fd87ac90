"""The report as one HTML file that needs no network."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render_page(content: Mapping[str, Any]) -> str:
    """Fill the page; all text of `content` is escaped.

    Nothing from outside is loaded and no script runs but the page's own: its hash stands in the page's
    content security policy, so that even a fault in the escaping would not run a script in a class name.

    Args:
        content: what `templates/page.html` names.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    page = environment.get_template("page.html").render(
        script=Markup(script), style=Markup(style), script_hash=f"sha256-{digest}", **content
    )
    return page.lstrip()
