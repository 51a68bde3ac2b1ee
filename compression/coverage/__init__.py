"""How much of `keras.applications` compression covers."""
