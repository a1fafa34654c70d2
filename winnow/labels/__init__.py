"""What we believe about every image: label tables, per-sample memory, the guarded truth."""
