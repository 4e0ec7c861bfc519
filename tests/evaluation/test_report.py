"""The page about a run: well formed, nothing from outside, names escaped, best values marked, also without a head."""

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from easydict import EasyDict

import evaluation.alignment_metrics  # noqa: F401 - describes the columns of its tables
from configs.generic_config import CONFIG
from evaluation.report import SECTIONS, write_report
from evaluation.results import Evaluation
from utils.ckpt_save import to_plain
from utils.figures import new_figure, save_figure
from utils.plotter import DUAL_LOSS_PICTURE
from utils.run_folder import RunFolder
from utils.tables import with_mean_row

VOID = {'meta', 'link', 'img', 'wbr'}
HOSTILE = '<b onload="x">&$title'
COMMAND = "python eval.py -f '<run>' --report"
BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)


class Page(HTMLParser):
    """A page read strictly: its tags close in order; what it shows and what it points at is kept."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.links, self.texts, self.cells = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append((tag, dict(attributes)))
        self.links += [value for name, value in attributes if name in ('src', 'href', 'srcset', 'action', 'data')]
        if tag == 'td':
            self.cells.append([dict(attributes).get('class', ''), ''])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if 'td' in self.open:
            self.cells[-1][1] += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def progress_row(**values):
    return {'mae': 0.1, 'baseline_constant': 0.25, 'baseline_average_index': 0.2,
            'baseline_average_index_per_step': 0.05, 'baseline_paced_per_step': 0.15,
            'baseline_cumulative_distance': 0.3, 'baseline_survival': 0.2, 'baseline_survival_per_step': 0.1,
            'skill': 0.5, **values}


@pytest.fixture
def evaluation(tmp_path):
    """Make an evaluation of two checkpoints with pictures of an inch."""
    def make(checkpoint, tasks, *, head=True, **values):
        folder = tmp_path / 'run' / 'EVAL' / checkpoint
        folder.mkdir(parents=True)
        names = [f'alignment_{task}.png' for task in tasks]
        tables = {'kendalls_tau': [{'task': task, 'kendalls_tau': 0.25} for task in tasks],
                  'ogpe': [{'task': task, 'ogpe': 0.125, 'CoV': math.nan} for task in tasks]}
        steps = {}
        if head:
            names += ['mae_by_length.png', *(f'progress_{task}.png' for task in tasks)]
            tables['action_progress'] = [{'task': task, 'num_recordings': 2, 'num_actions': 7, 'mae_short': math.nan,
                                          **progress_row(**values)} for task in tasks]
            tables['contrast'] = [{'task': task, 'num_actions': 7, 'final': 0.875} for task in tasks]
            steps = {task: [{'step': HOSTILE, 'num_actions': 7, **progress_row(**values)}] for task in tasks}
        for name in names:
            save_figure(new_figure(1, 1), folder / name)
        config = EasyDict({**to_plain(CONFIG), 'DATASET_NAME': HOSTILE, 'LEARNING_RATE': 0.125})
        return Evaluation(checkpoint, 3, 0, folder, {name: with_mean_row(rows) for name, rows in tables.items()}, steps,
                          config, {'overall': 'does not look ahead'} if head else {}, groups={
                              'ogpe': {task: {HOSTILE: {'ogpe': 0.125}, 'bob': {'ogpe': 0.25}} for task in tasks}},
                          chosen={HOSTILE: 0.375} if head else {})

    return make


def write(tmp_path, *evaluations):
    path = write_report(RunFolder(tmp_path / 'run'), evaluations, COMMAND)
    assert path == tmp_path / 'run' / 'EVAL' / 'report.html'
    html = path.read_text(encoding='utf-8')
    return html, Page(html)


def test_a_page_of_two_checkpoints_is_whole_and_self_contained(tmp_path, evaluation):
    tasks = ['make_tea', HOSTILE]
    evaluations = [evaluation('best_model_combined', tasks), evaluation('best_model_alignment', tasks, mae=0.04)]
    save_figure(new_figure(1, 1), tmp_path / 'run' / DUAL_LOSS_PICTURE)
    html, page = write(tmp_path, *evaluations)
    assert all(link.startswith(('data:', '#')) for link in page.links)
    assert not re.search(r'url\(|@import|<script|https?:', html)
    assert page.count('img') == 11  # per checkpoint: by length, progress and alignment of two tasks; the losses
    assert all(attributes['src'].startswith('data:image/png;base64,') and attributes['alt']
               for tag, attributes in page.tags if tag == 'img')
    assert {attributes['id'] for tag, attributes in page.tags if tag == 'section'} == set(SECTIONS)
    assert {f'#{name}' for name in SECTIONS} <= set(page.links)
    assert page.count('details') == 4 and page.count('b') == 0  # columns of a table, two tasks, all settings
    shown = ' '.join(page.texts)
    assert 'There is no overall.csv: the progress head of this run does not look ahead.' in shown
    assert page.cells.count(['', '0.8750']) == 6  # two tasks and their mean, of both checkpoints
    assert page.cells.count(['', '14']) == 4  # actions of both tasks: a sum, not a mean
    assert HOSTILE in shown and COMMAND in shown and 'combined (epoch 3' in shown
    assert json.dumps(to_plain(evaluations[0].config), indent=2, ensure_ascii=False) in page.texts
    assert ['text', '0.125'] in page.cells and ['text', '0.0001'] in page.cells  # the learning rate and its default


def test_the_best_of_a_row_and_the_baseline_of_the_skill_are_marked(tmp_path, evaluation):
    _, page = write(tmp_path, evaluation('best_model_combined', ['tea']),
                    evaluation('best_model_alignment', ['tea'], mae=0.04, skill=0.8))
    row, other = (page.cells[page.cells.index(['text', name]) + 1:][:10] for name in ('combined', 'alignment'))
    assert row == [['', '7'], ['', '0.1000'], ['', '0.2500'], ['rival', '0.2000'], ['best', '0.0500'], ['', '0.1500'],
                   ['', '0.3000'], ['rival', '0.2000'], ['', '0.1000'], ['', '0.5000']]
    assert other[1] == ['best', '0.0400'] and other[4] == ['', '0.0500']
    # The overview: less error and more skill are better; what agrees or is not there is not marked.
    cells = page.cells[:3 * 6]
    overview = {cells[place + 2][1][:9]: cells[place:place + 2] for place in range(0, len(cells), 3)}
    assert [['', '0.1000'], ['best', '0.0400']] in overview.values()
    assert [['', '0.5000'], ['best', '0.8000']] in overview.values()
    assert [['', '-'], ['', '-']] in overview.values() and [['', '0.2500'], ['', '0.2500']] in overview.values()


def test_a_run_without_a_head_or_loss_curves(tmp_path, evaluation):
    html, page = write(tmp_path, evaluation('best_model_alignment', ['tea'], head=False))
    sections = {attributes['id'] for tag, attributes in page.tags if tag == 'section'}
    assert sections == set(SECTIONS) - {'progress', 'lengths', 'head'} and page.count('img') == 1
    assert 'no progress head' in html and 'holds no dual_loss_comparison.png' in html and 'checkpoint</th>' not in html


def test_of_many_tasks_one_is_unfolded(tmp_path, evaluation):
    tasks = [f'task {number}' for number in range(8)]
    evaluated = evaluation('best_model_combined', tasks)
    (evaluated.folder / 'alignment_task 7.png').unlink()  # as where a task has a single test recording
    del evaluated.steps['task 6']  # as where it has no actions
    html, page = write(tmp_path, evaluated)
    assert ['open' in attributes for tag, attributes in page.tags if tag == 'details'] == [False, True] + 8 * [False]
    assert html.count('no two test recordings to align') == 1 and html.count('No actions in its training') == 1


def test_one_checkpoint_that_stands_for_both_types_is_shown_once(tmp_path, evaluation):
    evaluated = evaluation('epoch-3', ['tea'])
    html, _ = write(tmp_path, evaluated, evaluated)
    assert 'checkpoint</th>' not in html


@pytest.mark.skipif(BROWSER is None, reason='no browser is installed')
def test_a_browser_shows_every_picture_without_complaint(tmp_path, evaluation):
    html, _ = write(tmp_path, evaluation('best_model_combined', ['tea', HOSTILE]))
    # The page itself has no script; this one reports what the browser made of the pictures.
    count = 'document.title = [...document.images].filter(image => image.naturalWidth === 150).length + " shown"'
    (tmp_path / 'counted.html').write_text(f'{html}<script>onload = () => {{ {count} }}</script>', encoding='utf-8')
    done = subprocess.run([BROWSER, '--headless', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr',
                           f'--user-data-dir={tmp_path / "profile"}', '--dump-dom',
                           (tmp_path / 'counted.html').as_uri()], capture_output=True, text=True, timeout=600)
    assert '<title>5 shown</title>' in done.stdout and 'CONSOLE' not in done.stderr
