"""Sources, safe decoding, in-memory collections, batches and views."""
