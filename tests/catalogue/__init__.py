"""Tests of the words in which the catalogue describes an SNN library."""
