"""Self-contained HTML page on the evaluation of a run: tables, baselines, pictures, settings."""

import json
import platform
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from string import Template

import torch

from configs.generic_config import CONFIG
from configs.validation import flatten
from evaluation.columns import best_places, column_of
from evaluation.contrast import CONTRAST_TABLE
from evaluation.head_tables import HEAD_TABLES
from evaluation.html_parts import Cell, code, details, heading, paragraph, picture, section, table
from evaluation.intervals import INTERVALS_TABLE
from evaluation.progress_metrics import PROGRESS_TABLE
from evaluation.report_groups import chosen_part, groups_part, missing_part
from evaluation.report_tables import (
    baselines_table,
    columns_table,
    metrics_table,
    own_columns,
    short_name,
    title,
    with_summed_counts,
)
from evaluation.results import Evaluation
from utils.ckpt_save import to_plain
from utils.files import write_text
from utils.plotter import DUAL_LOSS_PICTURE
from utils.run_folder import RunFolder
from utils.tables import DIGITS, show_value

REPORT_NAME = 'report.html'
TEMPLATE = Path(__file__).with_name('report.html')
DETAILED = (INTERVALS_TABLE, CONTRAST_TABLE)  # tables shown only in their own section
SHOWN_LETTERS = 120  # of a setting in the table; its full value is shown below the table
SECTIONS = {'overview': 'Overview', 'progress': 'Progress head and baselines', 'lengths': 'Error by length of action',
            'head': 'Boundaries unknown, whole recordings, intervals, contrast',
            'groups': 'By group of test recordings', 'embeddings': 'Embeddings', 'losses': 'Losses',
            'tasks': 'Task by task', 'settings': 'Settings and command'}


def write_report(run: RunFolder, evaluations: Sequence[Evaluation], command: str) -> Path:
    """Write the report of a run next to the folders of its evaluated checkpoints.

    Args:
        run: folder of the run.
        evaluations: evaluations of at least one checkpoint of the run, made ``with_alignments``.
        command: command line of the evaluation.

    Returns:
        Path of the report, ``RUN/EVAL/report.html``.

    Raises:
        UserError: the file cannot be written.
    """
    # Both types fall back to the same checkpoint if a run has no best checkpoints.
    evaluations = list({evaluation.checkpoint: evaluation for evaluation in evaluations}.values())
    path = evaluations[0].folder.parent / REPORT_NAME
    page = build_report(run, evaluations, command)
    write_text(path, page)
    return path


def build_report(run: RunFolder, evaluations: Sequence[Evaluation], command: str) -> str:
    """Return the report as HTML; see :func:`write_report`."""
    parts = {
        'overview': _overview(evaluations),
        'progress': _progress(evaluations),
        'lengths': _lengths(evaluations),
        'head': _head_tables(evaluations),
        'groups': groups_part(evaluations),
        'embeddings': _embeddings(evaluations),
        'losses': _losses(run),
        'tasks': _tasks(evaluations),
        'settings': _settings(evaluations[0], command),
    }
    # A section without content is left out, together with its link.
    links = [f'<a href="#{name}">{escape(SECTIONS[name])}</a>' for name, content in parts.items() if content]
    sections = [section(name, SECTIONS[name], *content) for name, content in parts.items() if content]
    return Template(TEMPLATE.read_text(encoding='utf-8')).substitute(
        title=escape(f'Evaluation of {run.path.resolve().name}'), lead=_lead(evaluations),
        navigation='\n'.join(links), sections='\n'.join(sections))


def _lead(evaluations: Sequence[Evaluation]) -> str:
    """Return the introduction: what was evaluated, and when."""
    dataset, tasks = evaluations[0].config.DATASET_NAME, _tasks_of(evaluations)
    checkpoints = '; '.join(f'{short_name(evaluation)} (epoch {evaluation.epoch}, the encoder sees '
                            f'{evaluation.lookahead} frames ahead)' for evaluation in evaluations)
    return (paragraph(f'Dataset {dataset}, {len(tasks)} task{"s" if len(tasks) > 1 else ""}. '
                      f'Checkpoints: {checkpoints}.')
            + paragraph('All predictors are fitted to training recordings; all numbers are from test recordings. '
                        f'Written {datetime.now():%Y-%m-%d %H:%M}.'))


