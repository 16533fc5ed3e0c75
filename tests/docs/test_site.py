"""The site builds without warnings, needs no network, and names real things."""

import html
import os
import pathlib
import pkgutil
import re
import subprocess
import sys
import urllib.parse

import pytest

from configs import base
from docs import keys
from tests.browser import Browser
from tests.conftest import ROOT
from tests.devtools import find_or_skip
from tests.docs import pages

PACKAGES = ('configs', 'experiments', 'perceiver', 'scripts')
# Names that look like keys: a benchmark's own key, a file, attributes.
OTHERS = {
  *('data.dir', 'model.safetensors'),
  *('model.params', 'model.config', 'model.class_names'),
}
NAMES = [*pages.names(), 'experiments/RESULTS.md']


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  folder = tmp_path_factory.mktemp('site')
  result = subprocess.run(
    [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d', folder],
    cwd=ROOT,
    env=os.environ | {'NO_MKDOCS_2_WARNING': '1'},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  assert 'WARNING' not in result.stderr
  return folder


def prose(name):
  """A page without its fences."""
  text = (ROOT / name).read_text()
  return re.sub(r'^ *```.*?^ *```$', '', text, flags=re.S | re.M)


def test_every_page_is_in_the_navigation(site):
  index = (site / 'index.html').read_text()
  for path in site.glob('*.html'):
    if path.stem not in ('404', 'index'):
      assert f'href="{path.name}"' in index


def test_pages_ask_nothing_of_other_hosts(site):
  loads = re.compile(
    r'<(?:script|link|img|source|iframe)[^>]*?(?:src|href)="?(//|https?:)'
  )
  for path in site.rglob('*.html'):
    assert not loads.search(path.read_text()), path
  for path in site.rglob('*.css'):
    assert not re.search(r'url\(["\']?(//|https?:)', path.read_text()), path


def test_all_equations_are_mathml(site):
  text = (site / 'model.html').read_text()
  assert text.count('<math') > 50
  assert 'arithmatex' not in text
  # The converter leaves unknown LaTeX as it is.
  left = re.findall(r'<m[ion]>\\[^<]*', html.unescape(text))
  assert left == []


def test_arguments_have_the_comments_of_their_fields(site):
  text = html.unescape((site / 'api.html').read_text())
  assert "Or 'at_start' (Table 6)." in text
  assert (
    'Whether attention uses kernels, where the hardware has one for' in text
  )


@pytest.mark.slow
def test_pages_are_readable_on_a_phone(site):
  with Browser(find_or_skip()) as browser:
    for path in sorted(site.glob('*.html')):
      if path.stem == '404':  # For servers alone: its links begin with /.
        continue
      page = browser.open(path, width=360)
      assert [x for x in page.requests if not x.startswith('file:')] == []
      assert page.errors == page.overflow() == [], path.name
      browser.close_sessions()


@pytest.mark.parametrize('name', NAMES)
def test_links_lead_somewhere(name):
  for target in re.findall(r'\]\(([^)\s]+)\)', prose(name)):
    url = urllib.parse.urlparse(target)
    if url.scheme:
      continue
    path = (ROOT / name).parent / url.path if url.path else ROOT / name
    assert path.exists(), target
    if url.fragment:
      assert url.fragment in anchors(path), target


def anchors(path: pathlib.Path) -> set[str]:
  """Returns the anchors that MkDocs and others make of a page's headings."""
  titles = re.findall(r'^#+ (.+)$', path.read_text(), re.M)
  words = (re.sub(r'[^\w\s-]', '', title.lower()) for title in titles)
  return {re.sub(r'\s+', '-', x.strip()) for x in words}


def is_module(name):
  """Tells without importing it, because commands define flags on import."""
  path = ROOT / name.replace('.', '/')
  return path.with_suffix('.py').exists() or (path / '__init__.py').exists()


@pytest.mark.parametrize('name', NAMES)
def test_what_is_named_exists(name):
  """Checks `module.symbol`, `path/of/a.py` and the modules of the API."""
  text = prose(name)
  made = (
    [fence.title for fence in pages.read(name).fences]
    if name in pages.names()
    else []
  )
  codes = re.findall(r'`([^`\n]+)`', text) + re.findall(
    r'^::: (\S+)', text, re.M
  )
  for code in codes:
    if re.fullmatch(rf'({"|".join(PACKAGES)})(\.\w+)+', code):
      if not is_module(code):
        pkgutil.resolve_name(code)
    elif re.fullmatch(rf'({"|".join(PACKAGES)}|tests|docs)/[\w/.]*', code):
      assert (ROOT / code).exists() or code in made, code


def test_the_table_of_keys_that_may_change_is_the_codes():
  assert keys.table() in (ROOT / 'docs' / 'running.md').read_text()


def test_settings_that_are_named_exist():
  """Checks that `train.batch_size` and the like are keys of all configs."""
  sections = {**base.SECTIONS, 'model': base.MODELS['perceiver']}
  for name in NAMES:
    for section, key in re.findall(r'`(\w+)\.(\w+)(?:=[^`]*)?`', prose(name)):
      if section in sections and f'{section}.{key}' not in OTHERS:
        assert key in sections[section], f'{name}: {section}.{key}'
