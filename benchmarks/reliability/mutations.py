"""Mutations of valid files for fuzzing: JSON trees, .npy headers, bytes. The caller passes the random generator."""

import copy
import json
import random
import struct

import numpy as np

NAMES = ('', ' ', '.', '..', '../up', '/etc/passwd', 'a/b', 'a\\b', 'a\nb', 'a\0b', 'x' * 300, 'é' * 150, 'naïve',
         '日本', '\ud800', 'a\u2028b', '\u202ereversed', '-f', '~', '$HOME', 'CON', '0')
NUMBERS = (-1, 0, 1, 2**31, 2**63, 10**19, 10**400, -10**400, 0.5, -0.0, 1e308, float('nan'), float('inf'))
OTHERS = (None, True, False, [], {}, [[]], [None], {'a': 1}, [0] * 50, [[0, 1], [2]])
WHOLE_TEXTS = ('', ' ', 'null', '[]', '{}', '"text"', '1e999', '{"a": 1, "a": 2}', '[' * 100_000, '{"a":' * 100_000,
               '9' * 5000, '{"t": ' + '9' * 4200 + '}', '\ufeff{}', '{"\\ud800": {}}', "{'a': 1}", '// no\n{}')

DESCRIPTIONS = ("'<f4'", "'<f2'", "'<f8'", "'>f4'", "'|O'", "'<f16'", "'<c8'", "'<i4'", "'|b1'", "'|S5'", "'<U3'",
                "'<M8[s]'", "'<M8[zz]'", "'|V8'", "'|V0'", "'<f4,<f4'", "('<f4', (2,))", "('<f4', (-2,))",
                "('<f4',)", "'(2,3)f4'", "'(2'", "'f'", "''", "'nonsense'", "b'<f4'", '[]', '{}', 'None', '3',
                "[('a', '<f4')]", "[('a',)]", "[('', '|V4')]", "{'names': ['a'], 'formats': ['<f4']}", "'<f4' * 3")
SHAPES = ('(6, 4)', '(4, 6)', '()', '(24,)', '(2, 3, 4)', '(1, 2, 3, 4)', '(-1, 4)', '(6, -4)', '(-6, -4)', '(0, 4)',
          '(6, 0)', '(7, 4)', '(1000000000000, 4)', '(9223372036854775807, 9223372036854775807)',
          '(4611686018427387904, 4)', f'({10**30}, 4)', '(6.0, 4)', "('6', 4)", '[6, 4]', '(True, 4)', 'None', '6',
          '(6, 4', '(' * 2000, '-' * 3000 + '1', '(' + '1, ' * 40 + ')', '(6, 4) if 1 else 2', '(6, 4L)')
ORDERS = ('False', 'True', '0', 'None', "'C'")
EXTRA_ENTRIES = ('', '', '', "'more': 1, ", '3: 4, ', "'shape': (2, 2), ", '[]: 1, ', '**{}, ')


def mutate_json(content: object, draw: random.Random) -> bytes:
    """Return JSON text with one to three changes to ``content``; sometimes its bytes are damaged as well."""
    if draw.random() < 0.05:
        return draw.choice(WHOLE_TEXTS).encode('utf-8')
    content = copy.deepcopy(content)
    for _ in range(draw.choice((1, 1, 2, 3))):
        content = _change_a_place(content, draw)
    data = json.dumps(content, ensure_ascii=draw.random() < 0.5).encode('utf-8', 'surrogatepass')
    return mutate_bytes(data, draw) if draw.random() < 0.2 else data


def mutate_npy(array: np.ndarray, draw: random.Random) -> bytes:
    """Return a .npy file of ``array`` with a different or damaged header."""
    if draw.random() < 0.25:
        return mutate_bytes(npy_bytes(array, _true_header(array)), draw)
    parts = [f"'descr': {draw.choice(DESCRIPTIONS) if draw.random() < 0.5 else repr(array.dtype.str)}, ",
             f"'fortran_order': {draw.choice(ORDERS)}, ",
             f"'shape': {draw.choice(SHAPES) if draw.random() < 0.7 else array.shape}, ", draw.choice(EXTRA_ENTRIES)]
    if draw.random() < 0.1:
        parts.pop(draw.randrange(len(parts)))
    draw.shuffle(parts)
    data = npy_bytes(array, '{' + ''.join(parts) + '}', draw.choice((1, 1, 2, 3)))
    return mutate_bytes(data, draw) if draw.random() < 0.1 else data


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    """Truncate the bytes, or replace, insert, delete or repeat some of them; mostly near the start."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = int(len(changed) * draw.random() ** 2)
        match draw.randrange(5):
            case 0:
                changed[place:place + 1] = bytes([draw.randrange(256)])
            case 1:
                changed[place:place] = draw.randbytes(draw.randint(1, 8))
            case 2:
                del changed[place:place + draw.randint(1, 8)]
            case 3:
                del changed[place:]
            case 4:
                changed[place:place] = changed[place:place + draw.randint(1, 60)]
    return bytes(changed)


def npy_bytes(array: np.ndarray, header: str, version: int = 1) -> bytes:
    """Return a .npy file with the given header, which may be invalid."""
    text = header.encode('utf-8') + b'\n'
    length = struct.pack('<H' if version == 1 else '<I', len(text))
    return b'\x93NUMPY' + bytes([version, 0]) + length + text + array.tobytes()


def _true_header(array: np.ndarray) -> str:
    return repr({'descr': array.dtype.str, 'fortran_order': False, 'shape': array.shape})


def _change_a_place(content: object, draw: random.Random) -> object:
    """Change a node of a JSON tree: alter, replace, remove, repeat or rename it, or replace it by another node."""
    places = list(_places(content))
    if not places or draw.random() < 0.02:
        return _hostile(draw)
    parent, key = draw.choice(places)
    action = draw.choice(('alter', 'alter', 'alter', 'replace', 'remove', 'double', 'copy', 'rename'))
    if action == 'alter':
        parent[key] = _altered(parent[key], draw)
    elif action == 'replace':
        parent[key] = _hostile(draw)
    elif action == 'remove':
        del parent[key]
    elif action == 'rename' and isinstance(parent, dict):
        parent[draw.choice(NAMES)] = parent.pop(key)
    elif action == 'double' and isinstance(parent, list):
        parent.insert(draw.randint(0, len(parent)), copy.deepcopy(parent[key]))
    else:
        # Copy the node: a node inside itself would be an infinite tree.
        parent[key] = copy.deepcopy(_node(draw.choice(places)))
    return content


def _places(node: object) -> list[tuple[dict | list, object]]:
    """Return (parent, key) of every node of a JSON tree, except the root."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [place for key in keys for place in ((node, key), *_places(node[key]))]


def _node(place: tuple[dict | list, object]) -> object:
    parent, key = place
    return parent[key]


def _hostile(draw: random.Random) -> object:
    return copy.deepcopy(draw.choice(draw.choice((NAMES, NUMBERS, OTHERS))))


def _altered(value: object, draw: random.Random) -> object:
    """Return another value of the same type, which passes the type checks and reaches later checks."""
    if isinstance(value, int):
        return draw.choice((*range(12), 10**6, 2**63, 10**400))
    if isinstance(value, str):
        return draw.choice(('boil', '0', 'new', *NAMES))
    if isinstance(value, list):
        return draw.sample(value, draw.randint(0, len(value)))
    if isinstance(value, dict):
        return {key: value[key] for key in draw.sample(list(value), draw.randint(0, len(value)))}
    return _hostile(draw)
