"""Finding wrong labels: checked probabilities, out-of-fold probabilities, confident learning."""
