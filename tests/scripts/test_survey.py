"""The survey plans each model on each hardware once for a commit."""

import json

import pytest

from experiments import telemetry
from scripts.plan import survey
from tests import commands
from tests.conftest import ROOT

PLANS = 'experiments/results/plans.json'


def plan(config, target, commit, cycles=3_000_000):
  """Makes a plan as the survey keeps it."""
  has_time = not target.startswith('h100')
  return {
    **{'config': config, 'target': target, 'examples': 8, 'commit': commit},
    **{'compiler': 'jax 1', 'compile_s': 90.0, 'refusal': ''},
    'memory': {'arguments': 2**29, 'temporaries': 2**30, 'total': 3 * 2**29},
    'estimated_ms': 2.0 if has_time else None,
    'cycles': {'input': cycles, 'head': 0} if has_time else {},
    **{'kernels': [], 'collectives': {}},
  }


def run(path, *arguments):
  result = commands.python(
    *('-m', 'scripts.plan.survey', f'--output={path}', *arguments)
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


def test_plans_of_a_model_before_and_after_stand_together(tmp_path):
  path = tmp_path / 'plans.json'
  path.write_text(
    json.dumps(
      [
        plan('imagenet.py', 'h100:8', 'a' * 40),
        plan('imagenet.py', 'v5e:4x4', 'a' * 40, 4_000_000),
        plan('imagenet.py', 'v5e:4x4', 'b' * 40),
      ]
    )
  )
  *_, before, after, gpu = run(path, '--print_only').splitlines()
  start = '| `imagenet.py` | `v5e:4x4` | 8 |'
  assert before == f'{start} aaaaaaa | 0.50 + 1.00 | 4.0 | 2.0 | 1.5 |'
  assert after == f'{start} bbbbbbb | 0.50 + 1.00 | 3.0 | 2.0 | 1.5 |'
  assert gpu.endswith('| 8 | aaaaaaa | 0.50 + 1.00 | – | – | 1.5 |')


def test_a_plan_that_does_not_fit_is_told():
  refused = plan('imagenet.py', 'v5e:4x4', 'a' * 40)
  refused |= {'memory': None, 'estimated_ms': None, 'cycles': None}
  assert '| too much | – | – | 1.5 |' in survey.table([refused])


def test_only_plans_that_are_missing_for_this_commit_are_made(
  tmp_path, monkeypatch
):
  path = tmp_path / 'plans.json'
  commit = telemetry.commit()
  done, *others = survey.ROWS
  path.write_text(
    json.dumps([plan(*done, commit), plan(*others[0], 'another commit')])
  )
  asked = []

  def make(config, target):
    if len(asked) == len(others) - 1:
      raise OSError('The last one fails.')
    asked.append((config, target))
    return plan(config, target, commit)

  monkeypatch.setattr(survey, '_plan', make)
  with pytest.raises(OSError, match='last one fails'):
    survey.add(str(path))
  assert asked == others[:-1]
  assert len(json.loads(path.read_text())) == 2 + len(asked)


def test_the_table_of_our_plans_is_in_the_results():
  plans = json.loads((ROOT / PLANS).read_text())
  results = (ROOT / 'experiments/RESULTS.md').read_text()
  assert survey.table(plans) in results
