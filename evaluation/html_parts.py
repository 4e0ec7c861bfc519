"""Building blocks of a self-contained HTML page: text is escaped, pictures are embedded."""

import base64
import re
import struct
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from utils.figures import PICTURE_DPI

PNG_START, PNG_END = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR', b'IEND\xaeB`\x82'
SHOWN_DPI = 100  # pixels of the page per inch of a picture: its text is then about as large as the page's


class Cell(NamedTuple):
    """Text of a table cell, and its classes in the style sheet: 'text', 'best', 'rival'."""

    text: str
    kind: str = ''


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f'<p>{escape(text)}</p>'


def section(identifier: str, title: str, *parts: str) -> str:
    """Return a section of the page with the anchor ``#identifier``; parts are HTML."""
    return '\n'.join([f'<section id="{escape(identifier)}">', f'<h2>{escape(title)}</h2>', *parts, '</section>'])


def heading(text: str) -> str:
    """Return a heading within a section."""
    return f'<h3>{escape(text)}</h3>'


def details(summary: str, *parts: str, is_open: bool = False) -> str:
    """Return a block that unfolds under its summary; parts are HTML."""
    start = '<details open>' if is_open else '<details>'
    return '\n'.join([start, f'<summary>{escape(summary)}</summary>', *parts, '</details>'])


def code(text: str) -> str:
    """Return lines of code."""
    return f'<pre><code>{escape(text)}</code></pre>'


def picture(path: Path, description: str) -> str:
    """Return a PNG as a figure whose caption is the description, or a paragraph that says what is wrong with it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return paragraph(f'{path.name} cannot be read ({error.strerror}).')
    if not (content.startswith(PNG_START) and content.endswith(PNG_END)):
        return paragraph(f'{path.name} is damaged; evaluate the run again, or resume training to draw it again.')
    # A PNG starts with a signature (8 bytes) and length and name of the chunk IHDR (4 bytes each); width and height
    # follow as big-endian 32-bit integers. Reading them avoids decoding the picture.
    width, height = (round(side * SHOWN_DPI / PICTURE_DPI) for side in struct.unpack('>II', content[16:24]))
    source = f'data:image/png;base64,{base64.b64encode(content).decode("ascii")}'
    text = escape(description)
    return (f'<figure><div class="scroll"><img src="{source}" width="{width}" height="{height}" alt="{text}"></div>'
            f'<figcaption>{text}</figcaption></figure>')


def table(columns: Sequence[Cell], groups: Sequence[tuple[str, Sequence[Sequence[Cell]]]]) -> str:
    """Return a table whose rows are grouped, with the heading of each group in the first column.

    Args:
        columns: heads of the columns; the first column holds the groups' headings.
        groups: heading -> rows of cells for the other columns.
    """
    heads = ''.join(_cell('th scope="col"', column) for column in columns)
    bodies = []
    for heading, rows in groups:
        # The heading spans all rows of its group, so only the first row of the group contains it.
        first = f'<th scope="rowgroup" rowspan="{len(rows)}">{_breakable(heading)}</th>'
        lines = [''.join(_cell('td', cell) for cell in row) for row in rows]
        bodies.append('<tbody>' + '\n'.join(f'<tr>{"" if number else first}{line}</tr>'
                                            for number, line in enumerate(lines)) + '</tbody>')
    return '\n'.join(['<div class="scroll"><table>', f'<thead><tr>{heads}</tr></thead>', *bodies, '</table></div>'])


def _breakable(name: str) -> str:
    """Return a name that breaks over lines only after '_' and '.'."""
    # Long names of settings and columns would otherwise make the first column wider than the page.
    return re.sub('([_.])', r'\1<wbr>', escape(name))


def _cell(tag: str, cell: Cell) -> str:
    kind = f' class="{escape(cell.kind)}"' if cell.kind else ''
    return f'<{tag}{kind}>{escape(cell.text)}</{tag.split()[0]}>'  # the closing tag repeats no attributes
