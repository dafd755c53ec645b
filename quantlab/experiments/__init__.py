"""Measurements of whole models: demonstrate, benchmark, ablate."""
