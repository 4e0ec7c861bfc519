"""Contents of the plots of the loss curves."""

import matplotlib.colors
import matplotlib.image
import pytest

from models.alignment_training_loop import plot_dual_losses
from utils import plotter

TOTAL, ALIGNMENT, PROGRESS = [1.2, 1.0, 0.9], [1.0, 0.7, 0.5], [0.4, 0.6, 0.8]
EMPTY = {'total_loss': [], 'alignment_loss': [], 'progress_loss': []}


def curves(total=TOTAL, alignment=ALIGNMENT, progress=PROGRESS):
    return {'total_loss': total, 'alignment_loss': alignment, 'progress_loss': progress}


@pytest.fixture
def drawn(monkeypatch):
    """Return the figures that would be saved, by file name."""
    figures = {}
    monkeypatch.setattr(plotter, 'save_figure', lambda figure, path: figures.update({path.name: figure}))
    return figures


def lines_by_color(axes):
    """Return name of the hue -> line."""
    hues = {'blue': 'tab:blue', 'green': 'tab:green', 'red': 'tab:red'}
    return {next(name for name, shade in hues.items() if matplotlib.colors.same_color(line.get_color(), shade)): line
            for line in axes.lines}


def test_blue_is_green_plus_red_in_both_panels(drawn, tmp_path):
    plot_dual_losses(curves(), curves([2.0, 1.5, 1.2], [1.8, 1.2, 1.1], [9.0, 9.0, 9.0]), tmp_path)
    panels = drawn['dual_loss_comparison.png'].axes
    assert [panel.get_title() for panel in panels] == ['Training losses', 'Validation losses']
    for panel, total in zip(panels, (TOTAL, [2.0, 1.5, 1.2]), strict=True):
        lines = lines_by_color(panel)
        blue, green, red = (lines[name].get_ydata() for name in ('blue', 'green', 'red'))
        assert list(blue) == total
        assert [part + rest for part, rest in zip(green, red, strict=True)] == pytest.approx(blue)
        assert list(lines['blue'].get_xdata()) == [1, 2, 3]
        assert len(panel.get_legend().get_texts()) == 3


@pytest.mark.parametrize('losses', [curves(progress=[]), {'total_loss': TOTAL, 'alignment_loss': ALIGNMENT}])
def test_no_red_curve_without_progress(drawn, tmp_path, losses):
    plot_dual_losses(losses, losses, tmp_path)
    for panel in drawn['dual_loss_comparison.png'].axes:
        assert set(lines_by_color(panel)) == {'blue', 'green'}


def test_marked_epochs_are_lines_with_their_names(drawn, tmp_path):
    plot_dual_losses(curves(), curves(), tmp_path, marked={'best combined': 3, 'best alignment': 1})
    plot_dual_losses(curves(), EMPTY, tmp_path / 'same', marked={'best combined': 2, 'best alignment': 2})
    for panel in drawn['dual_loss_comparison.png'].axes[:1]:
        names = [text.get_text() for text in panel.get_legend().get_texts()]
        assert names[0] == 'best combined, best alignment (epoch 2)' and len(names) == 4
        assert list(panel.lines[0].get_xdata()) == [2, 2]


def test_single_epoch_is_marked(drawn, tmp_path):
    plot_dual_losses(curves([1.2], [1.0], [0.4]), curves([1.2], [1.0], [0.4]), tmp_path)
    assert all(line.get_marker() == 'o' for panel in drawn['dual_loss_comparison.png'].axes for line in panel.lines)


@pytest.mark.parametrize('val', [EMPTY, {}])
def test_validation_panel_without_data_shows_a_message(drawn, tmp_path, val):
    plot_dual_losses(curves(), val, tmp_path)
    training, validation = drawn['dual_loss_comparison.png'].axes
    assert [text.get_text() for text in validation.texts] == [plotter.NOTHING_TO_DRAW] and not training.texts


@pytest.mark.parametrize(('losses', 'titles'), [(curves(), ['total loss', 'alignment loss', 'progress loss']),
                                                (curves(progress=[]), ['total loss', 'alignment loss']),
                                                (EMPTY, ['total loss'])])
def test_each_epoch_loss_has_a_panel_with_raw_values(drawn, tmp_path, losses, titles):
    plotter.plot_epoch_losses(losses, 'Training', tmp_path / 'train_loss_epochlevel.png')
    panels = drawn['train_loss_epochlevel.png'].axes
    assert [panel.get_title() for panel in panels] == titles
    assert [list(panel.lines[0].get_ydata()) for panel in panels] == [
        losses[title.replace(' ', '_')] for title in titles]


def test_plot_is_saved(tmp_path):
    plot_dual_losses(curves(), EMPTY, str(tmp_path))
    height, width, _ = matplotlib.image.imread(tmp_path / 'dual_loss_comparison.png').shape
    assert (width, height) == (2100, 750)
    assert len(list(tmp_path.iterdir())) == 1
