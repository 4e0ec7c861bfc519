"""The filter, boundaries given (``segmented``) or unknown (``unsegmented``), its parts, and how it is fitted."""
