"""One file a family of operators: what their integer forms wish and need, where that is not as in the QDQ format."""
