"""The catalogue: what is known of each SNN library, as data. It imports the maps, no library."""
