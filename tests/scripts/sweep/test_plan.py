"""Sweeps have the runs that are asked for."""

import pytest

from experiments import experiment, history
from scripts.report import comparison
from scripts.sweep import plan, training
from tests.scripts.sweep.trained import accuracy, files_of, table2, write


def test_sweeps_and_variants_are_selected_once_each():
  variants = table2('table2', 'table7', 'table2_vit')
  names = [variant.name for variant in variants]
  assert len(names) == len(set(names)) == 12
  assert names[0] == 'table2_perceiver'
  by_name = {variant.name: variant for variant in variants}
  assert by_name['table2_perceiver'].num_seeds == 3
  (unnamed,) = table2('table5_2')  # By any claim.
  assert unnamed.num_seeds == 1
  assert by_name['table7_not_shared'].learning_rates == (1e-3, 3e-3, 1e-2)
  # It holds nothing out that could pick a rate.
  (events,) = plan.select(['audioset'], ['table3_raw'], {})
  assert (len(events.learning_rates), events.num_seeds) == (1, 5)
  whole = plan.select(['fashion_mnist', 'modelnet40', 'audioset'], [], {})
  assert len(whole) == len({variant.title for variant in whole}) == 44
  for table, size in (('table2', 10), ('table6', 8), ('table7', 2)):
    full = plan.select(['imagenet'], [table], {'data.dir': '/data'})
    assert len(full) == size
    assert {variant.num_seeds for variant in full} == {1}
    assert not any(variant.trials() for variant in full)


def test_a_trial_is_a_fraction_of_a_run():
  (variant,) = table2('table2_perceiver', num_steps=25)
  assert {run.config().train.steps for run in variant.trials()} == {9}
  assert {run.config().train.steps for run in variant.runs(1e-3)} == {25}
  (whole,) = plan.select(['fashion_mnist'], ['table2_perceiver'], {})
  trial, run = whole.trials()[0], whole.runs(1e-3)[0]
  assert experiment.total_steps(run.config(), run.task()) == 3750
  assert experiment.total_steps(trial.config(), trial.task()) == 1250


def test_a_learning_rate_that_is_given_is_not_picked():
  settings = {'optimizer.learning_rate': 0.5}
  (variant,) = plan.select(['fashion_mnist'], ['table2_vit'], settings)
  assert variant.trials() == []
  assert {run.learning_rate for run in variant.runs(0.5)} == {0.5}
  assert plan.best(variant, 'nowhere') == 0.5


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: plan.select(['fashion_mnist'], ['table9'], {}), 'table9; the s'),
    (lambda: plan.select(['fashion'], [], {}), "No module named 'configs.fash"),
    (lambda: table2('table2_vit', num_steps='many'), '--set: fashion_mnist:t'),
    (
      lambda: plan.select(['fashion_mnist'], [], {'seed': 3}),
      '--set=seed: NUM_SEEDS of the config sets the seeds',
    ),
    (
      lambda: plan.select(['fashion_mnist.py:permuted'], [], {}),
      "--config: 'fashion_mnist.py:permuted' does not name a config",
    ),
    (lambda: training.Device('cpu'), "'cpu' is not cpu:N"),
    (lambda: training.Device('cpu:4095'), 'there is no cpu:4095'),
  ],
)
def test_what_cannot_be_is_one_clear_error(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_a_small_run_stands_beside_its_rows(tmp_path):
  (variant,) = plan.select(['fashion_mnist'], ['table7_not_shared'], {})
  run = variant.runs(1e-3)[0]
  write(files_of(run), tmp_path)
  (row,) = comparison.paper(history.read(str(tmp_path)))
  title = 'Table 7 in small, no weight sharing'
  assert row == (title, 'top-1 %', 72.9, pytest.approx(100 * accuracy(run)[1]))
