"""Names of Python's own types in signatures are no links: ``bytes`` is also the name of fields."""

from __future__ import annotations

import builtins
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

OWN = frozenset(dir(builtins))


def without_links(_app: Sphinx, tree: nodes.document) -> None:
    """Takes references to them out of a page."""
    for reference in list(tree.findall(pending_xref)):
        if reference.get("refdomain") == "py" and reference.get("reftarget") in OWN:
            reference.replace_self(nodes.Text(reference["reftarget"]))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", without_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
