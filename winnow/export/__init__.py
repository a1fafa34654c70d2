"""The cleaned collection, for people and for other tools."""
