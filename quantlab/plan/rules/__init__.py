"""One file a family of operators: what each of them wishes for the tensors around it."""