def _overview(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show the MEAN rows of the checkpoints side by side, a metric per row."""
    # The progress head comes first, because it matters most to the reader.
    names = sorted((name for name in evaluations[0].tables if name not in DETAILED),
                   key=lambda name: name != PROGRESS_TABLE)
    groups = []
    for name in names:
        means = [evaluation.tables[name][-1] for evaluation in evaluations]
        for column in own_columns(means[0]):
            meaning, values = column_of(name, column), [mean[column] for mean in means]
            # Compare values as shown, so that of two that look equal neither is marked as better.
            best = best_places([round(value, DIGITS) for value in values], meaning.better)
            cells = [Cell(show_value(value), 'best' if place in best else '') for place, value in enumerate(values)]
            groups.append((title(name, column), [[*cells, Cell(meaning.text, 'text wide')]]))
    columns = [Cell('mean over tasks'), *(Cell(short_name(evaluation)) for evaluation in evaluations),
               Cell('description', 'text')]
    texts = ['↑ marks metrics for which higher is better, ↓ metrics for which lower is better.']
    if len(evaluations) > 1:
        texts.append('The better checkpoint is shaded.')
    if PROGRESS_TABLE not in evaluations[0].tables:
        texts.append('This run has no progress head: only its embeddings are evaluated.')
    return [paragraph(' '.join(texts)), table(columns, groups)]


def _progress(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show the head's error next to the errors of the baselines, and list its other metrics."""
    if PROGRESS_TABLE not in evaluations[0].tables:
        return []
    tables = [evaluation.tables[PROGRESS_TABLE] for evaluation in evaluations]
    return [
        paragraph('Mean absolute error of the progress within actions; lower is better. The best value of a row is '
                  'shaded. The best baseline that, like the head, is not given the step is underlined. Skill is 1 - '
                  'error of the head / error of that baseline: 1 is exact, 0 is no better, and below 0 is worse.'),
        baselines_table('task', evaluations, [with_summed_counts(rows) for rows in tables]),
        heading('The head in detail'),
        paragraph('Error for short (up to 5 frames), medium, and long (more than 20 frames) actions, how consistently '
                  'progress rises, and the error at an action\'s first and last frame; - if there is no such action.'),
        metrics_table(evaluations, [PROGRESS_TABLE], skip=('skill',)),
    ]


def _lengths(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show the error by length of actions."""
    if PROGRESS_TABLE not in evaluations[0].tables:
        return []
    return [paragraph('Lower is better. Each bin of lengths is twice as wide as the previous bin. Dashed baselines are '
                      'given the step. The error is uncertain if a bin has few actions (n).'),
            *_pictures('mae_by_length.png', evaluations, 'error of head and baselines by length of the action')]


def _head_tables(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show the other outputs of the head next to baselines, and name the outputs that it does not offer."""
    parts = []
    for name in HEAD_TABLES:
        tables = [evaluation.tables.get(name) for evaluation in evaluations]
        if all(tables):
            columns = [column for column in tables[0][0] if column != 'task']
            parts += [heading(name), columns_table(evaluations, [(name, column) for column in columns]),
                      details('Description of the columns', table([Cell('column'), Cell('description', 'text')], [
                          (title(name, column), [[Cell(column_of(name, column).text, 'text wide')]])
                          for column in columns])), *missing_part(evaluations[0], name)]
        elif reason := evaluations[0].missing.get(name):
            parts += [heading(name), paragraph(f'There is no {name}.csv: the progress head of this run {reason}.')]
    return [*parts, *chosen_part(evaluations)]


def _embeddings(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show the metrics that do not require a progress head."""
    names = [name for name in evaluations[0].tables if name not in (PROGRESS_TABLE, *HEAD_TABLES)]
    return [paragraph('How well the embeddings encode, without the progress head, the step (accuracy, to be compared '
                      'with the accuracy of the majority label), the progress of the recording (r2, ogpe), and the '
                      'alignment of two recordings (Kendall\'s tau, enclosed area error).'),
            # Every checkpoint has the same recordings and sizes, so the same samples.
            *map(paragraph, evaluations[0].samples), metrics_table(evaluations, names)]


def _losses(run: RunFolder) -> list[str]:
    """Show the loss curves that training drew."""
    path = run.path / DUAL_LOSS_PICTURE
    if not path.is_file():
        return [paragraph(f'The run holds no {DUAL_LOSS_PICTURE}.')]
    return [paragraph('Blue = green + red in each panel. If the training loss keeps falling while the validation loss '
                      'rises, the model overfits to the training recordings. Gray lines mark the epochs of the two '
                      'best checkpoints, which have the lowest validation losses, or the lowest training losses if '
                      'there are no validation recordings.'),
            picture(path, 'Losses of training and validation over the epochs')]


def _tasks(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show the pictures and the errors by step of each task."""
    tasks = _tasks_of(evaluations)
    head = ('Progress: gray is true, red is predicted; good curves rise from near 0 to 1 with the gray curves. Errors '
            'by step: the worst step first, marked as above. ' if evaluations[0].steps else '')
    return [paragraph(f'{head}Alignment: pale is near in the embedding; blue dots are the true alignment, red dots the '
                      'nearest neighbors. Red dots on blue dots are aligned correctly.'),
            # Unfold the first task as an example.
            *(details(task, *_task(task, evaluations), is_open=not number) for number, task in enumerate(tasks))]


def _task(task: str, evaluations: Sequence[Evaluation]) -> list[str]:
    parts = []
    if all(task in evaluation.steps for evaluation in evaluations):
        parts += [heading('Predicted against true progress'),
                  *_pictures(f'progress_{task}.png', evaluations, 'progress within the actions of test recordings'),
                  heading('Error by step'), baselines_table('step', evaluations,
                                                             [evaluation.steps[task] for evaluation in evaluations])]
    elif evaluations[0].steps:
        parts.append(paragraph('No actions in its training or test recordings: the progress head is not evaluated.'))
    drawn = _pictures(f'alignment_{task}.png', evaluations, 'distances between the frames of pairs of test recordings')
    return [*parts, heading('Alignment of recording pairs'),
            *(drawn or [paragraph('There are no two test recordings to align.')])]


def _pictures(name: str, evaluations: Sequence[Evaluation], description: str) -> list[str]:
    """Return the picture of each checkpoint that has it."""
    return [picture(evaluation.folder / name, f'{short_name(evaluation)}: {description}')
            for evaluation in evaluations if (evaluation.folder / name).is_file()]


def _settings(evaluation: Evaluation, command: str) -> list[str]:
    """Show the command, the settings that differ from the defaults, and the whole configuration."""
    config, defaults = to_plain(evaluation.config), flatten(to_plain(CONFIG))
    groups = [(key, [[Cell(_setting(value), 'text'), Cell(_setting(defaults.get(key)), 'text')]])
              for key, value in flatten(config).items() if key not in defaults or value != defaults[key]]
    return [paragraph(f'This report was made by the following command, with Python {platform.python_version()} and '
                      f'torch {torch.__version__}.'), code(command),
            paragraph('Settings of the run that differ from the defaults:'),
            table([Cell('setting'), Cell('value', 'text'), Cell('default', 'text')], groups),
            details('All settings', code(json.dumps(config, indent=2, ensure_ascii=False)))]


def _setting(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_LETTERS else f'{text[:SHOWN_LETTERS]} …'


def _tasks_of(evaluations: Sequence[Evaluation]) -> list[str]:
    # Every run has this table: ogpe needs no progress head.
    return [row['task'] for row in evaluations[0].tables['ogpe'][:-1]]
