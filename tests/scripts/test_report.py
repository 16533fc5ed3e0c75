"""The report as a page in a browser, for good runs and broken ones."""

import html
import importlib
import json
import pathlib
import re
import shutil

import matplotlib
import pytest

from configs import imagenet
from experiments import history, nonfinite, telemetry, train
from experiments.benchmarks.digits import Digits
from experiments.errors import DataNotFoundError
from scripts import report
from scripts.report import comparison, pictures
from scripts.shared import plots
from scripts.sweep import figures
from tests.experiments.smoke import edited_config


def write_lines(path, records):
  path.write_text(''.join(json.dumps(r) + '\n' for r in records))


def text_of(path):
  """Returns the text that a reader sees, without the markup."""
  page = pathlib.Path(path).read_text()
  page = re.sub(r'<style>.*?</style>|<svg.*?</svg>', ' ', page, flags=re.S)
  return re.sub(r'\s+', ' ', html.unescape(re.sub(r'<[^>]+>', ' ', page)))


@pytest.fixture(scope='module')
def page(workdir, tmp_path_factory):
  output = tmp_path_factory.mktemp('report') / 'report.html'
  return report.write([str(workdir)], str(output))


def test_it_tells_what_ran_and_how_it_ended(trained, page):
  _, _, metrics = trained
  text = text_of(page)
  assert 'Finished, at step 20 of 20.' in text
  assert f'test top1 {100 * metrics["top1"]:.2f} %' in text
  assert f'test loss {metrics["loss"]:.4f}' in text
  assert 'configs/digits.py:smoke , unchanged.' in text
  assert '8 × cpu' in text
  assert 'What was skipped No damaged record.' in text


@pytest.mark.parametrize(
  ('width', 'dark'),
  [
    (360, True),
    (1280, False),
    pytest.param(360, False, marks=pytest.mark.slow),
    pytest.param(1280, True, marks=pytest.mark.slow),
  ],
)
def test_it_is_readable(browser, page, width, dark):
  opened = browser.open(page, width=width, dark=dark)
  assert opened.errors == []
  assert opened.requests == []
  assert opened.overflow() == []
  shot = opened.screenshot()
  assert shot.shape[1] == width
  assert (shot[0, 0].mean() < 60) == dark
  found = opened.contrast(shot, 'h1, h2, p, dt, dd, th, td, a, figcaption')
  assert len(found) > 60
  # Pixels of thin letters are blended with the background.
  assert [x for x in found if x[1] < 3] == []
  axes = opened.contrast(shot, 'svg text')
  assert len(axes) > 30
  if width == 1280:  # On a phone, their lines are thinner than a pixel.
    ticks = [x for x in axes if not re.fullmatch(r'\d+', x[0])]
    assert [x for x in ticks if x[1] < 2] == []


def test_pictures_say_what_they_show(browser, page):
  opened = browser.open(page, width=1280)
  pictures = opened.evaluate(
    '[...document.images].map(x => [x.alt, x.naturalWidth, x.complete])'
  )
  assert all(alt and width and complete for alt, width, complete in pictures)
  alts = [alt for alt, _, _ in pictures]
  assert any(alt.startswith('Mean attention of cross-attend 1') for alt in alts)
  assert any(alt.startswith('Logits of 8 latents in cross-') for alt in alts)
  mistakes = opened.evaluate(
    "document.querySelectorAll('.mistakes img').length"
  )
  assert mistakes == 12
  labels = opened.evaluate(
    "[...document.querySelectorAll('svg')]"
    ".map(x => [x.getAttribute('role'), x.getAttribute('aria-label')])"
  )
  assert len(labels) == 5
  assert all(role == 'img' and label for role, label in labels)
  ids = opened.evaluate("[...document.querySelectorAll('[id]')].map(x => x.id)")
  assert len(set(ids)) == len(ids)


