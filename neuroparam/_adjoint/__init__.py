"""The adjoint: a whole sequence of a neuron layer as one autograd function.

Imports what changes the class of an attached module, the catalogue and the ground.
"""
