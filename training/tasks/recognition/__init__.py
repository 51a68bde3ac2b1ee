"""Telling people apart: faces in, embeddings out."""
