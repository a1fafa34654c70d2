"""What this machine and installation offer, and whether they work."""
