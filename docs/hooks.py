"""What MkDocs is told to do beside its plugins.

Equations become MathML, which browsers draw by themselves, without scripts or
fonts from elsewhere. And experiments/RESULTS.md is a page of the site too, so
that links to it hold in the site as in the checkout.
"""

import html
import pathlib
import re
from typing import Any

from latex2mathml import converter
from mkdocs.structure.files import File, Files

# What pymdownx.arithmatex makes of $…$ and of $$…$$.
INLINE = re.compile(r'<span class="arithmatex">\\\((.+?)\\\)</span>', re.S)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.+?)\\\]\s*</div>', re.S)
RESULTS = 'experiments/RESULTS.md'
PAGE = 'results.md'


def on_files(files: Files, config: Any) -> Files:
  """Called by MkDocs with what it has found in docs/."""
  results = pathlib.Path(config['config_file_path']).parent / RESULTS
  files.append(File.generated(config, PAGE, abs_src_path=str(results)))
  return files


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Called with each page."""
  markdown = markdown.replace(f'](../{RESULTS}', f']({PAGE}')
  return markdown.replace('](../docs/', '](')  # Of RESULTS.md.


def on_page_content(content: str, **_: Any) -> str:
  """Called with each page's HTML."""
  content = INLINE.sub(lambda x: _mathml(x[1], 'inline'), content)
  return BLOCK.sub(lambda x: _mathml(x[1], 'block'), content)


def _mathml(latex: str, display: str) -> str:
  return converter.convert(html.unescape(latex).strip(), display=display)
