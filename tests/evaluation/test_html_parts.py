"""Parts of a page: texts are escaped, tables are grouped, pictures lie inside the page."""

import base64
import re

import pytest

from evaluation.html_parts import Cell, code, details, heading, paragraph, picture, section, table
from utils.figures import new_figure, save_figure

HOSTILE = '<i>"a" & \'b\'</i>'


@pytest.mark.parametrize('part', [
    paragraph(HOSTILE), heading(HOSTILE), code(HOSTILE), section(HOSTILE, HOSTILE), details(HOSTILE),
    table([Cell(HOSTILE)], [(HOSTILE, [[Cell(HOSTILE, HOSTILE)]])])])
def test_texts_are_escaped(part):
    assert '<i>' not in part and '&lt;i&gt;' in part and '"a"' not in part


def test_rows_of_a_group_share_one_heading():
    html = table([Cell('task'), Cell('mae')], [('tea', [[Cell('1', 'best')], [Cell('2')]]), ('tyre', [[Cell('3')]])])
    assert '<th scope="rowgroup" rowspan="2">tea</th><td class="best">1</td></tr>\n<tr><td>2</td></tr>' in html
    assert html.count('<tbody>') == 2 and html.count('<tr>') == 4


def test_long_names_break_at_their_joints():
    assert 'A.<wbr>b_<wbr>c &lt;</th>' in table([Cell('task')], [('A.b_c <', [[]])])


def test_details_unfold():
    assert details('tea').startswith('<details>') and details('tea', is_open=True).startswith('<details open>')


def test_a_picture_is_inside_the_page(tmp_path):
    path = tmp_path / 'picture.png'
    save_figure(new_figure(3, 2), path)
    html = picture(path, HOSTILE)
    assert base64.b64decode(re.search('base64,([^"]*)"', html)[1]) == path.read_bytes()
    assert 'width="300" height="200"' in html and '<i>' not in html  # 3 by 2 inches
