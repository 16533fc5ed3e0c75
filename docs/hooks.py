"""Hooks that MkDocs calls while it builds the site.

They turn equations into MathML, which browsers draw without scripts or fonts
from elsewhere, and add experiments/RESULTS.md as a page, so that links to it
work in the site as in the checkout.
"""

import html
import pathlib
import re
from typing import Any

from latex2mathml import converter
from mkdocs.structure.files import File, Files

# The HTML that pymdownx.arithmatex makes from $…$ and $$…$$.
INLINE = re.compile(r'<span class="arithmatex">\\\((.+?)\\\)</span>', re.S)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.+?)\\\]\s*</div>', re.S)
RESULTS = 'experiments/RESULTS.md'
PAGE = 'results.md'


def on_files(files: Files, config: Any) -> Files:
  """Adds the page of results to the files that MkDocs found in docs/."""
  results = pathlib.Path(config['config_file_path']).parent / RESULTS
  files.append(File.generated(config, PAGE, abs_src_path=str(results)))
  return files


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Adapts links from and to RESULTS.md to its place in the site."""
  markdown = markdown.replace(f'](../{RESULTS}', f']({PAGE}')
  return markdown.replace('](../docs/', '](')  # Links in RESULTS.md.


def on_page_content(content: str, **_: Any) -> str:
  """Replaces the equations in a page's HTML by MathML."""
  content = INLINE.sub(lambda x: _mathml(x[1], 'inline'), content)
  return BLOCK.sub(lambda x: _mathml(x[1], 'block'), content)


def _mathml(latex: str, display: str) -> str:
  return converter.convert(html.unescape(latex).strip(), display=display)
