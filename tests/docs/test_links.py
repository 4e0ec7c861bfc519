"""Links and pictures of the documents lead somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', ROOT / 'CHANGELOG.md', *sorted((ROOT / 'docs').glob('*.md'))]
LINK = re.compile(r'\]\(([^)\s]+)\)')
FENCED = re.compile(r'^( *)```.*?^\1```', re.MULTILINE | re.DOTALL)


def links(text):
    return [link for link in LINK.findall(re.sub(r'`[^`\n]*`', '', FENCED.sub('', text))) if '://' not in link]


def anchors(text):
    """Names of a page's headings, as links spell them."""
    headings = re.findall(r'^#+ (.*)$', FENCED.sub('', text), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def test_every_link_leads_to_a_file_and_a_heading():
    for page in PAGES:
        for link in links(page.read_text()):
            path, _, anchor = link.partition('#')
            target = page.parent / path if path else page
            assert target.exists(), f'{page.name}: {link} leads nowhere'
            assert not anchor or anchor in anchors(target.read_text()), f'{page.name}: {link}: no such heading'


def test_every_page_is_in_the_index():
    listed = {link.partition('#')[0] for link in links((ROOT / 'docs/README.md').read_text())}
    assert {page.name for page in PAGES if page.parent == ROOT / 'docs'} - {'README.md'} <= listed


def test_the_readme_is_short_and_its_pictures_are_small():
    readme = (ROOT / 'README.md').read_text()
    assert len(readme.splitlines()) < 200
    pictures = [ROOT / link for link in links(readme) if link.endswith('.png')]
    assert pictures and all(picture.stat().st_size < 100 * 1024 for picture in pictures)
