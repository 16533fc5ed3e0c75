"""Opens pages in headless Chromium and sees them as readers do, as pixels.

Tests get a `Browser` from the fixture `browser` in tests/scripts/conftest.py:

  page = browser.open(path, width=360, dark=True)
  assert page.errors == page.requests == page.overflow() == []
"""

import base64
import io
import json
import pathlib

import numpy as np
from PIL import Image

from tests import devtools

JS = (pathlib.Path(__file__).parent / 'browser.js').read_text()


class Browser(devtools.Chromium):
  """Opens files as pages; as a context manager it ends the process."""

  def open(self, path, width=1280, height=800, dark=False, media='screen'):
    """Loads an HTML file as a `Page`."""
    page = Page(self, session := self.new_session())
    self.listen(session, page.hear)
    page.load(pathlib.Path(path).resolve().as_uri(), width, height, dark, media)
    return page


class Page:
  """A page that has loaded; its pixels are CSS pixels."""

  def __init__(self, browser, session):
    self._browser, self._session = browser, session
    self._errors, self._requests = [], []
    self._loaded, self._pending = False, set()

  def send(self, method, **params):
    return self._browser.send(method, self._session, **params)

  def load(self, url, width, height, dark, media):
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.send(f'{domain}.enable')
    size = {'width': width, 'height': height, 'deviceScaleFactor': 1}
    self.send('Emulation.setDeviceMetricsOverride', mobile=False, **size)
    scheme = {'value': 'dark' if dark else 'light'}
    self.send(
      'Emulation.setEmulatedMedia',
      features=[{'name': 'prefers-color-scheme', **scheme}],
      media='' if media == 'screen' else media,  # 'screen' also holds for PDFs.
    )
    self.send('Emulation.setFocusEmulationEnabled', enabled=True)
    if error := self.send('Page.navigate', url=url).get('errorText'):
      raise RuntimeError(f'{url}: {error}')
    self._browser.wait(lambda: self._loaded, f'loading {url}')
    self.settle()
    del self._requests[0]  # The page's own.

  def settle(self):
    """Waits until requests are answered, fonts are there and all is drawn."""
    self._browser.wait(lambda: not self._pending, 'the network')
    self._ask('settled')

  def hear(self, event, params):
    """Handles an event from the browser."""
    match event:
      case 'Page.loadEventFired':
        self._loaded = True
      case 'Network.requestWillBeSent':
        self._pending.add(params['requestId'])
        self._requests.append(params['request']['url'])
      case 'Network.loadingFinished' | 'Network.loadingFailed':
        self._pending.discard(params['requestId'])
      case 'Network.webSocketCreated':
        self._requests.append(params['url'])
      case 'Runtime.exceptionThrown':
        self._errors.append(_exception(params['exceptionDetails']))
      case 'Runtime.consoleAPICalled':
        if params['type'] in ('error', 'warning', 'assert'):
          values = [
            x.get('value', x.get('description')) for x in params['args']
          ]
          self._errors.append(' '.join(map(str, values)))
      case 'Log.entryAdded':
        entry = params['entry']
        if entry['level'] in ('error', 'warning'):
          self._errors.append(f'{entry["text"]} {entry.get("url", "")}'.strip())

  @property
  def errors(self):
    """Texts of exceptions, failed requests, console errors and warnings."""
    self.settle()
    return list(self._errors)

  @property
  def requests(self):
    """URLs of all requests, without the page's own and embedded data."""
    self.settle()
    inside = ('data:', 'blob:')
    return [url for url in self._requests if not url.startswith(inside)]

  def evaluate(self, js):
    """Returns the value of an expression, or of its promise, from JSON."""
    reply = self.send(
      'Runtime.evaluate', expression=js, returnByValue=True, awaitPromise=True
    )
    if details := reply.get('exceptionDetails'):
      raise RuntimeError(_exception(details))
    return reply['result'].get('value')

  def _ask(self, function, *args):
    args = ', '.join(map(json.dumps, args))
    return self.evaluate(f'(() => {{ {JS}\nreturn {function}({args}) }})()')

  def screenshot(self):
    """Returns the whole page as uint8 [H, W, 3]."""
    size = self.send('Page.getLayoutMetrics')['cssContentSize']
    clip = {**size, 'scale': 1}
    png = self._bytes(
      'Page.captureScreenshot', captureBeyondViewport=True, clip=clip
    )
    return np.asarray(Image.open(io.BytesIO(png)).convert('RGB'))

  def pdf(self):
    """Returns a PDF with backgrounds, in the page's own size if it sets one."""
    return self._bytes(
      'Page.printToPDF', printBackground=True, preferCSSPageSize=True
    )

  def _bytes(self, method, **params):
    return base64.b64decode(self.send(method, **params)['data'])

  def press_tab(self):
    event = {'key': 'Tab', 'code': 'Tab', 'windowsVirtualKeyCode': 9}
    self.send('Input.dispatchKeyEvent', type='keyDown', **event)
    self.send('Input.dispatchKeyEvent', type='keyUp', **event)

  def focused(self):
    """Returns the element in focus, as 'a#id.class', or 'body'."""
    return self._ask('focused')

  def overflow(self):
    """Returns elements beyond the viewport's sides: 'a.class: 0 to 9 px'.

    Elements in a scrolling container, and parts of an <svg>, do not count.
    """
    return self._ask('overflow')

  def contrast(self, shot, selector):
    """Returns [(text, ratio), …] of visible elements with text of their own.

    The ratio is WCAG's, of the lightest to the darkest pixel of the text and
    its background in the full screenshot. Thin strokes blend with the
    background, so small text has a lower ratio than its colors.
    """
    return [
      (text, _ratio([shot[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes]))
      for text, boxes in self._ask('texts', selector)
    ]


def _exception(details):
  return details.get('exception', {}).get('description') or details['text']


def _ratio(parts):
  """Returns WCAG 2.2's ratio: www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
  values = np.concatenate([part.reshape(-1, 3) for part in parts]) / 255
  low = values <= 0.04045
  linear = np.where(low, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
  luminance = linear @ [0.2126, 0.7152, 0.0722]
  return float((luminance.max() + 0.05) / (luminance.min() + 0.05))
