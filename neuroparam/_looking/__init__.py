"""Looking at a module: what could be trained, what is, its values, tables, pictures, groups.

Imports every other floor.
"""
