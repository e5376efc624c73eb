"""Tests of what watches training: forwards, gradients, steps, checkpoints, processes."""
