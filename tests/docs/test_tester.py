"""The tests of pages find the errors of a page."""

import pytest

from tests.docs import pages

TRAIN = 'python -m experiments.run --config=configs/digits.py --workdir=runs/x'
PLAN = 'python -m scripts.plan --config=configs/imagenet.py --target=h100:8'


def page(*fences):
  """Returns a page of fences, each given as comment, language and code."""
  text = '\n'.join(
    f'{comment}\n```{language}\n{code}\n```\n'
    for comment, language, code in fences
  )
  return pages.parse(f'page {hash(text)}.md', text)


@pytest.mark.parametrize(
  ('comment', 'language', 'code', 'message'),
  [
    ('', '', 'make', 'is in none of'),
    ('', 'bash title="x.sh"', 'make', 'only Python has titles'),
    ('<!-- need: data -->', 'bash', 'make', 'unknown comment'),
    ('<!-- needs: time -->', 'bash', 'make', "'time' is none of"),
    ('<!-- needs: gpu -->', 'python', 'pass', 'is for commands'),
    ('<!-- needs: installation -->\n', 'bash', 'make', 'no fence behind'),
    # Commands that a test can run.
    ('<!-- needs: data -->', 'bash', TRAIN, 'a test needs no data for: pyth'),
    ('<!-- needs: compiler -->', 'bash', f'{PLAN}\n{TRAIN}', 'no compiler for'),
    (
      '<!-- shortened: export --dtype=bfloat16 -->',
      'bash',
      TRAIN,
      "no {'export'} to shorten",
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
    ('mkdir x', None),
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


@pytest.mark.parametrize(
  ('code', 'message'),
  [
    (f'{PLAN} | {PLAN} && {PLAN}\n{PLAN} | {PLAN} --fnid=x', 'fnid'),
    (f'{PLAN} || echo "status $?"', r'status.*\nNone'),
  ],
)
def test_each_command_of_a_fence_is_checked(checkout, code, message):
  some = page(('<!-- needs: compiler -->', 'bash', code))
  with pytest.raises(pages.PageError, match=message):
    checkout.check(some)


def test_what_is_to_fail_and_what_is_added_are_checked(checkout):
  checkout.check(
    page(
      ('', 'python title="configs/x.py"', 'from configs.digits import *'),
      ('', 'bash', f'{TRAIN.replace("digits", "x")} && cp a b'),
      ('', 'bash', f'{TRAIN} --config.train.stpes=1 || echo $?'),
    )
  )
  with pytest.raises(pages.PageError, match="flag 'find'"):
    checkout.check(page(('<!-- shortened: run --find=x -->', 'bash', TRAIN)))


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
    ('bash', 'python -m scripts.tabels', '', 'No module named scripts.tabels'),
    ('bash', 'echo a', 'b', r'page .*:7: what is printed is\na'),
    ('python', 'x = 1\nx / 0', '', r'line 4, in <module>\nZeroDivisionError'),
    ('python', 'print(1)', '2', 'what is printed is\n1'),
  ],
)
def test_what_fails_is_found(checkout, language, code, output, message):
  some = page(('', language, code), ('', 'text', output))
  with pytest.raises(pages.PageError, match=message):
    checkout.run(some)


def test_the_modules_that_are_named_are_shortened_and_nothing_else(checkout):
  code = 'python -m this \\\n  --all | head -n 1\npython -m that\necho'
  comment = '<!-- shortened: that --few=1\n  --less; other -x -->'
  with pytest.raises(pages.PageError, match='other'):
    page((comment, 'bash', code))
  some = page((comment.replace('; other -x', ''), 'bash', code))
  (fence,) = some.fences
  assert [x.strip() for x in fence.script().split('\n')] == [
    'python -m this --all | head -n 1',
    'python -m that --few=1 --less',
    'echo',
  ]


def test_what_is_shortened_prints_something_else(checkout):
  (checkout.folder / 'that.py').write_text('import sys; print(sys.argv[1:])')
  fence = '<!-- shortened: that --few -->', 'bash', 'python -m that > here'
  checkout.run(page(fence, ('', 'text', 'not compared')))
  assert (checkout.folder / 'here').read_text() == "['--few']\n"
  with pytest.raises(pages.PageError, match='what is printed is'):
    checkout.run(page(fence, ('', 'text', 'compared …')))
