"""What is particular to one execution provider."""
