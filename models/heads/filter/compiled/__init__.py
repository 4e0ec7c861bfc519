"""Steps of the filter with unknown boundaries in compiled code."""
