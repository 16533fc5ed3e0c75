"""The README's picture of the model has the config's numbers."""

import re
from xml.etree import ElementTree

import pytest

from configs import imagenet
from scripts import draw_model
from tests.conftest import ROOT

NAMESPACE = '{http://www.w3.org/2000/svg}'


@pytest.fixture(scope='module')
def svg():
  return (ROOT / 'docs/figures/model.svg').read_text(encoding='utf-8')


def test_the_committed_picture_is_what_the_script_draws(svg):
  assert svg == draw_model.draw(imagenet.get_config())


def test_it_tells_what_it_shows_to_who_cannot_see_it(svg):
  root = ElementTree.fromstring(svg)
  assert root.get('role') == 'img'
  told = {name: root.find(NAMESPACE + name) for name in ('title', 'desc')}
  assert root.get('aria-labelledby').split() == [
    element.get('id') for element in told.values()
  ]
  assert 'Perceiver' in told['title'].text
  assert '8 cross-attends' in told['desc'].text


def test_it_needs_nothing_from_elsewhere(svg):
  without_namespace = svg.replace('http://www.w3.org/2000/svg', '', 1)
  for word in ('://', 'href', '@import', '@font-face', '<script', '<image'):
    assert word not in without_namespace
  assert set(re.findall(r'url\(([^)]*)\)', svg)) == {'#head'}


def test_it_has_a_dark_look_and_no_small_print(svg):
  assert '@media (prefers-color-scheme: dark)' in svg
  assert min(map(int, re.findall(r'font-size: (\d+)px', svg))) >= 13


def test_its_numbers_are_the_configs():
  config = imagenet.get_config()
  config.model.update(num_latents=96, num_self_attends=5, num_cross_attends=4)
  config.task.update(image_size=64, num_bands=2)
  root = ElementTree.fromstring(draw_model.draw(config))
  shown = ' '.join(element.text for element in root.iter(f'{NAMESPACE}text'))
  for text in ('96 × 1,024', 'M = 4,096', 'C = 13', '8 × 5', '3 times'):
    assert text in shown
