"""What label noise does to a collection, one consequence a file: numbers with intervals, no sentences."""
