"""Tests of what looks at a module: candidates, values, tables, groups and pictures."""
