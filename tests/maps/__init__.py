"""Tests of the maps from a raw tensor to a valid value."""
