"""Tests of whole sequences as one autograd function."""
