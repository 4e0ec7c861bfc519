"""Command lines in processes of their own that need no seconds to start: forks of a process that has loaded torch.

A forked process has an environment, a working directory, standard streams and an exit status of its own, like one that
a shell starts; only its imports, which take 3 to 5 s of CPU time, are done already. What depends on the start of Python
(its options, the seed of its hashes, packages that are missing) is tested with ``subprocess``.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What the programs import, at their start or at the place of use.
LOADED = ('torch.distributed', 'torch._dynamo', 'torch.utils.tensorboard', 'matplotlib.backends.backend_agg',
          'scipy.stats', 'sklearn.linear_model', 'sklearn.svm', 'training.run', 'evaluation.evaluate',
          'evaluation.report', 'prediction.command', 'alignment.command')
# Module -> its functions that draw many panels; the path of the picture is their last argument.
LARGE_PICTURES = {'models.alignment_training_loop': ['plot_epoch_losses'],
                  'evaluation.evaluate': ['draw_progress', 'draw_error_by_length']}


def run_program(*command, cwd=ROOT, stdin=os.devnull, stdout=None, timeout=600, pictures=True, **variables):
    """Run ``python COMMAND`` with these environment variables; returns what ``subprocess.run`` does, output as text.

    Standard input and output may be paths of pipes, for another thread. Without ``pictures``, each picture is one
    pixel: drawing takes most of the time of short trainings and evaluations.
    """
    done, = _run([command], cwd, [variables], timeout, stdin, stdout, pictures)
    return done


def run_processes(count, *command, cwd):
    """Run ``python COMMAND`` in ``count`` gloo processes at the same time, as torchrun starts them."""
    common = {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port(),
              'WORLD_SIZE': str(count), 'LOCAL_WORLD_SIZE': str(count), 'TORCHELASTIC_RUN_ID': 'test'}
    return _run([command] * count, cwd, [{**common, 'RANK': str(rank), 'LOCAL_RANK': str(rank)}
                                         for rank in range(count)], 600)


def free_port():
    """Return a free port that nobody else is given: the system chooses those of other programs above 32768."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as place, contextlib.suppress(OSError):
            place.bind(('', port))
            return str(port)


def _run(commands, cwd, variables, timeout, stdin=os.devnull, stdout=None, pictures=True):
    """Run command lines at the same time, and wait for all of them; the output goes through files, so none waits."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [{'command': list(map(str, command)), 'cwd': str(cwd), 'variables': {**os.environ, **more},
                  'pictures': pictures,
                  'streams': [str(stdin), str(stdout or f'{folder}/out{number}'), f'{folder}/err{number}']}
                 for number, (command, more) in enumerate(zip(commands, variables, strict=True))]
        with _server()[1].makefile('rw') as server:
            server.write(json.dumps([timeout, asked]) + '\n')
            server.flush()
            statuses = json.loads(server.readline())
        done = [subprocess.CompletedProcess(one['command'], status, '' if stdout else Path(out).read_text(),
                                            Path(err).read_text())
                for status, one in zip(statuses, asked, strict=True) for _, out, err in [one['streams']]]
    assert None not in statuses, f'killed after {timeout} s: {done}'
    return done


@functools.cache
def _server():
    """Start the process that is forked; returns it and the socket for requests, at whose end of file it ends."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                                   stdin=subprocess.DEVNULL, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    return process, ours


def stop_server():
    """End the process that is forked, and wait for it, so that its CPU time counts as that of the tests."""
    if _server.cache_info().currsize:
        process, requests = _server()
        requests.close()
        process.wait(timeout=600)
        _server.cache_clear()


def serve(requests):
    """Fork a process for each command line that is requested, and answer with their exit statuses.

    Returns:
        What was requested, in the forked process; None in this one, after the last request.
    """
    with requests, requests.makefile('rw') as lines:
        for line in lines:
            timeout, asked = json.loads(line)
            children = []
            for one in asked:
                children.append(os.fork())
                if not children[-1]:
                    return one
            lines.write(json.dumps(wait_for(children, timeout)) + '\n')
            lines.flush()
    return None


def wait_for(children, timeout):
    """Return the exit statuses of processes, -N after signal N; None for those that are killed after ``timeout`` s."""
    statuses, until = {}, time.monotonic() + timeout
    while len(statuses) < len(children) and time.monotonic() < until:
        for child in set(children) - set(statuses):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                statuses[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    for child in set(children) - set(statuses):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return [statuses.get(child) for child in children]


def blank_pictures(replace):
    """Save one white pixel for each picture; those of most panels are not even built.

    Args:
        replace: ``setattr``, or that of a fixture that undoes it.
    """
    from matplotlib.figure import Figure

    replace(Figure, 'savefig', save_one_pixel)
    for module, names in LARGE_PICTURES.items():
        for name in names:
            replace(importlib.import_module(module), name, _draw_nothing)


def save_one_pixel(figure, path, **options):
    """Save one white pixel in place of a figure."""
    import numpy as np
    from matplotlib.image import imsave

    imsave(path, np.ones((1, 1, 3)))


def _draw_nothing(*arguments):
    from utils.files import atomic_path

    with atomic_path(arguments[-1]) as temporary:
        save_one_pixel(None, temporary)


def become(command, cwd, variables, streams, pictures):
    """Do in this process what ``python COMMAND`` does in a new one."""
    if not pictures:
        blank_pictures(setattr)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    for descriptor, path in enumerate(streams):
        file = os.open(path, os.O_WRONLY | os.O_CREAT if descriptor else os.O_RDONLY)
        os.dup2(file, descriptor)
        os.close(file)
    # Those of the process that is forked know whether they can seek, which pipes cannot.
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, 'w', closefd=False)
    sys.stderr = open(2, 'w', errors='backslashreplace', buffering=1, closefd=False)
    program = command[1 if command[0] in ('-c', '-m') else 0]
    installed = [place for place in sys.path if place not in (str(ROOT), str(Path(__file__).parent))]
    own = [place for place in variables.get('PYTHONPATH', '').split(os.pathsep) if place]
    sys.path[:] = [str(Path(program).resolve().parent) if program is command[0] else cwd, *own, *installed]
    if str(ROOT) not in sys.path:  # a copy of the project imports its own modules
        project = {path.stem for path in ROOT.iterdir()}
        for name in [name for name in sys.modules if name.partition('.')[0] in project]:
            del sys.modules[name]
    sys.argv[:] = command[command.index(program):]
    try:
        _run_as_main(command, program)
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        _end(end.code or 0)
    _end(0)


def _run_as_main(command, program):
    if command[0] == '-m':
        runpy.run_module(program, run_name='__main__', alter_sys=True)
    elif command[0] == '-c':
        sys.argv[0] = '-c'
        exec(compile(program, '<string>', 'exec'), {'__name__': '__main__'})
    else:
        runpy.run_path(program, run_name='__main__')


def _end(status):
    """End this process as Python does, but do not free each object: that takes 1.5 s of a fork's CPU time."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def prepare():
    """Do what many programs do first: load modules, draw texts and lines; forks find it done."""
    for module in LOADED:
        importlib.import_module(module)
    from matplotlib.figure import Figure

    axes = Figure(layout='constrained').subplots()
    axes.plot([1, 10], [1, 1000], label='0')
    axes.set(xlabel='0', ylabel='0', title='0', yscale='log')
    axes.legend()
    axes.figure.savefig(io.BytesIO())
    # Forks do not look for garbage in what they have in common; each page that they would touch would be copied.
    gc.collect()
    gc.freeze()


if __name__ == '__main__':
    prepare()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request:
        become(**request)
