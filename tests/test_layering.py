"""Who imports whom, and that importing a module does nothing but define."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Top to bottom: a folder imports from the lines below its own, and from no other folder of its own line.
ORDER = [
    ['benchmarks', 'docs'],
    ['commands'],
    ['alignment'],
    ['evaluation', 'prediction', 'tools'],
    ['training'],
    ['models'],
    ['recordings'],
    ['losses', 'configs'],
    ['utils'],
]
# The user fixed the addresses of these files, so they import from above their folder.
EXCEPTIONS = {
    'models/alignment_training_loop.py': {'training'},
    'utils/ckpt_save.py': {'models', 'configs'},
    'utils/loss_entry.py': {'configs'},
    'utils/tensorops.py': {'configs'},
}
LOSSES_MAY_IMPORT = {'torch', 'numpy', 'numba', 'ot', 'losses', *sys.stdlib_module_names}  # POT is imported as ot
FOLDERS = [path for path in ROOT.iterdir() if path.is_dir() and path.name != 'tests' and path.name[0] != '.']
FILES = sorted(path.relative_to(ROOT).as_posix() for path in
               [*ROOT.glob('*.py'), *(path for folder in FOLDERS for path in folder.rglob('*.py'))])
MODULES = {file.removesuffix('.py').removesuffix('/__init__').replace('/', '.'): file for file in FILES}
AT_IMPORT = ('environ', 'getenv', 'parse_args', 'parse_known_args', 'is_available', 'device', 'device_count',
             'set_default_device', 'manual_seed', 'basicConfig', 'addHandler', 'setLevel', 'set_up_logging',
             'log_to_file', 'print')


def folder(file):
    return file.split('/')[0] if '/' in file else 'commands'


def layer(name):
    return next((depth for depth, folders in enumerate(ORDER) if name in folders), None)


def wrong_imports(file, imported):
    """Files that `file` imports although their folder is above its own, or another one of the same line."""
    own = folder(file)
    return [other for other in imported if (theirs := folder(other)) != own and theirs not in EXCEPTIONS.get(file, ())
            and (layer(theirs) <= layer(own))]


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


def test_every_folder_has_a_place_in_the_order():
    assert len(FILES) > 30 and [file for file in FILES if layer(folder(file)) is None] == []


def test_imports_go_down_only():
    wrong = {file: found for file in FILES
             if (found := wrong_imports(file, own_imports((ROOT / file).read_text(), file)))}
    assert wrong == {}


def test_every_exception_is_needed():
    for file, allowed in EXCEPTIONS.items():
        imported = {folder(other) for other in own_imports((ROOT / file).read_text(), file)}
        assert allowed <= imported, file


def test_losses_import_nothing_else_of_the_project():
    foreign = {file: names - LOSSES_MAY_IMPORT for file in FILES if file.startswith('losses/')
               if (names := {name.split('.')[0] for name in imports_of((ROOT / file).read_text(), file)})
               - LOSSES_MAY_IMPORT}
    assert foreign == {}


def test_package_files_hold_re_exports_only():
    for file in FILES:
        if file.endswith('__init__.py'):
            kinds = {type(node) for node in ast.parse((ROOT / file).read_text()).body}
            assert kinds <= {ast.Expr, ast.Import, ast.ImportFrom, ast.Assign}, file


def test_nothing_is_decided_when_a_module_is_imported():
    effects = {file: found for file in FILES if (found := effects_at_import((ROOT / file).read_text()))}
    assert effects == {}


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


def test_importing_everything_sets_up_nothing_and_starts_load_no_package_that_is_slow_to_import():
    commands = [name for name, file in MODULES.items() if '/' not in file or file.startswith('tools/')
                and 'def main(' in (ROOT / file).read_text()]
    program = f'''
import importlib, logging, os, random, sys
slow = {{'sklearn', 'scipy', 'numba', 'ot', 'matplotlib', 'av'}}
for name in {commands!r}:
    importlib.import_module(name)
assert not {{'torch', *slow}} & set(sys.modules), sorted({{'torch', *slow}} & set(sys.modules))  # --help needs none
import torch
import losses, training.run
model = torch.nn.Linear(1, 1)
optimizer = training.step.build_optimizer(model, 0.1)
model(torch.ones(1, 1)).sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
slow.add('torch._dynamo')
assert not slow & set(sys.modules), sorted(slow & set(sys.modules))
torch.manual_seed(0)
before = torch.get_num_threads(), torch.random.get_rng_state().tolist(), random.getstate()
for name in {[name for name in MODULES if not name.startswith('benchmarks')]!r}:
    importlib.import_module(name)
after = torch.get_num_threads(), torch.random.get_rng_state().tolist(), random.getstate()
assert after == before and not torch.cuda.is_initialized()
assert not any(logger.handlers for name, logger in logging.Logger.manager.loggerDict.items()
               if name.startswith('progress') and isinstance(logger, logging.Logger))
'''
    result = subprocess.run([sys.executable, '-c', program, '--no_such_option'], cwd=ROOT, capture_output=True,
                            text=True, timeout=600)
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')
    assert {'predict', 'tools.extract', 'tools.convert_checkpoint'} <= set(commands)
