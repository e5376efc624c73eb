"""What watches training: forwards, gradients, optimizer steps, checkpoints and processes.

Imports the values, the catalogue, the maps and the ground.
"""
