"""Encoders by the name that BASEARCH.ARCHITECTURE has for them; ``base.py`` is their contract."""

from models.encoders.base import Encoder
from models.encoders.identity import IdentityEncoder
from models.encoders.naive import NaiveEncoder
from models.encoders.resnet import Resnet50Encoder
from models.encoders.stacking import StackingEncoder

__all__ = ['ENCODERS', 'Encoder', 'IdentityEncoder', 'NaiveEncoder', 'Resnet50Encoder', 'StackingEncoder']

ENCODERS = {
    'temporal_stacking': StackingEncoder,
    'naive': NaiveEncoder,
    'resnet50': Resnet50Encoder,
    'identity': IdentityEncoder,
}
