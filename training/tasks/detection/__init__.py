"""Finding faces: scenes in, scores and points out."""
