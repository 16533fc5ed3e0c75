"""The page on notebooks does what it says, in a kernel as Jupyter starts it."""

import base64
import io

import nbclient
import nbformat
import numpy as np
from PIL import Image
import pytest

from tests.docs import pages, runner

PAGE = 'docs/notebook.md'
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def cells(checkout):
  """The page's fences, each with its cell, after running all cells."""
  fences = [f for f in pages.read(PAGE).fences if f.language == 'python']
  new = nbformat.v4.new_code_cell
  # Warnings of a cell's code are errors.
  strict = new('import warnings; warnings.simplefilter("error")')
  book = nbformat.v4.new_notebook(
    cells=[strict, *(new(f.code.strip()) for f in fences)]
  )
  client = nbclient.NotebookClient(
    book,
    timeout=runner.TIMEOUT,
    kernel_name='python3',
    resources={'metadata': {'path': str(checkout.folder)}},
  )
  client.execute()
  return list(zip(fences, book.cells[1:], strict=True))


def printed(cell):
  return ''.join(x.text for x in cell.outputs if x.get('name') == 'stdout')


def pictures(cell):
  return [
    np.asarray(Image.open(io.BytesIO(base64.b64decode(x.data['image/png']))))
    for x in cell.outputs
    if 'image/png' in x.get('data', {})
  ]


def test_cells_print_what_the_page_says(cells):
  by_line = {fence.line: cell for fence, cell in cells}
  compared = 0
  for before, fence in zip(
    pages.read(PAGE).fences, pages.read(PAGE).fences[1:], strict=False
  ):
    if fence.language == 'text':
      runner.compare(fence, printed(by_line[before.line]))
      compared += 1
  assert compared == 2


def test_progress_and_pictures_are_below_their_cells(cells):
  training, curves, maps, prediction = (cell for _, cell in cells)
  said = ''.join(x.text for x in training.outputs if x.get('name') == 'stderr')
  assert 'step 200/200' in said
  for cell, count in (training, 0), (curves, 1), (maps, 2), (prediction, 1):
    some = pictures(cell)
    assert len(some) == count
    for picture in some:
      assert picture.std() > 10  # Not a blank sheet.
