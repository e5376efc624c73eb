"""One attached value: its raw Parameter, its class, its evaluation once per forward, its record.

Imports the catalogue, the maps and the ground.
"""
