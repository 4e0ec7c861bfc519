"""Who imports whom, and that importing a module does nothing but define."""

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Top to bottom; a file imports from its own layer or a lower one. The first pattern that fits a file decides.
LAYERS = [
    ['*_train.py', 'eval.py', 'predict.py', 'datasets/check.py', 'utils/convert_checkpoint.py',
     'benchmarks/*', 'docs/*'],
    ['training/run.py'],
    ['models/alignment_training_loop.py', 'evaluation/*', 'prediction/*'],
    ['training/*'],
    ['utils/loss_entry.py', 'utils/ckpt_save.py', 'utils/published_checkpoint.py'],
    ['models/*', 'losses/*', 'datasets/*'],
    ['utils/*', 'configs/*'],
]
LOSSES_MAY_IMPORT = {'torch', 'numpy', 'numba', 'ot', 'losses', *sys.stdlib_module_names}  # POT is imported as ot
FOLDERS = [path for path in ROOT.iterdir() if path.is_dir() and path.name != 'tests' and path.name[0] != '.']
FILES = sorted(path.relative_to(ROOT).as_posix() for path in
               [*ROOT.glob('*.py'), *(path for folder in FOLDERS for path in folder.rglob('*.py'))])
MODULES = {file.removesuffix('.py').removesuffix('/__init__').replace('/', '.'): file for file in FILES}
AT_IMPORT = ('environ', 'getenv', 'parse_args', 'parse_known_args', 'is_available', 'device', 'device_count',
             'set_default_device', 'manual_seed', 'basicConfig', 'addHandler', 'setLevel', 'set_up_logging',
             'log_to_file', 'print')


def layer(file):
    return next((depth for depth, patterns in enumerate(LAYERS)
                 if any(fnmatch(file, pattern) for pattern in patterns)), None)


def imports_of(source, file):
    """Dotted names that a file imports, anywhere in it."""
    package = file.split('/')[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[:len(package) - node.level + 1] if node.level else []
            base = '.'.join([*parents, *filter(None, [node.module])])
            yield base
            yield from (f'{base}.{alias.name}' for alias in node.names)


def own_imports(source, file):
    return sorted({MODULES[name] for name in imports_of(source, file) if name in MODULES} - {file})


def executed_at_import(tree):
    """Nodes that run when a module is imported: no bodies of functions, nothing for the main module only."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]
            waiting += [*getattr(node, 'decorator_list', []), *defaults]
        elif isinstance(node, ast.AnnAssign):
            waiting += [node.value] if node.value else []
        elif isinstance(node, ast.If) and '__name__' in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def effects_at_import(source):
    """Names used at import that read the environment or arguments, pick a device, or set up a log."""
    names = set()
    for node in executed_at_import(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Name):
            names.add(node.id)
    return sorted(names.intersection(AT_IMPORT))


def test_every_file_has_a_layer():
    assert len(FILES) > 30 and [file for file in FILES if layer(file) is None] == []


@pytest.mark.parametrize('file', FILES)
def test_no_file_imports_from_a_higher_layer(file):
    source = (ROOT / file).read_text()
    upward = [other for other in own_imports(source, file) if layer(other) < layer(file)]
    assert upward == [], f'{file} imports upward'
    if file.startswith('losses/'):
        assert {name.split('.')[0] for name in imports_of(source, file)} <= LOSSES_MAY_IMPORT


@pytest.mark.parametrize('file', FILES)
def test_nothing_is_decided_when_a_module_is_imported(file):
    assert effects_at_import((ROOT / file).read_text()) == []


@pytest.mark.parametrize(('source', 'expected'), [
    ("import os\nPATH = os.environ['X']", ['environ']), ("class A:\n    x = getenv('X')", ['getenv']),
    ("def f(device=torch.device('cpu')): pass", ['device']), ('@print\ndef f(): pass', ['print']),
    ('if torch.cuda.is_available():\n    pass', ['is_available']), ('logging.basicConfig()', ['basicConfig']),
    ('parser.parse_args()', ['parse_args']),
    ("def f(x: torch.device):\n    return os.environ['X'], torch.device('cpu')", []),
    ("if __name__ == '__main__':\n    print(parser.parse_args())", []), ('x: torch.device = None', [])])
def test_the_check_sees_what_runs_at_import(source, expected):
    assert effects_at_import(source) == expected


@pytest.mark.parametrize(('source', 'file', 'expected'), [
    ('from evaluation import evaluate', 'utils/plotter.py', ['evaluation/__init__.py', 'evaluation/evaluate.py']),
    ('def f():\n    import training.step', 'utils/plotter.py', ['training/step.py']),
    ('from . import errors', 'utils/plotter.py', ['utils/__init__.py', 'utils/errors.py']),
    ('from .errors import UserError', 'utils/plotter.py', ['utils/errors.py']),
    ('import os.path, torch.utils.data', 'utils/plotter.py', [])])
def test_the_check_sees_every_kind_of_import(source, file, expected):
    assert own_imports(source, file) == expected


def test_importing_everything_prints_and_sets_up_nothing():
    program = f'''
import importlib, logging, os, random, torch
before = dict(os.environ), torch.get_num_threads(), torch.random.get_rng_state().tolist(), random.getstate()
for name in {[name for name in MODULES if not name.startswith('benchmarks')]!r}:
    importlib.import_module(name)
after = dict(os.environ), torch.get_num_threads(), torch.random.get_rng_state().tolist(), random.getstate()
assert after[1:] == before[1:] and not torch.cuda.is_initialized()
assert not any(logger.handlers for name, logger in logging.Logger.manager.loggerDict.items()
               if name.startswith('progress') and isinstance(logger, logging.Logger))
'''
    result = subprocess.run([sys.executable, '-c', program, '--no_such_option'], cwd=ROOT, capture_output=True,
                            text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')
