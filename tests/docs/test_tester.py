"""What is wrong with a page is found."""

import pytest

from tests.docs import pages

TRAIN = 'python -m experiments.run --config=configs/digits.py --workdir=runs/x'
PLAN = 'python -m scripts.plan --config=configs/imagenet.py --target=h100:8'


def page(*fences):
  """Each as its comment, its language and its code."""
  text = '\n'.join(
    f'{comment}\n```{language}\n{code}\n```\n'
    for comment, language, code in fences
  )
  return pages.parse(f'page {hash(text)}.md', text)


@pytest.mark.parametrize(
  ('comment', 'language', 'code', 'message'),
  [
    ('', '', 'make', 'is in none of'),
    ('', 'sh', 'make', 'is in none of'),
    ('', 'bash title="x.sh"', 'make', 'only Python has titles'),
    ('<!-- need: data -->', 'bash', 'make', 'unknown comment'),
    ('<!-- needs:data -->', 'bash', 'make', 'unknown comment'),
    ('<!-- needs: time -->', 'bash', 'make', "'time' is none of"),
    ('<!-- needs: gpu -->', 'python', 'pass', 'is for commands'),
    ('<!-- needs: installation -->\n', 'bash', 'make', 'no fence behind'),
    # What a test can run.
    ('<!-- needs: data -->', 'bash', TRAIN, 'a test needs no data for: pyth'),
    ('<!-- needs: compiler -->', 'bash', f'{PLAN}\n{TRAIN}', 'no compiler for'),
    (
      '<!-- shortened: --config.train.steps=1 -->',
      'bash',
      f'{TRAIN} --mode=eval',
      'no training to shorten',
    ),
  ],
)
def test_pages_that_are_not_as_they_should_be(comment, language, code, message):
  with pytest.raises(pages.PageError, match=message):
    page((comment, language, code))


def test_fences_are_closed():
  with pytest.raises(pages.PageError, match='ends within a fence'):
    pages.parse('page.md', '```bash\nmake\n')


@pytest.mark.parametrize(
  ('command', 'problem'),
  [
    (PLAN, None),
    (f'{PLAN} --fnid=batch_size', "Unknown command line flag 'fnid'"),
    (f'{PLAN} --find=steps', 'should be one of <batch_size>'),
    (f'{PLAN} --config.train.stpes=1', 'Did you mean "steps"'),
    (f'{PLAN} --config=configs/imagenet.py:x', "No variant 'x'"),
    (f'{TRAIN} --config.data.dir=x', 'the config has no such key: "dir"'),
    (f'{TRAIN} --config.train.steps=many', 'invalid literal for int'),
    (f'X=1 srun --nodes=2 {TRAIN}', None),
    ('python -m scripts.plans', 'No module named scripts.plans'),
    ('python -c 1', 'Python without -m'),
    ('cat x', "'cat' is not known here"),
    ('X=1', 'There is no command'),
    ('make demo', None),
    ('make demos', 'No rule to make target'),
    ('pip install -e ".[docs,peers]"', None),
    ('pip install -e ".[doc]"', "no extra {'doc'}"),
    ('pip install "jax[cuda13]==0.1"', "'jax[cuda13]==0.1' is not"),
    ('pip install "jax[cuda1]"', "jax has no extra {'cuda1'}"),
    ('pip uninstall jax', 'pip does not install'),
  ],
)
def test_commands_that_are_not_run_are_checked(checkout, command, problem):
  found = checkout.problem(command)
  assert (found is None) if problem is None else (problem in found)


def test_each_command_of_a_fence_is_checked(checkout):
  code = f'{PLAN} | {PLAN} && {PLAN}\n{PLAN} | {PLAN} --fnid=x'
  some = page(('<!-- needs: compiler -->', 'bash', code))
  with pytest.raises(pages.PageError, match='fnid'):
    checkout.run(some)


def test_commands_are_run_as_written(checkout):
  checkout.run(
    page(
      ('', 'bash', 'pwd > here\necho a \\\n  b | tee out\ntouch \\#'),
      ('', 'text', 'a b'),
      ('', 'bash', 'cat here; which python'),
      ('', 'text', f'{checkout.folder}\n…/bin/python'),
      ('', 'python title="configs/file.py"', 'x = 3'),
      ('', 'python', 'import configs.file\nx = configs.file.x'),
      ('', 'python', 'print(x)'),
      ('', 'text', '3'),
    )
  )


@pytest.mark.parametrize(
  ('language', 'code', 'output', 'message'),
  [
    ('bash', 'false | cat\necho', '', r'status 1 of\nfalse'),
    ('bash', 'python -m scripts.tables --tabel=1', '', 'line flag .tabel'),
    ('bash', 'echo a', 'b', r'page .*:7: what is printed is\na'),
    ('bash', 'echo a b', 'a', 'what is printed is'),
    ('python', 'x = 1\nx / 0', '', r'line 4, in <module>\nZeroDivisionError'),
    ('python', 'def', '', 'SyntaxError'),
    ('python', 'print(1)', '2', 'what is printed is\n1'),
  ],
)
def test_what_fails_is_found(checkout, language, code, output, message):
  some = page(('', language, code), ('', 'text', output))
  with pytest.raises(pages.PageError, match=message):
    checkout.run(some)


def test_trainings_are_shortened_and_nothing_else(checkout):
  fence = page(
    (
      '<!-- shortened: --only_check_args -->',
      'bash',
      f'{TRAIN} \\\n  --config.train.steps=3\necho --mode=eval > after',
    ),
    ('', 'text', 'not compared'),
  )
  checkout.run(fence)
  assert (checkout.folder / 'after').exists()
  assert not (checkout.folder / 'runs').exists()
