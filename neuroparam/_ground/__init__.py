"""The ground floor: errors, numbers, and what is asked of torch's inner state. Imports torch."""
