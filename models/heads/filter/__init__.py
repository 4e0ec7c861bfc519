"""The filter with given (``segmented``) or unknown boundaries (``unsegmented``), its components, and its fitting."""
