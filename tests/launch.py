"""Several processes of one run, as torchrun starts them, without the seconds that torchrun itself takes."""

import os
import socket
import subprocess
import sys


def run_processes(count, command, pythonpath, **variables):
    """Run ``python COMMAND`` in each of ``count`` gloo processes; returns their status, output and errors."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    common = {**os.environ, **variables, 'PYTHONPATH': str(pythonpath), 'OMP_NUM_THREADS': '1',
              'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), 'WORLD_SIZE': str(count),
              'LOCAL_WORLD_SIZE': str(count), 'TORCHELASTIC_RUN_ID': 'test'}
    started = [subprocess.Popen([sys.executable, *map(str, command)], text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env={**common, 'RANK': str(rank), 'LOCAL_RANK': str(rank)})
               for rank in range(count)]
    try:
        outputs = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()  # of no effect on one that has ended
    return [(process.returncode, *output) for process, output in zip(started, outputs, strict=True)]
