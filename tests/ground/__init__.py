"""Tests of the ground floor: errors, real numbers, and what is asked of torch."""
