"""tests/browser.py finds the flaws that small pages were given."""

import numpy as np
import pytest

from tests import devtools
from tests.browser import Browser

pytestmark = pytest.mark.slow


@pytest.fixture
def show(browser, tmp_path):
  """A function show(body, …) that opens a page with that body."""

  def show(body, **view):
    path = tmp_path / 'a page.html'
    style = '<style>body { margin: 0; background: white; color: black }</style>'
    path.write_text(f'<!doctype html><title>Page</title>{style}{body}')
    return browser.open(path, **view)

  return show


def test_a_flawless_page_has_nothing_to_report(show):
  page = show(
    '<h1>Hello</h1><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'
    '<script>console.log("fine")</script>'
  )
  assert page.errors == page.requests == page.overflow() == []


def test_what_goes_wrong_in_scripts_is_reported(show):
  page = show(
    '<script>console.error("bad", 1); console.warn("odd")</script>'
    '<script>throw new TypeError("worse")</script>'
    '<script>Promise.reject(new Error("late"))</script>'
  )
  starts = [error.split('\n')[0] for error in page.errors]
  expected = ['Error: late', 'TypeError: worse', 'bad 1', 'odd']
  assert sorted(starts) == expected


def test_requests_are_reported_and_fail(show):
  page = show(
    '<img src="http://example.invalid/x.png"><script src="gone.js"></script>'
    '<script>fetch("http://127.0.0.1:8000/y").catch(() => {})</script>'
    '<script>try { new WebSocket("ws://example.invalid/z") } catch {}</script>'
  )
  names = sorted(url.rpartition('/')[2] for url in page.requests)
  assert names == ['gone.js', 'x.png', 'y', 'z']
  # Not refused: no host was asked, not even this machine.
  assert sum('ERR_NAME_NOT_RESOLVED' in error for error in page.errors) == 3


def test_only_what_sticks_out_overflows(show):
  body = (
    '<div id="wide" class="a b" style="width: 400px">wide</div>'
    '<div style="overflow-x: auto"><pre style="width: 900px">pre</pre></div>'
    '<div style="width: 500px; visibility: hidden; position: fixed">no</div>'
    '<svg width="50" height="9"><rect width="999" height="9"/></svg>'
  )
  page = show(body, width=360)
  assert page.evaluate('innerWidth') == 360
  assert page.overflow() == ['div#wide.a.b: 0 to 400 px', 'html: 0 to 400 px']
  assert show(body, width=401).overflow() == []


def test_contrast_is_what_the_picture_has(show):
  page = show(
    '<div style="height: 1500px"></div>'
    '<p style="font: 40px sans-serif">black <b style="color: #fff">white</b>.'
    '<p style="color: #777; font: bold 40px sans-serif">grey</p>'
    '<p style="position: relative">under<span style="position: absolute;'
    'inset: 0; background: #fff"></span></p><p hidden>hidden</p>'
    '<p style="height: 20px; overflow: auto"><br><br><br>scrolled away</p>'
  )
  shot = page.screenshot()
  assert shot.dtype == np.uint8
  assert shot.shape[0] > 1500
  ratios = dict(page.contrast(shot, 'p, b'))
  assert list(ratios) == ['black .', 'white', 'grey', 'under']
  assert ratios['black .'] == pytest.approx(21)
  assert ratios['white'] == ratios['under'] == 1
  assert ratios['grey'] == pytest.approx(
    4.48, abs=0.01
  )  # The value for #777 in WCAG.


def test_the_dark_scheme_is_preferred_where_asked_for(show):
  body = (
    '<style>@media (prefers-color-scheme: dark) {'
    'body { background: #111 } }</style>'
  )
  for dark, level in ((False, 255), (True, 0x11)):
    shot = show(body, width=50, height=40, dark=dark).screenshot()
    assert shot.shape == (40, 50, 3)
    assert (shot == level).all()


def test_print_is_a_medium_of_its_own(show):
  body = (
    '<style>#second { break-before: page }'
    '@media print { #screen { display: none } }</style>'
    '<p>first</p><p id="screen">screen</p><p id="second">second</p>'
  )
  visible = 'document.getElementById("screen").checkVisibility()'
  assert not show(body, media='print').evaluate(visible)
  page = show(body)
  assert page.evaluate(visible)
  pdf = page.pdf()
  assert pdf.startswith(b'%PDF')
  assert pdf.count(b'/Type /Page\n') == 2


def test_the_tab_key_moves_the_focus(show):
  page = show('<a href="#x" class="k">x</a><button id="b">0</button>')
  assert page.focused() == 'body'
  page.press_tab()
  assert page.focused() == 'a.k'
  assert page.evaluate('document.activeElement.matches(":focus-visible")')
  page.press_tab()
  assert page.focused() == 'button#b'


def test_exceptions_are_raised(show):
  with pytest.raises(RuntimeError, match='ReferenceError: nothing'):
    show('').evaluate('nothing')


def test_without_a_browser_tests_are_skipped_but_in_ci_fail(monkeypatch):
  monkeypatch.setenv('CHROMIUM', '/nowhere/chromium')
  monkeypatch.delenv('CI', raising=False)
  assert devtools.find() is None
  with pytest.raises(pytest.skip.Exception, match='apt-get install chromium'):
    devtools.find_or_skip()
  monkeypatch.setenv('CI', 'true')
  with pytest.raises(pytest.fail.Exception, match='apt-get install chromium'):
    devtools.find_or_skip()


def test_a_browser_that_does_not_start_says_why(tmp_path):
  path = tmp_path / 'chromium'
  path.write_text('#!/bin/sh\necho "no such luck" >&2\nexit 1\n')
  path.chmod(0o755)
  failure = pytest.raises(RuntimeError, match='no such luck')
  with failure, Browser(str(path)) as broken:
    broken.new_session()
  assert broken.process.returncode == 1


def test_the_process_ends_after_a_failure_as_well():
  doomed = Browser(devtools.find_or_skip())
  with pytest.raises(RuntimeError, match=r'No.such.* found'), doomed:
    doomed.send('No.such')
  assert doomed.process.returncode == 0
