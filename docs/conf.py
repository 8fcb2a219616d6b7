"""Settings of the documentation site; ``tools/docs.py`` builds it (``make docs``)."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert

import rarefire

project = "rarefire"
author = "the rarefire developers"
copyright = author
version = release = rarefire.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["src"]
nitpicky = True

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
toc_object_entries = False
maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_attributes_as_param_list = True

html_theme = "furo"
html_title = "rarefire"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
# Summaries are fetched from the pages found, which a browser refuses for files.
html_show_search_summary = False
html_math_renderer = "mathml"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

#: Sections of a docstring in which an indented paragraph is a displayed formula; in others it goes with a name.
PROSE = {"", "Notes"}


def formulas(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Have the indented formulas of a docstring stand as they are written."""
    section, displayed = "", []
    for k, line in enumerate(lines):
        if k + 1 < len(lines) and re.fullmatch(r"-{3,}", lines[k + 1].strip()):
            section = line.strip()
        above = lines[k - 1].strip() if k else ""
        before = next((text for text in reversed(lines[:k]) if text.strip()), "")
        if section in PROSE and line.startswith("    ") and not above and before and not before.startswith(" "):
            displayed += ["::", ""]
        displayed.append(line)
    lines[:] = displayed


def bars(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep the bars of |w| and ‖x‖ from being read as markup."""
    for k, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        lines[k] = "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)


def only_ours(app: Any, what: str, name: str, member: Any, skip: bool, options: object) -> bool | None:
    """Leave out what scikit-learn and others put into a class."""
    module = getattr(member, "__module__", None) or getattr(getattr(member, "fget", None), "__module__", None)
    return True if module and not module.startswith("rarefire") else None


def our_bases(app: Any, name: str, obj: object, options: object, bases: list[Any]) -> None:
    """Name the bases that have a place in the reference."""
    bases[:] = [cls for cls in bases if cls.__module__.startswith("rarefire") and cls.__name__[0] != "_"] or [object]


def by_last_name(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Resolve a name that a docstring gives without its module, where only one object is called so."""
    if node.get("refdomain") != "py":
        return None
    domain, target = env.get_domain("py"), node["reftarget"].removeprefix("rarefire.")
    last = target.split(".")[-2:] if node["reftype"] in ("meth", "attr") else target.split(".")[-1:]
    found = [full for full in domain.objects if full.split(".")[-len(last) :] == last]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], found[0], node, text)


def mathml(self: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers set themselves: no script, no font, no network."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    ElementTree.fromstring(formula)
    self.body.append(f'<div class="formula" tabindex="0">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def accessible(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """What theme and writer leave out: the level of captions, scrolling by keyboard, lists that define nothing."""
    for part in ("furo_navigation_tree", "body"):
        context[part] = context.get(part, "").replace('role="heading"', 'role="heading" aria-level="2"')
    body = context["body"].replace("<pre>", '<pre tabindex="0">')
    body = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
    # A signature over several lines is written as a list without terms; all other lists have a class.
    context["body"] = re.sub(r"<dl>(.*?)</dl>", plain_lines, body, flags=re.DOTALL)


def plain_lines(found: re.Match[str]) -> str:
    """The arguments of a signature, a line each."""
    lines = found[1].replace("<dd>", "<span>").replace("</dd>", "</span>")
    return f'<span class="arguments">{lines}</span>'


def setup(app: Any) -> None:
    """Connect all of this."""
    app.connect("autodoc-process-docstring", formulas, priority=400)
    app.connect("autodoc-process-docstring", bars, priority=600)
    app.connect("autodoc-skip-member", only_ours)
    app.connect("autodoc-process-bases", our_bases)
    app.connect("missing-reference", by_last_name)
    app.connect("html-page-context", accessible, priority=900)
    app.add_html_math_renderer("mathml", inline_renderers=(mathml, None), block_renderers=(mathml, None))
