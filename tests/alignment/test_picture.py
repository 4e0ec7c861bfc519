"""The picture of an alignment shows the matches, the unmatched frames, and the steps of both recordings."""

import numpy as np
import torch

from alignment.matching import UNMATCHED, FrameMatches
from alignment.picture import DrawnAlignment, draw_alignment


def test_dots_bands_and_ribbons_are_at_their_frames(tmp_path, figures):
    frames = np.array([0, UNMATCHED, UNMATCHED, 2, 1, UNMATCHED])
    matches = FrameMatches(frames, np.linspace(0, 1, 6), None, 0.0)
    labels = ['cut', '0', None]
    ribbons = {'carried over': ['cut', None, None, None, '0', None], 'given $x': ['cut'] * 4 + ['stir'] * 2}
    embeddings = torch.randn(3, 2), torch.randn(6, 2)
    draw_alignment(DrawnAlignment('a_$', 'b_$', embeddings, matches, labels, ribbons, ['0']), tmp_path / 'x.png')
    assert (tmp_path / 'x.png').read_bytes().startswith(b'\x89PNG')
    matrix, above, left = figures[0].axes[:3]
    dots = matrix.collections[0]
    assert dots.get_offsets().tolist() == [[0, 0], [2, 3], [1, 4]]
    assert dots.get_array().tolist() == matches.confidence[[0, 3, 4]].tolist()
    assert [(patch.get_y(), patch.get_height()) for patch in matrix.patches] == [(0.5, 2), (4.5, 1)]
    (steps,) = above.collections
    assert [path.get_extents().intervalx.tolist() for path in steps.get_paths()] == [[-0.5, 0.5]]
    assert [(bar.get_x() + 0.4, bar.get_y(), bar.get_height()) for bar in left.patches] == [
        (0, -0.5, 1), (1, -0.5, 4), (1, 3.5, 2)]
    names = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert names == ['unmatched', 'match', 'cut', 'stir']


def test_long_names_are_shortened_and_inside_the_picture(tmp_path, figures, recwarn):
    matches = FrameMatches(np.arange(8), np.ones(8), None, 0.0)
    labels = [f'{number}_\u5207 {"long " * 30}' for number in range(8)]
    drawn = DrawnAlignment('a' * 200, 'b' * 200, (torch.zeros(8, 2),) * 2, matches, labels, {'carried over': labels})
    draw_alignment(drawn, tmp_path / 'x.png')
    assert not recwarn.list
    figure = figures[0]
    width = figure.bbox.width
    for one in (figure.legends[0], figure._suptitle):
        extent = one.get_window_extent()
        assert 0 <= extent.x0 and extent.x1 <= width, one
    texts = figure.legends[0].get_texts()
    assert [text.get_text()[:2] for text in texts] == ['ma', *(f'{number}_' for number in range(8))]
    bottom = min(axes.get_tightbbox().y0 for axes in figure.axes if axes.axison)
    assert figure.legends[0].get_window_extent().y1 <= bottom + 1 and 'bbb...\naligned to aaa' in figure.get_suptitle()


def test_without_labels_and_matches_only_the_matrix_is_drawn(tmp_path, figures):
    matches = FrameMatches(np.full(2, UNMATCHED), np.ones(2), None, 0.0)
    drawn = DrawnAlignment('a', 'b', (torch.zeros(1, 2), torch.zeros(2, 2)), matches, None, {})
    draw_alignment(drawn, tmp_path / 'x.png')
    assert [len(axes.patches) for axes in figures[0].axes[:3]] == [1, 0, 0]
