"""What training neuron parameters costs: scripts that print tables. Nothing here is a test."""
