"""What MkDocs is told to do beside its plugins: equations become MathML.

Browsers draw MathML by themselves, without scripts or fonts from elsewhere.
"""

import html
import re
from typing import Any

from latex2mathml import converter

# What pymdownx.arithmatex makes of $…$ and of $$…$$.
INLINE = re.compile(r'<span class="arithmatex">\\\((.+?)\\\)</span>', re.S)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.+?)\\\]\s*</div>', re.S)


def on_page_content(content: str, **_: Any) -> str:
  """Called by MkDocs with each page's HTML."""
  content = INLINE.sub(lambda x: _mathml(x[1], 'inline'), content)
  return BLOCK.sub(lambda x: _mathml(x[1], 'block'), content)


def _mathml(latex: str, display: str) -> str:
  return converter.convert(html.unescape(latex).strip(), display=display)
