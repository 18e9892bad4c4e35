"""The manual as a site: ``python -m sphinx -W --keep-going -b html docs OUT``, with the extra ``docs`` installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))
sys.path.append(str(Path(__file__).parents[1]))  # build_manual; pyxcsr itself is the installed one, if there is one

import pyxcsr

project = "pyxcsr"
author = "the pyxcsr developers"
copyright = f"2026, {author}"
version = release = pyxcsr.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "builtin_types", "commands"]
exclude_patterns = ["_build"]
templates_path: list[str] = []

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4  # links name headings as GitHub does: page.md#heading
suppress_warnings: list[str] = []
nitpicky = False

autodoc_default_options = {"members": True, "member-order": "bysource", "undoc-members": True}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = True

html_theme = "furo"
html_title = f"pyxcsr {release}"
html_static_path = ["site/static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
highlight_language = "none"
pygments_style = "friendly"
