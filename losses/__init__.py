"""Alignment losses over the ordered pairs of a batch of embedded recordings."""

from losses.gtcc import GTCC_loss
from losses.lav import LAV_loss
from losses.tcc import TCC_loss
from losses.vava import VAVA_loss

__all__ = ['GTCC_loss', 'LAV_loss', 'TCC_loss', 'VAVA_loss']
