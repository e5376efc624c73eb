"""Attaching: names -> places -> requests -> trainable values -> changed module, and back.

Imports what watches training, the values, the catalogue, the maps and the ground.
"""
