"""Which blocks of a page are commands, and what happens where one fails."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'docs/check_commands.py'
PAGE = '''# A page

```bash
echo one
```

Text with `inline` code.

1. In a list:

   ```bash indented
   cat <<'END'
     more
   END
   ```

```text
``` not closed by this
```

~~~~bash
```
~~~
~~~~

```
no language
```
'''


@pytest.fixture(scope='module')
def script():
    spec = importlib.util.spec_from_file_location('check_commands', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_blocks_with_their_language_and_line(script):
    assert list(script.read_blocks(PAGE)) == [
        ('bash', 4, 'echo one\n'), ('bash', 12, "cat <<'END'\n  more\nEND\n"), ('text', 18, '``` not closed by this\n'),
        ('bash', 22, '```\n~~~\n'), ('', 27, 'no language\n')]


def test_a_fence_that_is_never_closed_is_told(script):
    with pytest.raises(ValueError, match='line 3: the fence ``` is never closed'):
        list(script.read_blocks('a\n\n```bash\necho\n'))


def blocks(script, *texts):
    return [script.Block('bash', 10 * number, f'{text}\n') for number, text in enumerate(texts)]


def test_blocks_share_a_shell_and_the_folder(script, tmp_path):
    folder = tmp_path / 'page'
    folder.mkdir()
    commands = blocks(script, 'export NAME=x; A=1', 'echo "$NAME$A$JSON_DPATH" > found; python -c "import torch"')
    assert script.run_blocks(commands, folder, 60) is None
    assert (folder / 'found').read_text() == 'x1demo/dset_jsons\n'


@pytest.mark.parametrize('failing', ['false', 'false | cat', 'exit 2', 'no_such_command', 'test -e nowhere'])
def test_the_first_block_that_fails_is_named(script, tmp_path, failing):
    folder = tmp_path / 'page'
    folder.mkdir()
    failure = script.run_blocks(blocks(script, 'echo before', failing, 'touch after'), folder, 60)
    assert failure.block.line == 10 and 'before' in failure.output
    assert not (folder / 'after').exists()


def test_a_block_that_does_not_end_is_stopped(script, tmp_path):
    folder = tmp_path / 'page'
    folder.mkdir()
    failure = script.run_blocks(blocks(script, 'echo begun; sleep 30'), folder, 0.5)
    assert failure.block.line == 0 and 'begun' in failure.output and 'stopped after' in failure.output
