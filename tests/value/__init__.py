"""Tests of one attached value: it is read, assigned, copied, compiled and moved."""
