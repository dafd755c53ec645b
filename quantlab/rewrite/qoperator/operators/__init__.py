"""One file a family of operators: how their integer forms are written."""
