"""The maps from a raw tensor to a valid value. They know tensors only; they import the ground."""
