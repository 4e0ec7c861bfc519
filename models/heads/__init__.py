"""Progress heads by the name that PROGRESS_LOSS.head has for them; ``base.py`` is their contract."""

from models.heads.recurrent import ProgressHead
from models.heads.steps import StepProgressHead

HEADS = {'gru': ProgressHead, 'steps': StepProgressHead}