def test_it_goes_by_keyboard_and_to_paper(browser, page):
  opened = browser.open(page, width=1280)
  opened.press_tab()
  assert opened.focused().startswith('a.skip')
  links = opened.evaluate(
    "[...document.querySelectorAll('nav a, a.skip')].map(x => "
    '!!document.getElementById(x.hash.slice(1)))'
  )
  assert len(links) > 5
  assert all(links)
  scrollers = opened.evaluate(
    "[...document.querySelectorAll('.scroll')]"
    ".every(x => x.tabIndex === 0 && x.getAttribute('aria-label'))"
  )
  assert scrollers
  printed = browser.open(page, width=800, media='print')
  assert printed.pdf().startswith(b'%PDF')
  assert (
    printed.evaluate("getComputedStyle(document.querySelector('nav')).display")
    == 'none'
  )


def test_a_run_that_was_killed_and_resumed(copy):
  # Pretend that the first half ran long before, in a launch that was killed.
  records = telemetry.read_metrics(str(copy))
  before = [r for r in records if r['step'] <= 10]
  resumed = before[-1]['time']
  for record in before:
    record['time'] -= 5000
  write_lines(copy / telemetry.METRICS, records)
  (launch,) = telemetry.read_records(str(copy), telemetry.LAUNCHES)
  begins = before[0]['time'] - 1, resumed
  launches = [launch | {'time': history.iso(x)} for x in begins]
  write_lines(copy / telemetry.LAUNCHES, launches)
  text = text_of(report.write([str(copy)], num_maps=0))
  assert '1 resume' in text
  assert 'killed' in text
  assert 'Finished, at step 20 of 20.' in text
  shares = history.read(str(copy)).time_shares()
  assert 4990 < shares[history.LOST] < 5010
  assert f'{100 * shares[history.LOST] / sum(shares.values()):.1f} %' in text
  assert 'None were asked for.' in text


def test_a_run_without_evaluation(copy):
  for name in ('predictions_test.npz', telemetry.ENDINGS):
    (copy / name).unlink()
  records = telemetry.read_metrics(str(copy))
  trained = [r for r in records if r['split'] == 'train']
  write_lines(copy / telemetry.METRICS, trained)
  text = text_of(report.write([str(copy)], num_maps=0))
  assert 'There is no evaluation yet.' in text
  assert (
    'Still running, or killed: its last sign of life was step 20 of' in text
  )
  assert 'No evaluation has left its predictions yet.' in text
  (copy / telemetry.METRICS).unlink()
  text = text_of(report.write([str(copy)], num_maps=0))
  assert 'Nothing is recorded yet.' in text


def test_a_run_with_nan(copy):
  (copy / telemetry.ENDINGS).unlink()
  failed = 'Step 21 has loss nan; a lower optimizer.learning_rate may help.'
  with pytest.raises(nonfinite.NonFiniteError), train._closing(str(copy)):
    raise nonfinite.NonFiniteError(failed)
  telemetry.record_skipped_step(str(copy), 21, 'Step 21 has loss nan')
  text = text_of(report.write([str(copy)], num_maps=0))
  assert text.count('Step 21 has loss nan') >= 2
  assert 'a lower optimizer.learning_rate may help' in text


def test_a_run_whose_data_is_gone(copy, monkeypatch):
  def source(self, split, data_dir):
    raise DataNotFoundError(f'No digits ({split}) at {data_dir!r}: get them.')

  monkeypatch.setattr(Digits, 'source', source)
  text = text_of(report.write([str(copy)]))
  assert text.count('No digits (test) at None: get them.') == 2
  assert 'Most often confused' in text  # Predictions are still there.


def test_a_run_whose_data_is_another(copy, monkeypatch):
  monkeypatch.setattr(Digits, 'source', lambda self, split, data_dir: [{}])
  text = text_of(report.write([str(copy)], num_maps=0))
  assert "The split 'test' has 1 examples, so there is no example" in text


def test_a_run_of_another_version(copy):
  with edited_config(copy) as config:
    config['model']['no_longer_there'] = 1
  text = text_of(report.write([str(copy)]))
  assert text.count('Bad config') == 2  # For mistakes and maps.
  assert 'Most often confused' in text


def test_faults_of_the_code_are_not_taken_for_damage(copy, monkeypatch):
  def maps(*arguments):
    raise TypeError('A fault.')

  monkeypatch.setattr(pictures, 'maps', maps)
  with pytest.raises(TypeError, match='A fault'):
    report.write([str(copy)])


