"""Self-contained HTML pages."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render_page(
    content: Mapping[str, Any], template: str = "page.html", script_file: str = "script.js"
) -> str:
    """Render a page; all text of `content` is escaped.

    The page loads nothing and runs only its own script, whose hash is in the content security policy of the page. Even
    with a bug in the escaping, a script in a class name would not run.

    Args:
        content: variables of the template.
        template: file in `templates/`.
        script_file: file in `templates/` with the script of the page.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / script_file).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    page = environment.get_template(template).render(
        script=Markup(script), style=Markup(style), script_hash=f"sha256-{digest}", **content
    )
    return page.lstrip()
