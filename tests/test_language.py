"""The worst phrases of an earlier dialect stay out of code, messages and documents."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PHRASES = re.compile(
    r'\b(beside|anew|mend(s|ed|ing)?|by turns|half[- ]characters?|(say|look|tell) whether|tell how|'
    r'that there (is|are) not|'
    r'(?-i:(is|are) none\b)|let be|by heart|but for|stands? (for itself|there|next)|can do with|wants? to be|'
    r'shall not|is no (JSON|CSV|number|name|file|run|dataset|list|object|folder|text|step|time|action))\b',
    re.IGNORECASE)
TEXTS = sorted(path for pattern in ('*.py', '*.md') for path in ROOT.rglob(pattern)
               if not any(part.startswith('.') or part in ('demo', 'output') for part in path.relative_to(ROOT).parts)
               and path != Path(__file__))


def odd_phrases(text):
    return [f'{number}: {match[0]}' for number, line in enumerate(text.splitlines(), 1)
            for match in PHRASES.finditer(line)]


def test_no_file_has_a_phrase_of_the_list():
    found = {str(path.relative_to(ROOT)): odd for path in TEXTS if (odd := odd_phrases(path.read_text('utf-8')))}
    assert len(TEXTS) > 100 and found == {}


@pytest.mark.parametrize('text', ['Say whether a file exists.', 'written anew', 'it stands beside the other',
                                  'what is no JSON is text', 'all but for one'])
def test_the_list_sees_the_phrases(text):
    assert odd_phrases(text)