def test_a_run_without_checkpoints_or_with_damaged_files(copy):
  shutil.rmtree(copy / 'checkpoints')
  (copy / 'predictions_test.npz').write_bytes(b'PK')
  text = text_of(report.write([str(copy)]))
  assert 'No checkpoints in' in text
  assert 'predictions_test.npz' in text


def test_a_paper_run_stands_beside_its_row(copy):
  config = imagenet.get_config('permuted')
  (copy / telemetry.CONFIG).write_text(
    json.dumps(config.to_dict(), default=str)
  )
  shown = history.read(str(copy))
  ours = 100 * shown.final()['test']['top1']
  (row,) = [x for x in comparison.paper(shown) if x[1] == 'top-1 %']
  assert row == (
    'Table 2, permuted',
    'top-1 %',
    78.0,
    pytest.approx(ours),
  )


def test_what_is_written_into_a_run_stays_text(browser, copy):
  evil = (
    '<script>document.title = "hacked"</script><img src=x onerror=alert(1)>'
  )
  with edited_config(copy) as config:
    config['data']['dir'] = evil
    config['optimizer']['<b>key'] = evil
  names = [evil] * 10
  (copy / telemetry.CLASSES).write_text(json.dumps(names))
  telemetry.record_skipped(str(copy), evil, 3, evil)
  telemetry.record_skipped_step(str(copy), 4, evil)
  launch = telemetry.read_records(str(copy), telemetry.LAUNCHES)[0]
  launch |= {'commit': evil, 'devices': [evil]}
  write_lines(copy / telemetry.LAUNCHES, [launch])
  path = copy.rename(copy.with_name('<b>&run'))
  written = report.write([str(path)])
  page = pathlib.Path(written).read_text()
  assert '<script' not in page
  assert '<img src=x' not in page
  opened = browser.open(written)
  assert opened.errors == opened.requests == []
  assert opened.evaluate('document.title') == '<b>&run'
  assert evil in opened.evaluate('document.body.innerText')


@pytest.mark.slow
def test_runs_side_by_side(browser, trained, copy, tmp_path):
  _, workdir, metrics = trained
  output = tmp_path / 'both.html'
  path = report.write([str(workdir), str(copy)], str(output), num_maps=0)
  opened = browser.open(path, width=360)
  assert opened.errors == opened.overflow() == []
  rows = opened.evaluate(
    "[...document.querySelectorAll('#side-by-side tbody tr')]"
    '.map(x => x.innerText)'
  )
  assert len(rows) == 2
  assert all(f'{100 * metrics["top1"]:.2f} %' in row for row in rows)
  assert pathlib.Path(path).stat().st_size < report.MAX_BYTES


@pytest.mark.slow
def test_pictures_are_left_out_of_a_page_that_is_too_large(
  workdir, tmp_path, monkeypatch
):
  output = tmp_path / 'report.html'
  write = lambda: report.write([str(workdir)], str(output)).read_text()
  make, made = pictures.maps, []

  def make_once(*arguments):
    made.append(made[0] if made else make(*arguments))
    return made[0]

  monkeypatch.setattr(pictures, 'maps', make_once)
  whole = len(write().encode())
  counts = []
  for share in (0.97, 0.75):
    monkeypatch.setattr(report, 'MAX_BYTES', int(share * whole))
    page = write()
    assert len(page.encode()) <= share * whole
    counts.append(page.count('<img'))
  assert 12 < counts[0] < 12 + 2 * 5
  assert counts[1] < 12
  assert 'Left out, to keep the page small.' in page
  monkeypatch.setattr(report, 'MAX_BYTES', 1000)
  with pytest.raises(ValueError, match='Even without pictures'):
    write()


def test_what_is_no_run_is_said(tmp_path):
  with pytest.raises(FileNotFoundError, match='is not the workdir of a run'):
    report.write([str(tmp_path)])
  (tmp_path / telemetry.CONFIG).write_text('{"train": 3}')
  with pytest.raises(ValueError, match='is no config'):
    report.write([str(tmp_path)])


def test_plots_leave_a_notebooks_backend_alone():
  before = matplotlib.get_backend()
  matplotlib.use('svg')
  try:
    for module in plots, figures:
      importlib.reload(module)
    assert matplotlib.get_backend() == 'svg'
  finally:
    matplotlib.use(before)
