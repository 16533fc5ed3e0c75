"""An HTML page on a run, or on several side by side."""

from collections.abc import Sequence
import datetime
import pathlib
from typing import Any

from etils import epath
import jinja2

from experiments import history as histories
from experiments import storage, telemetry
from scripts.report import page
from scripts.shared import plots

FILE = 'report.html'
MAX_BYTES = 5_000_000
SECTIONS = (
  ('title', 'Result'),
  ('curves', 'Curves'),
  ('time', 'Time'),
  ('classes', 'Classes'),
  ('mistakes', 'Mistakes'),
  ('maps', 'Attention maps'),
  ('config', 'What ran'),
  ('skipped', 'What was skipped'),
)


def write(
  workdirs: Sequence[str],
  output: str | None = None,
  *,
  data_dir: str | None = None,
  num_maps: int = 2,
  num_mistakes: int = 12,
) -> epath.Path:
  """Writes the page.

  Leaves out pictures until the page has at most MAX_BYTES.

  Args:
    workdirs: the directories of the runs.
    output: the file; None for report.html in the run's directory, or in the
      current one for several runs.
    data_dir: where the runs' data is here; None for where it was.
    num_maps: how many examples to show attention maps of, per run.
    num_mistakes: how many mistakes to show, per run.

  Returns:
    The path of the page.

  Raises:
    FileNotFoundError: if a directory is not a run's.
    OSError: if the page cannot be written, before any long work.
    ValueError: if a config cannot be read, or the page is too large even
      without pictures.
  """
  read = [histories.read(workdir) for workdir in workdirs]
  alone = storage.path(workdirs[0]) / FILE
  path = storage.path(output or (alone if len(workdirs) == 1 else FILE))
  storage.check(path)  # Before anything takes long.
  runs = [
    page.of_run(history, i, data_dir, num_maps, num_mistakes)
    for i, history in enumerate(read)
  ]
  context = _context(read, runs)
  template = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  ).get_template('report.html.j2')
  text = template.render(context)
  while len(text.encode()) > MAX_BYTES:
    if not page.make_lighter(runs):
      raise ValueError(
        f'Even without pictures the page has {len(text.encode())} bytes, more'
        f' than {MAX_BYTES}: name fewer runs.'
      )
    text = template.render(context)
  storage.write(path, text)
  return path


def _context(
  read: Sequence[histories.History], runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
  """Returns the variables of the template."""
  are_several = len(read) > 1
  names = histories.metric_names(read) if are_several else []
  now = datetime.datetime.now(datetime.UTC).isoformat()
  return {
    'title': ' and '.join(history.name for history in read),
    'subtitle': ', '.join(history.workdir for history in read),
    'runs': runs,
    'sections': SECTIONS,
    'level': 'h3' if are_several else 'h2',
    'curves': [plots.curves(read, name) for name in names],
    'made': histories.readable(now),
    'commit': telemetry.commit()[:10],
  }
