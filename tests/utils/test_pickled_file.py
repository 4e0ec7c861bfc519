"""Files of torch.save that somebody else made: refused in time and memory in proportion to their size."""

import io
import os
import resource
import time
import zipfile

import pytest
import torch

from tools.published_checkpoint import read_published
from utils.ckpt_save import load_checkpoint
from utils.errors import UserError
from utils.pickled_file import load_pickled


def shared_lists():
    value = [0]
    for _ in range(45):
        value = [value, value]  # 2^45 values in some hundred bytes
    return value


def deep():
    value = []
    for _ in range(80):
        value = [value]
    return value


def cyclic():
    value = {}
    value['again'] = value
    return value


CONTENTS = {
    'expanded': (lambda: torch.zeros(1).expand(10**6, 10**6), 'stores fewer values'),
    'expanded integers': (lambda: torch.zeros(1, dtype=torch.int8).expand(2**40), 'stores fewer values'),
    'overlapping': (lambda: torch.zeros(1000).as_strided((500, 500), (1, 1)), 'stores fewer values'),
    'sparse': (lambda: torch.sparse_coo_tensor([[0], [0]], [1.0], (10**6, 10**6)), 'without a value for each entry'),
    'meta': (lambda: torch.empty(10**6, 10**6, device='meta'), 'without a value for each entry'),
    'shared lists': (shared_lists, 'repeats or nests'), 'deep': (deep, 'repeats or nests'),
    'cyclic': (cyclic, 'repeats or nests'), 'large number': (lambda: 10**20_000, 'damaged'),
}


@pytest.mark.filterwarnings('ignore:Sparse invariant checks')
@pytest.mark.parametrize('name', CONTENTS)
def test_content_that_claims_more_than_its_file_holds(tmp_path, name):
    make, message = CONTENTS[name]
    path = tmp_path / 'a.pt'
    torch.save({'config': {}, 'epoch': 1, 'loss': 0.5, 'model_state_dict': {'x': make()},
                'optimizer_state_dict': {}}, path)
    started = time.process_time()
    for load in (load_checkpoint, read_published):
        with pytest.raises(UserError, match=f'a.pt: (refused|cannot be read).*{message}') as caught:
            load(path)
        assert len(str(caught.value)) < 500
    assert time.process_time() - started < 10


def test_compressed_archive_that_unpacks_to_much_more_is_refused_unread(tmp_path):
    buffer = io.BytesIO()
    torch.save({'x': torch.zeros(5_000_000)}, buffer)
    with zipfile.ZipFile(buffer) as stored, zipfile.ZipFile(tmp_path / 'a.pt', 'w', zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match='a.pt: cannot be read as a checkpoint .it unpacks to 20'):
        load_pickled(tmp_path / 'a.pt', 'cpu', 'tensors')
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.pt')
    with pytest.raises(UserError, match='not a regular file'):
        load_pickled(tmp_path / 'a.pt', 'cpu', 'tensors')


def test_usual_content_is_loaded(tmp_path):
    weights = torch.arange(12.0).reshape(3, 4)
    content = {'a': weights, 'view': weights.T, 'row': weights[1], 'list': list(range(5000)), 'none': None, 'empty': []}
    torch.save(content, tmp_path / 'a.pt')
    loaded = load_pickled(tmp_path / 'a.pt', 'cpu', 'tensors')
    assert torch.equal(loaded['view'], weights.T) and loaded['list'] == content['list']
