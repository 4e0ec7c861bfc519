"""Encoders, one file each; ``base.py`` holds the base class, and ``configs/choices.py`` lists them by name."""

from models.encoders.base import Encoder
from models.encoders.identity import IdentityEncoder
from models.encoders.naive import NaiveEncoder
from models.encoders.recurrent import RecurrentEncoder
from models.encoders.resnet import Resnet50Encoder
from models.encoders.short_memory import ShortMemoryEncoder
from models.encoders.stacking import StackingEncoder

__all__ = ['Encoder', 'IdentityEncoder', 'NaiveEncoder', 'RecurrentEncoder', 'Resnet50Encoder', 'ShortMemoryEncoder',
           'StackingEncoder']
