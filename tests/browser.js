// Functions that tests/browser.py runs in a page; they leave nothing there.

const describe = (element) => {
  if (!element) return null;
  const classes = [...element.classList].map((name) => `.${name}`).join('');
  const id = element.id && `#${element.id}`;
  return element.tagName.toLowerCase() + id + classes;
};

const focused = () => describe(document.activeElement);

// Two frames, because the first callback comes before pending changes are drawn.
const settled = async () => {
  await document.fonts.ready;
  for (let frame = 0; frame < 2; frame++)
    await new Promise(requestAnimationFrame);
};

function* ancestors(element) {
  while ((element = element.parentElement)) yield element;
}

const isRoot = (element) =>
  element === document.body || element === document.documentElement;

const scrolls = (element) =>
  !isRoot(element) &&
  ['auto', 'scroll'].includes(getComputedStyle(element).overflowX);

// An <svg> shows no more than its box, whatever is in it.
const isDrawn = (element) => element.ownerSVGElement;

const overflow = () => {
  const width = document.documentElement.clientWidth;
  const found = [];
  for (const element of document.querySelectorAll('body, body *')) {
    const box = element.getBoundingClientRect();
    const out = box.right > width + 0.5 || (box.left < -0.5 && box.right > 0);
    if (!out || !box.width || isDrawn(element)) continue;
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    if ([...ancestors(element)].some(scrolls)) continue;
    const [left, right] = [box.left, box.right].map(Math.round);
    found.push(`${describe(element)}: ${left} to ${right} px`);
  }
  const { scrollWidth } = document.documentElement;
  if (scrollWidth > width) found.push(`html: 0 to ${scrollWidth} px`);
  return found;
};

const intersection = (a, b) => {
  const left = Math.max(a.left, b.left);
  const top = Math.max(a.top, b.top);
  const right = Math.min(a.right, b.right);
  const bottom = Math.min(a.bottom, b.bottom);
  return { left, top, right, bottom };
};

// The part of a line of text that no ancestor cuts off, in the document's
// pixels. It leaves out the line's upper and lower edges, where there may be
// underlines and borders, but no letter is only there.
const shown = (line, element) => {
  const { left, right, top, height } = line;
  let box = { left, right, top: top + height / 5, bottom: top + 0.85 * height };
  for (const around of [element, ...ancestors(element)]) {
    const style = getComputedStyle(around);
    if (isRoot(around) || style.display === 'inline') continue;
    if (style.overflowX === 'visible') continue;
    box = intersection(box, around.getBoundingClientRect());
  }
  if (box.right - box.left < 2 || box.bottom - box.top < 2) return [];
  const [x, y] = [scrollX, scrollY];
  if (box.right + x < 1 || box.bottom + y < 1) return []; // Moved off the page.
  const edges = [box.left + x, box.top + y, box.right + x, box.bottom + y];
  return [edges.map((edge) => Math.max(0, Math.round(edge)))];
};

// [[text, [[left, top, right, bottom], …]], …]
const texts = (selector) => {
  const found = [];
  for (const element of document.querySelectorAll(selector)) {
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    const boxes = [];
    let text = '';
    for (const node of element.childNodes) {
      if (node.nodeType !== Node.TEXT_NODE || !node.data.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      const lines = [...range.getClientRects()];
      boxes.push(...lines.flatMap((line) => shown(line, element)));
      text += node.data;
    }
    if (boxes.length) found.push([text.replace(/\s+/g, ' ').trim(), boxes]);
  }
  return found;
};
