"""Cross-references of docstrings, written for Sphinx, as plain code on the site."""

import re
from typing import Any

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):(<code>)?[~.]?")


def on_page_content(html: str, **_: Any) -> str:
    """Take the role away and leave the name; called by MkDocs for every page."""
    return _ROLE.sub(r"\1", html)
