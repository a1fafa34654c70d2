"""Pages for people: one HTML file each, without scripts and without a network."""
