"""How Sphinx builds the manual: Markdown by MyST, the reference out of the code (`reference.py`)."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils.nodes import Element, SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))

import reference

project = "stemloom"
copyright = "stemloom contributors"
html_title = "stemloom"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["manual.css"]

myst_enable_extensions = ["attrs_inline", "deflist", "dollarmath"]
myst_heading_anchors = 4
smartquotes = False  # a flag's two hyphens are no dash

nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # docstrings' types are words for people, such as "np.ndarray of float32"
default_role = "code"  # `channels` is mostly an argument, and rarely the attribute of some class
autodoc_typehints = "none"  # docstrings have types, with shapes
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]  # as parameters: types are words, not references
napoleon_use_param = False
napoleon_use_rtype = False
toc_object_entries = False

html_math_renderer = "mathml"  # browsers draw it themselves: no scripts from another site


def _draw(display: bool) -> Callable[[Any, Element], None]:
    def visit(self: Any, node: Element) -> None:
        formula = tex2mathml(node.astext(), as_block=display)
        self.body.append(f'<div class="math">{formula}</div>' if display else formula)
        raise SkipNode

    return visit


def setup(app: Sphinx) -> None:
    """Have formulas written as MathML."""
    app.add_html_math_renderer("mathml", (_draw(False), None), (_draw(True), None))


reference.write(Path(__file__).parent / "_generated")
