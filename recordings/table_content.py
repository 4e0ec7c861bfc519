"""Recognize files that are not tables of text: workbooks, subtitles, the files of annotation tools, binary files."""

import re
from pathlib import Path

from utils.errors import UserError

HEAD_BYTES = 512
_WORKBOOK = 'save the sheet as CSV (UTF-8) in the spreadsheet program'
# First bytes of a file -> what it is, and how to make a table of it.
_SIGNATURES = {
    b'PK\x03\x04': ('a ZIP archive, as workbooks of Excel (.xlsx) and LibreOffice (.ods) are', _WORKBOOK),
    b'\xd0\xcf\x11\xe0': ('a workbook of Excel (.xls)', _WORKBOOK), b'%PDF': ('a PDF', _WORKBOOK),
    b'\x1f\x8b': ('a compressed file', 'unpack it'), b'PAR1': ('a Parquet file', "pandas: read_parquet(...).to_csv()"),
    b'SQLite format 3': ('a database', 'export the table of segments as CSV'),
    b'\x93NUMPY': ('a .npy array', 'write start, end and label of each segment as CSV'),
    b'\x80\x02': ('a Python pickle', 'write a CSV in the program that made it'),
    b'\x80\x04': ('a Python pickle', 'write a CSV in the program that made it'),
    b'\x80\x05': ('a Python pickle', 'write a CSV in the program that made it')}
# Beginning of a text file -> the same.
_TEXTS = (
    (r'\s*<(\?xml|!doctype|!--|html|annotat)', 'XML or HTML, as the files of ELAN (.eaf), Anvil and VIA are',
     'export the annotations as text separated by tabs, with times in seconds'),
    (r'File type = "ooTextFile', 'a TextGrid of Praat', 'export it as a table: start, end and label of each interval'),
    (r'(WEBVTT|[^\n]*\n?[^\n]*\d\s*-->\s*\d)', 'subtitles', 'write start, end and label of each subtitle as CSV'),
    (r'\s*[{[]', 'JSON', 'write a list with an entry per segment, [start, end, label] or an object with these keys, '
                         'to a file that ends in .json'))


def refuse_other_content(path: Path) -> None:
    """Check that a file may be a table of text.

    Args:
        path: file, named like a table or otherwise.

    Raises:
        UserError: its first bytes are those of another kind of file; the message tells how to convert it.
    """
    try:
        with path.open('rb') as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return  # reported by the reader
    text = head.decode('utf-8-sig', 'replace')
    kind = next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)
    kind = kind or next(((what, how) for pattern, what, how in _TEXTS if re.match(pattern, text, re.IGNORECASE)), None)
    if kind:
        raise UserError(f'{path}: is {kind[0]}, expected a table: a text file with start, end and label of each '
                        f'segment; {kind[1]}')
