"""Whole tasks, put together from the rooms: preprocess, calibrate, quantize, explain."""
