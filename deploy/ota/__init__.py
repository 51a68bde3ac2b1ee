"""Signed model releases over the air: here lies what publisher and device share, in the folders what each has alone."""
