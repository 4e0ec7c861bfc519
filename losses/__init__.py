"""Alignment losses over the ordered pairs of a batch of embedded recordings."""

from losses.gtcc import GTCC_loss
from losses.tcc import TCC_loss

__all__ = ['GTCC_loss', 'TCC_loss']
