"""Whole tasks, put together from the rooms: quantize, compare, explain, demonstrate."""
