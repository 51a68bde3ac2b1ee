"""Scenes with faces whose points are known: composed of photographs and crops, without end."""
