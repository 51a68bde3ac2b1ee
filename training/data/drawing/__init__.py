"""Procedurally rendered faces: who a person is, how a photo of them is taken, and the painting of both."""
