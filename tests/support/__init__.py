"""What the tests share: modules, networks, library cases, workers of other processes."""
